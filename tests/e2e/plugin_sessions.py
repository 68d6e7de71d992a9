#!/usr/bin/env python3
"""Many sessions with four plugins each, one of which burns its whole limit in every call: nobody fails, the others go on, memory and
instances keep to their limits, also with clients that stop after RCPT.

By hand with the full numbers: tests/bench/plugins-sessions."""
import asyncio
import json
import os
import random
import statistics
import time
import unittest

from harness import cases, client, components, messages, system, waxwing

SESSIONS = int(os.environ.get("WAXWING_SESSIONS", "100"))
MESSAGES = int(os.environ.get("WAXWING_MESSAGES", "3"))
STOPPED = int(os.environ.get("WAXWING_STOPPED", "300"))
# Seconds between messages of a session that does not hurry, on average.
REST = float(os.environ.get("WAXWING_REST", "1"))
# Clients come from so many addresses of 127.0.0.0/8: fewer sessions from each than its share of instances.
SESSIONS_PER_ADDRESS = 20
INSTANCES, INSTANCES_PER_CLIENT = 200, 50
QUIET = ["first", "second", "third"]
BURNER = "burner"
RECIPIENT = "a@far.test"


def address(number):
    """A loopback address."""
    return f"127.0.{1 + number // 200}.{1 + number % 200}"


class Session:
    """One SMTP connection without a thread."""

    def __init__(self, port, source):
        self.port, self.source = port, source

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(self.source, 0))
        await self.expect(220)
        return self

    async def __aexit__(self, *_):
        self.writer.close()

    async def expect(self, code):
        """Reads a reply, which must have this code."""
        line = b"   -"
        while line[3:4] == b"-":
            line = await self.reader.readline()
        if not line.startswith(str(code).encode()):
            raise AssertionError(f"expected {code}, got {line!r}")

    async def command(self, line, code=250):
        """Sends a command; its reply must have this code."""
        self.writer.write(line.encode() + b"\r\n")
        await self.expect(code)

    async def envelope(self, recipient=RECIPIENT):
        """HELO once before; MAIL and RCPT."""
        await self.command("MAIL FROM:<ann@example.test>")
        await self.command(f"RCPT TO:<{recipient}>")

    async def deliver(self, message):
        """A whole transaction; seconds until its last reply."""
        began = time.monotonic()
        await self.envelope()
        await self.command("DATA", 354)
        self.writer.write(message + b".\r\n")
        await self.expect(250)
        return time.monotonic() - began

    async def attempt(self, message):
        """The same, or none where some reply is 451: no instance is free for a plugin, and the client shall come again."""
        try:
            return await self.deliver(message)
        except AssertionError as error:
            if "451" not in str(error):
                raise
            await self.command("RSET")
            return None


async def sender(port, number, start):
    """One session with its messages; the seconds of each."""
    async with Session(port, address(number // SESSIONS_PER_ADDRESS)) as session:
        await session.command("EHLO client.example.test")
        await start.wait()
        return [await session.deliver(messages.plain(f"s{number}")) for _ in range(MESSAGES)]


async def all_senders(port):
    """All sessions at once; seconds of all messages."""
    start = asyncio.Barrier(SESSIONS)
    tasks = [asyncio.create_task(sender(port, number, start)) for number in range(SESSIONS)]
    done = await asyncio.gather(*tasks, return_exceptions=True)
    errors = [one for one in done if isinstance(one, BaseException)]
    if errors:
        raise AssertionError(f"{len(errors)} of {SESSIONS} sessions failed, the first: {errors[0]!r}")
    return [seconds for one in done for seconds in one]


async def quiet_senders(port, numbers):
    """Sessions that send now and then; the seconds of each message, none for one that was refused with 451."""
    async def one(number):
        dice = random.Random(number)
        # Spread over time: many simultaneous connections would wait for instances of on-connect, which is unrelated to the looping plugin.
        await asyncio.sleep(dice.uniform(0, REST))
        seconds = []
        while True:
            try:
                async with Session(port, address(number // SESSIONS_PER_ADDRESS)) as session:
                    await session.command("EHLO client.example.test")
                    for _ in range(MESSAGES):
                        await asyncio.sleep(dice.uniform(0, 2 * REST))
                        seconds.append(await session.attempt(messages.plain(f"q{number}")))
                    return seconds
            except AssertionError as error:
                if "451" not in str(error) or len(seconds) > MESSAGES:
                    raise
                seconds.append(None)
                await asyncio.sleep(1)

    return [seconds for some in await asyncio.gather(*(one(number) for number in numbers)) for seconds in some]


async def looping_senders(port, numbers, ready, stop):
    """Sessions that send as often as the quiet ones until they are told to stop."""
    async def one(number):
        dice = random.Random(number)
        await asyncio.sleep(dice.uniform(0, REST))
        while True:
            try:
                async with Session(port, address(number // SESSIONS_PER_ADDRESS)) as session:
                    await session.command("EHLO client.example.test")
                    counts["open"] += 1
                    if counts["open"] == len(numbers):
                        ready.set()
                    while not stop.is_set():
                        await asyncio.sleep(dice.uniform(0, 2 * REST))
                        seconds.append(await session.attempt(messages.plain(f"l{number}")))
                    return
            except AssertionError as error:
                if "451" not in str(error):
                    raise
                counts["greeted with 451"] += 1
                await asyncio.sleep(1)

    seconds, counts = [], {"open": 0, "greeted with 451": 0}
    await asyncio.gather(*(one(number) for number in numbers))
    return seconds, counts["greeted with 451"]


def figures(all_seconds):
    """Median and p99 of those that were accepted, and how many were not."""
    seconds = sorted(one for one in all_seconds if one is not None)
    return {"messages": len(all_seconds), "refused_451": all_seconds.count(None),
            "p50_ms": round(statistics.median(seconds) * 1000), "p99_ms": round(seconds[len(seconds) * 99 // 100] * 1000)}


class Many(unittest.TestCase):
    """One server with four plugins beside the standard ones."""

    def server(self, name, wait=None, looping_listener=None):
        server = waxwing.Waxwing(name, default_transport="discard", mynetworks=["127.0.0.0/8"])
        self.addCleanup(server.close)
        file = components.build(server.folder)
        limits = {"time": "100ms", "cpu": "50ms", "memory": "4MiB", "instances": INSTANCES,
                  "instances_per_client": INSTANCES_PER_CLIENT, **({"instance_wait": wait} if wait else {})}
        plugin = {"file": file, "limits": limits, "breaker_faults": 0, "on_fault": "defer",
                  "grants": {"message": "full", "edit": True, "lookup": ["alias_maps"]}, "config": {"act": "", "at": "on-message"}}
        # A guest that computes leaves the sessions their turn, but on a busy machine a quiet one may be late through no fault of its own.
        patient = {**plugin, "limits": {**limits, "time": "20s", "cpu": "5s"}}
        burner = {**plugin, "on_fault": "skip", "config": {"act": "loop", "at": "on-message"}}
        if looping_listener:
            burner["when"] = {"listener": ["looping"]}
            server.settings["listen"].append({"name": "looping", "address": f"127.0.0.1:{looping_listener}", "kind": "smtp"})
        server.settings.update({
            "smtpd_client_connection_count_limit": 0, "smtpd_sessions_max": SESSIONS + STOPPED + 50,
            "plugins": {**{name: patient for name in QUIET}, BURNER: burner},
        })
        return server.start()

    def plugins(self, server):
        """The plugins of this test in the list, by name."""
        return {plugin["name"]: plugin for plugin in server.ask("plugin", "list") if plugin["name"] in (*QUIET, BURNER)}

    def test_1_sessions_with_four_plugins_each(self):
        server = self.server("sessions", "120s")
        before = system.pss_megabytes(server.process.pid)
        began = time.monotonic()
        try:
            seconds = sorted(asyncio.run(all_senders(server.port)))
        except AssertionError as error:
            faults = [entry["fault"] for record in server.ask("trace", "--last", "100") for entry in record["entries"] if entry["fault"]]
            words = sorted({fault for fault in faults if "pool-exhausted" in fault})
            raise AssertionError(f"{error}; faults: {words}; {self.plugins(server)}") from None
        took = time.monotonic() - began
        after = system.pss_megabytes(server.process.pid)
        self.assertEqual(len(seconds), SESSIONS * MESSAGES)
        plugins = self.plugins(server)
        for name, plugin in plugins.items():
            hook, = [hook for hook in plugin["hooks"] if hook["hook"] == "on-message"]
            self.assertEqual(hook["calls"], SESSIONS * MESSAGES, f"{name} was passed over")
            self.assertEqual(hook["faults"], hook["calls"] if name == BURNER else 0, name)
            self.assertLessEqual(plugin["instances"], INSTANCES)
        bound = 4 * INSTANCES * 4 + 16
        self.assertLess(after - before, bound, "more memory than the instances may have")
        figures = {"sessions": SESSIONS, "messages": len(seconds), "failed": 0, "seconds": round(took, 1),
                   "p50_ms": round(statistics.median(seconds) * 1000), "p99_ms": round(seconds[len(seconds) * 99 // 100] * 1000),
                   "pss_before_mb": round(before), "pss_after_mb": round(after)}
        print("      " + json.dumps(figures), flush=True)

    def test_2_mail_beside_a_looping_plugin(self):
        """Those whose mail does not go to the looping plugin do not wait for those whose mail does, with the limits as they come."""
        port = system.free_port()
        server = self.server("fair", looping_listener=port)
        alone, beside, (looping, greetings) = asyncio.run(self.beside(server.port, port))
        print("      " + json.dumps({"alone": figures(alone), "beside": figures(beside),
                                     "looping": {**figures(looping), "greeted_451": greetings}}), flush=True)
        self.assertEqual((alone.count(None), beside.count(None)), (0, 0), "mail was refused that the looping plugin does not see")
        plugins = self.plugins(server)
        for name in QUIET:
            self.assertEqual([hook["faults"] for hook in plugins[name]["hooks"] if hook["faults"]], [], name)

    async def beside(self, quiet_port, looping_port):
        """Half of the sessions alone, and beside as many whose mail loops."""
        quiet, loud = range(SESSIONS // 2), range(SESSIONS // 2, SESSIONS)
        alone = await quiet_senders(quiet_port, quiet)
        ready, stop = asyncio.Event(), asyncio.Event()
        looping = asyncio.create_task(looping_senders(looping_port, loud, ready, stop))
        await asyncio.wait({looping, asyncio.ensure_future(ready.wait())}, return_when=asyncio.FIRST_COMPLETED)
        beside = await quiet_senders(quiet_port, quiet)
        stop.set()
        return alone, beside, await looping

    def test_3_clients_that_stop_after_rcpt(self):
        server = self.server("stopped", "200ms")
        held = asyncio.run(self.stopped(server))
        print(f"      {STOPPED} clients stop after RCPT, {held['accepted']} have their instances, the others got 451: {held['instances']}", flush=True)

    async def stopped(self, server):
        """All from one address; then one client of another address must be served."""
        sessions, refused = [], 0
        for first in range(0, STOPPED, 100):
            batch = [Session(server.port, "127.0.0.9") for _ in range(min(100, STOPPED - first))]
            done = await asyncio.gather(*(self.stop_after_rcpt(session) for session in batch))
            refused += done.count(False)
            sessions += batch
        plugins = await asyncio.to_thread(self.plugins, server)
        instances = {name: plugin["instances"] for name, plugin in plugins.items()}
        for name, count in instances.items():
            self.assertLessEqual(count, INSTANCES_PER_CLIENT, name)
        self.assertEqual(STOPPED - refused, min(STOPPED, INSTANCES_PER_CLIENT), "as many as the share of one client")
        await asyncio.to_thread(self.other_client, server)
        for session in sessions:
            session.writer.close()
        await asyncio.to_thread(system.wait_for, "the instances to go", lambda: self.instances(server) == 0)
        return {"accepted": STOPPED - refused, "instances": instances}

    def instances(self, server):
        """Instances of all four plugins."""
        return sum(plugin["instances"] for plugin in self.plugins(server).values())

    async def stop_after_rcpt(self, session):
        """Whether it came as far as that; hooks before MAIL need an instance for a moment too."""
        try:
            await session.__aenter__()
            await session.command("EHLO client.example.test")
            await session.envelope()
            return True
        except AssertionError as error:
            if "451" not in str(error):
                raise
            return False

    def other_client(self, server):
        """Is served while the share of the first client is used up."""
        with client.Client(server.port, source="127.0.0.10") as connection:
            connection.deliver(messages.plain("other"), "ann@example.test", RECIPIENT)


if __name__ == "__main__":
    cases.main()
