#!/usr/bin/env python3
"""Debian's rspamd and opendkim, bound like plugins: they are told what they want to know, what they say is done, and what fails has the
consequence that the configuration names."""
import os
import re
import statistics
import time
import unittest

from harness import cases, client, maildir, messages, milters, system, waxwing

# Any filter must know this line as spam (rspamd has it built in).
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
# Delayed acknowledgements of TCP would cost 40 ms for each question; a session has about ten.
MILLISECONDS_MAX = 40


class Rspamd(unittest.TestCase):
    """It scans, adds fields, and refuses."""

    @classmethod
    def setUpClass(cls):
        why = milters.missing("rspamd")
        if why:
            raise unittest.SkipTest(why)
        cls.server = waxwing.Waxwing("rspamd")
        cls.milter = milters.rspamd(cls.server.folder)
        cls.server.settings["plugins"] = {"rspamd": {"milter": cls.milter.place, "order": 5}}
        cls.milter.start()
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        cls.milter.kill()
        cls.server.close()

    def send(self, message):
        with client.Client(self.server.port) as connection:
            connection.envelope("ann@example.test", f"demo@{self.server.domain}")
            return connection.data(message)

    def test_1_ham_gets_its_fields(self):
        sent = messages.plain("ham")
        code, text = self.send(sent)
        self.assertEqual(code, 250, text)
        arrived = maildir.wait_for_one(self.server.maildir)
        fields, _ = messages.split(arrived)
        names = [field.split(b":")[0].lower() for field in fields]
        self.assertIn(b"x-spam-status", names)
        told = [field for field in fields if field.lower().startswith(b"x-rspamd-queue-id:")]
        self.assertEqual(told[0].split(b":")[1].strip().decode(), messages.queue_id(arrived), "it was told the queue id")
        self.assertIsNone(messages.difference(sent, arrived, messages.ADDED | {b"x-spam-status", b"x-rspamd-queue-id"}))

    def test_2_spam_is_refused_in_its_words(self):
        code, text = self.send(messages.head("gtube") + b"\r\n" + GTUBE + b"\r\n")
        self.assertEqual(code, 554, text)
        self.assertIn("Gtube pattern", text)

    def test_3_it_sees_the_session(self):
        for words in ("rcpts: <demo@rspamd.example.test>", "from: <ann@example.test>"):
            system.wait_for_lines(os.path.join(self.server.folder, "rspamd.log"), words)

    def test_4_many_messages_of_a_session_take_no_delay(self):
        times = []
        with client.Client(self.server.port) as connection:
            for number in range(20):
                began = time.monotonic()
                connection.deliver(messages.plain(f"many{number}"), "ann@example.test", f"demo@{self.server.domain}")
                times.append((time.monotonic() - began) * 1000)
        print(f"      a message takes {statistics.median(times):.1f} ms", flush=True)
        self.assertLess(statistics.median(times), MILLISECONDS_MAX)

    def test_5_a_look_at_it_says_what_it_wants(self):
        found, = self.server.ask("plugin", "check", f"milter:{self.milter.place}")
        self.assertEqual((found["fits"], found["protocol"]), (True, 6))
        self.assertIn("add header fields", found["changes"])
        self.assertIn("no reply to header", found["steps"])

    def test_6_the_list_of_plugins_shows_it(self):
        listed, = [plugin for plugin in self.server.ask("plugin", "list") if plugin["name"] == "rspamd"]
        hooks = {hook["hook"]: (hook["calls"], hook["faults"]) for hook in listed["hooks"]}
        self.assertEqual(listed["version"], "v1:milter")
        self.assertEqual(hooks["on-message"], (22, 0))
        self.assertEqual(hooks["on-connect"][1], 0)


class OpenDkim(unittest.TestCase):
    """One signs, one verifies what the other signed, over a local socket each."""

    def test_what_is_signed_verifies(self):
        why = milters.missing("opendkim", "opendkim-genkey")
        if why:
            self.skipTest(why)
        signer, verifier = waxwing.Waxwing("signer"), waxwing.Waxwing("verifier")
        folder = system.work_folder("dkim")
        started = []
        self.addCleanup(system.remove_folder, folder)
        self.addCleanup(signer.close)
        self.addCleanup(verifier.close)
        self.addCleanup(lambda: [milter.kill() for milter in started])
        milters.opendkim_key(folder, "example.test")
        for server, mode in ((signer, "s"), (verifier, "v")):
            started.append(milters.opendkim(folder, "example.test", mode).start())
            server.settings["plugins"] = {"dkim": {"milter": started[-1].place, "order": 50}}
            server.start()
        for name in ("plain", "folded_header", "dots", "trailing_space"):
            with self.subTest(message=name):
                maildir.clear(signer.maildir)
                maildir.clear(verifier.maildir)
                self.deliver(signer, messages.corpus()[name])
                signed = maildir.wait_for_one(signer.maildir)
                names = [field.split(b":")[0].lower() for field in messages.split(signed)[0]]
                self.assertIn(b"dkim-signature", names)
                self.assertLess(names.index(b"dkim-signature"), names.index(b"from"), "above what it signs")
                self.deliver(verifier, signed.replace(b"\n", b"\r\n"))
                self.assertEqual(self.result(verifier), b"pass")
                maildir.clear(verifier.maildir)
                self.deliver(verifier, signed.replace(b"Subject: ", b"Subject: not ").replace(b"\n", b"\r\n"))
                self.assertEqual(self.result(verifier), b"fail")

    @staticmethod
    def deliver(server, message):
        with client.Client(server.port) as connection:
            connection.deliver(message, "ann@example.test", f"demo@{server.domain}")

    def result(self, server):
        """What the verifier wrote into the only message."""
        arrived = maildir.wait_for_one(server.maildir)
        found = re.search(rb"(?mi)^Authentication-Results: verifier\.test;\s+dkim=(\w+)", arrived)
        self.assertTrue(found, arrived[:1500])
        return found[1]


class Killed(unittest.TestCase):
    """A milter that is gone is a fault, whose consequence is the operator's word; when it is back, all is well."""

    def test_each_consequence(self):
        why = milters.missing("rspamd")
        if why:
            self.skipTest(why)
        server = waxwing.Waxwing("killed")
        self.addCleanup(server.close)
        milter = milters.rspamd(server.folder)
        self.addCleanup(milter.kill)
        ports = {on_fault: system.free_port() for on_fault in ("defer", "reject", "skip", "hold")}
        server.settings.update({
            "listen": [*server.settings["listen"],
                       *({"name": name, "address": f"127.0.0.1:{port}", "kind": "smtp"} for name, port in ports.items())],
            "plugins": {name: {"milter": milter.place, "on_fault": name, "when": {"listener": [name]}, "breaker_faults": 0}
                        for name in ports},
        })
        milter.start()
        server.start()
        for port in ports.values():
            system.wait_for_port(port, server.process)
        open_sessions = {name: client.Client(port) for name, port in ports.items()}
        for session in open_sessions.values():
            self.addCleanup(session.close)
            session.deliver(messages.plain("before"), "ann@example.test", f"demo@{server.domain}")
        milter.kill()
        system.wait_for("the milter to be gone", lambda: not milter.connects())
        for name, wanted in (("defer", 451), ("reject", 554), ("skip", 250), ("hold", 250)):
            with self.subTest(on_fault=name):
                self.assertEqual(self.transaction(open_sessions[name], messages.plain(name), server)[0], wanted)
        held, = [unit for unit in server.units() if unit["state"] == "hold"]
        self.assertIn(f"the milter at {milter.place} cannot be reached: ", held["reason"])
        milter.start()
        # The same sessions, with a milter that never heard of them.
        for name in ("defer", "reject"):
            open_sessions[name].deliver(messages.plain("after"), "ann@example.test", f"demo@{server.domain}")
        spam = messages.head("gtube") + b"\r\n" + GTUBE + b"\r\n"
        self.assertEqual(self.transaction(open_sessions["defer"], spam, server)[0], 554)

    @staticmethod
    def transaction(session, message, server):
        """The first refusal, or the last reply: a milter that does not reply to commands is missed at the end only."""
        for command in ("MAIL FROM:<ann@example.test>", f"RCPT TO:<demo@{server.domain}>"):
            reply = session.command(command)
            if reply[0] >= 400:
                return reply
        return session.data(message)


if __name__ == "__main__":
    cases.main()
