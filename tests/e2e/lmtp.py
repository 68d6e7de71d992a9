#!/usr/bin/env python3
"""Delivery by LMTP to Dovecot: over TCP and over a socket in the file system, each recipient with its own end."""
import shutil
import unittest

from harness import cases, client, dovecot, maildir, messages, system, waxwing


@unittest.skipUnless(system.ROOT and shutil.which("dovecot"), "needs root and Dovecot with its LMTP server")
class Lmtp(unittest.TestCase):
    """Mail for far.test goes to Dovecot."""

    def deliver(self, store, place):
        routes = {"far.test": f"lmtp:{place}"}
        with waxwing.Waxwing("first", transport_maps=routes) as first:
            message = messages.plain("stored")
            with client.Client(first.port) as connection:
                connection.accepted(connection.command(f"MAIL FROM:<demo@{first.domain}>"))
                for user in ("ann", "gone", "bob"):
                    connection.accepted(connection.command(f"RCPT TO:<{user}@far.test> NOTIFY=SUCCESS,FAILURE"))
                connection.accepted(connection.data(message))
            for user in ("ann", "bob"):
                self.assertIsNone(messages.difference(message, maildir.wait_for_one(store.maildir(user), 60)))
            system.wait_for("both reports", lambda: len(maildir.files(first.maildir)) == 2, 60)
            first.wait_until_idle()
            reports = b"".join(maildir.read_all(first.maildir))
            self.assertEqual(reports.count(b"Action: delivered\n"), 2, reports)
            self.assertEqual(reports.count(b"Action: failed\n"), 1, reports)
            self.assertIn(b"Final-Recipient: rfc822; gone@far.test\nAction: failed\nStatus: 5.1.1\n", reports)

    def test_over_tcp(self):
        with dovecot.Dovecot("ann", "bob") as store:
            self.deliver(store, f"inet:127.0.0.1:{store.port}")

    def test_over_a_socket(self):
        with dovecot.Dovecot("ann", "bob") as store:
            self.deliver(store, f"unix:{store.socket}")


if __name__ == "__main__":
    cases.main()
