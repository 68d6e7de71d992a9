#!/usr/bin/env python3
"""What `waxwing dev` costs when nothing happens: memory after 30 s, and the time a second start takes."""
import time
import unittest

from harness import cases, client, maildir, messages, system, waxwing

IDLE_SECONDS = 30
PSS_MEGABYTES_MAX = 60


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

    def seconds_to_greeting(self, server):
        started = time.monotonic()
        server.start()
        with client.Client(server.port):
            return time.monotonic() - started


if __name__ == "__main__":
    cases.main()
