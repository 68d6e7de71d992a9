#!/usr/bin/env python3
"""LMTP, over TCP and over a socket in the file system, each recipient with its own end: out to Dovecot, in from Postfix and from Python."""
import os
import shutil
import smtplib
import socket
import stat
import unittest

from harness import cases, client, dovecot, maildir, messages, postfix, system, waxwing


@unittest.skipUnless(system.ROOT and shutil.which("dovecot"), "needs root and Dovecot with its LMTP server")
class Out(unittest.TestCase):
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


class In(unittest.TestCase):
    """A listener at a path."""

    def setUp(self):
        self.server = waxwing.Waxwing("inbox")
        self.path = os.path.join(self.server.folder, "run", "lmtp")
        os.mkdir(os.path.dirname(self.path))
        system.give_to_service_user(os.path.dirname(self.path))
        self.local = {"name": "local", "address": f"unix:{self.path}", "kind": "lmtp", "mode": "0666"}
        self.server.settings["listen"].append(self.local)
        self.server.settings["virtual_mailbox_maps"][f"ann@{self.server.domain}"] = "ann/Maildir/"

    def tearDown(self):
        self.server.close()

    def test_pythons_client(self):
        self.server.start()
        message = messages.plain("python")
        ours = [f"{user}@{self.server.domain}" for user in ("demo", "gone", "ann")]
        with smtplib.LMTP(self.path) as connection:
            # It reads one reply to the message, however many recipients there are.
            self.assertEqual(connection.sendmail("ann@far.test", ours[:1], message), {})
            refused = connection.sendmail("ann@far.test", ours[1:], message)
            self.assertEqual([(to, code) for to, (code, _) in refused.items()], [(ours[1], 550)])
        arrived = maildir.wait_for_one(self.server.maildir)
        self.assertIsNone(messages.difference(message, arrived))
        self.assertIn(b"(localhost [127.0.0.1])", arrived)
        self.assertIn(b" with LMTP", arrived)
        maildir.wait_for_one(os.path.join(self.server.mail, "ann", "Maildir"))

    @unittest.skipUnless(system.ROOT and os.path.exists("/usr/sbin/postfix"), "needs root and Postfix")
    def test_postfix_delivers_there(self):
        self.server.start()
        message = messages.plain("postfix")
        with postfix.Postfix(default_transport=f"lmtp:unix:{self.path}") as first:
            with client.Client(first.port) as connection:
                to = [f"{user}@{self.server.domain}" for user in ("demo", "gone")]
                connection.envelope(f"demo@{first.domain}", *to)
                connection.accepted(connection.data(message))
            self.assertIsNone(messages.difference(message, maildir.wait_for_one(self.server.maildir)))
            returned = maildir.wait_for_one(first.maildir)
            self.assertIn(f"Final-Recipient: rfc822; gone@{self.server.domain}".encode(), returned)
            self.assertIn(b"550 5.1.1", returned)

    def test_the_path_is_there_as_long_as_the_listener(self):
        def mode():
            return stat.S_IMODE(os.stat(self.path).st_mode)

        with socket.socket(socket.AF_UNIX) as left:
            left.bind(self.path)
        # Left behind by a server that was killed. The folder is the server's, so that it can replace it.
        system.give_to_service_user(self.path)
        self.server.start()
        self.assertEqual(mode(), 0o666)
        other = waxwing.Waxwing("other", listen=[{**self.local, "name": "same"}])
        with self.assertRaisesRegex(AssertionError, "another server answers at"):
            try:
                other.start(10)
            finally:
                other.close()
        with smtplib.LMTP(self.path) as open_one:
            open_one.docmd("LHLO", "client.test")
            before = os.stat(self.path).st_ino
            self.server.settings["smtpd_banner"] = "a new one"
            self.server.write_config()
            self.server.ask("reload")
            self.assertEqual(os.stat(self.path).st_ino, before, "a reload leaves it alone")
            self.assertEqual(open_one.noop()[0], 250)
            with smtplib.LMTP() as another:
                self.assertEqual(another.connect(self.path), (220, b"a new one"))
        for listen in (self.server.settings["listen"][:1], [*self.server.settings["listen"][:1], {**self.local, "mode": "0600"}]):
            self.server.settings["listen"] = listen
            self.server.write_config()
            self.server.ask("reload")
            system.wait_for("the path to come or go", lambda: os.path.exists(self.path) == (len(listen) == 2))
        self.assertEqual(mode(), 0o600)
        self.server.stop()
        self.assertFalse(os.path.exists(self.path))


if __name__ == "__main__":
    cases.main()
