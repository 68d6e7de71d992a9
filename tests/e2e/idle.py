#!/usr/bin/env python3
"""What a server costs when nothing happens: `waxwing dev` after 30 s, the time of its second start, and clients that say no more than EHLO."""
import contextlib
import time
import unittest

from harness import cases, client, maildir, messages, system, waxwing

IDLE_SECONDS = 30
PSS_MEGABYTES_MAX = 60
CLIENTS = 900
CLIENT_KILOBYTES_MAX = 10


class Idle(unittest.TestCase):
    """Memory is a promise and is asserted; time depends on the machine's load and is reported."""

    def test_memory_and_start(self):
        server = waxwing.Dev()
        try:
            first = self.seconds_to_greeting(server)
            server.stop()
            second = self.seconds_to_greeting(server)
            time.sleep(IDLE_SECONDS)
            plugins = {plugin["name"] for plugin in server.ask("plugin", "list")}
            self.assertLessEqual({"cleanup", "aliases"}, plugins)
            pss = system.pss_megabytes(server.process.pid)
            print(f"      first start {first:.2f} s, second start {second:.2f} s (promised: 1 s), "
                  f"idle after {IDLE_SECONDS} s {pss:.1f} MB (at most {PSS_MEGABYTES_MAX})")
            self.assertLess(pss, PSS_MEGABYTES_MAX)
            with client.Client(server.port) as connection:
                connection.deliver(messages.plain("awake"), "ann@example.test", server.ADDRESS)
            maildir.wait_for_one(server.maildir)
        finally:
            server.close()

    def test_idle_clients(self):
        with waxwing.Waxwing("idle", smtpd_client_connection_count_limit=0) as server, contextlib.ExitStack() as open_clients:
            for _ in range(20):
                client.Client(server.port).close()
            before = system.pss_megabytes(server.process.pid)
            last = [open_clients.enter_context(client.Client(server.port)) for _ in range(CLIENTS)][-1]
            each = (system.pss_megabytes(server.process.pid) - before) * 1024 / CLIENTS
            print(f"      {CLIENTS} clients behind EHLO: {each:.1f} KB each (at most {CLIENT_KILOBYTES_MAX})")
            self.assertLess(each, CLIENT_KILOBYTES_MAX)
            last.accepted(last.command("NOOP"))

    def seconds_to_greeting(self, server):
        started = time.monotonic()
        server.start()
        with client.Client(server.port):
            return time.monotonic() - started


if __name__ == "__main__":
    cases.main()
