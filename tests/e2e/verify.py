#!/usr/bin/env python3
"""Verification of addresses: a backup of Debian's Postfix asks it about recipients, a server asks about senders."""
import os
import re
import socket
import threading
import time
import unittest

from harness import cases, client, maildir, messages, postfix, system, waxwing

STRANGER = "127.0.0.2"
PRIMARY = "postfix.example.test"


def heard(server, sender, recipient):
    """The reply to RCPT."""
    with client.Client(server.port, STRANGER) as connection:
        connection.accepted(connection.command(f"MAIL FROM:<{sender}>"))
        return connection.command(f"RCPT TO:<{recipient}>")


def logged(server, pattern, count):
    """All that is found in the log, once there is so much of it."""
    server.wait_for_log(pattern, count)
    return re.findall(pattern, server.complete_log())


@unittest.skipUnless(system.ROOT and os.path.exists("/usr/sbin/postfix"), "needs root and Postfix")
class BackupMx(unittest.TestCase):
    """Mail for the primary's domain is taken while it is away, but not for users that it does not have."""

    @classmethod
    def setUpClass(cls):
        cls.primary = postfix.Postfix(virtual_mailbox_maps=f"inline:{{ {{ demo@{PRIMARY} = demo/Maildir/ }} }}").start()
        cls.backup = waxwing.Waxwing(
            "backup", mynetworks=["127.0.0.1/32"], relay_domains=[PRIMARY], transport_maps={PRIMARY: f"relay:[127.0.0.1]:{cls.primary.port}"},
            smtpd_recipient_restrictions=["reject_unverified_recipient"], unverified_recipient_reject_code=550).start()

    @classmethod
    def tearDownClass(cls):
        cls.backup.close()
        cls.primary.close()

    def probes(self, recipient):
        """Lines of the log about probes of a recipient."""
        return logged(self.backup, rf"probe: <{re.escape(recipient)}> is ([a-z ]+):", 1)

    def test_1_unknown_users_are_refused_with_the_words_of_their_server(self):
        for _ in range(3):
            code, text = heard(self.backup, "ann@far.test", f"gone@{PRIMARY}")
            self.assertEqual(code, 550, text)
            self.assertIn(f"5.1.1 <gone@{PRIMARY}>: Recipient address rejected: undeliverable address: host 127.0.0.1[127.0.0.1]", text)
            self.assertIn("User unknown in virtual mailbox table", text)
        self.assertEqual(self.probes(f"gone@{PRIMARY}"), ["undeliverable"])
        logged(self.backup, 'rule="smtpd_recipient_restrictions: reject_unverified_recipient"', 3)

        def steps():
            return {step for _, step in waxwing.hooks_in(self.backup.ask("trace", "--last", "5"))}

        system.wait_for("its trace", lambda: "smtpd_recipient_restrictions: reject_unverified_recipient" in steps())

    def test_2_known_users_get_their_mail_and_a_probe_sends_none(self):
        message = messages.plain("backup")
        with client.Client(self.backup.port, STRANGER) as connection:
            connection.deliver(message, "ann@far.test", f"demo@{PRIMARY}")
        self.assertEqual(self.probes(f"demo@{PRIMARY}"), ["deliverable"])
        self.assertIsNone(messages.difference(message, maildir.wait_for_one(self.primary.maildir)))
        # Probes and the message went over connections that are kept for a while: three times MAIL, once DATA, for one message.
        def spoken():
            ended = re.findall(r"disconnect from .* mail=(\d+) rcpt=(?:\d+/)?(\d+)(?: data=(\d+))?", system.tail(self.primary.log, 100_000))
            return [sum(int(count or 0) for count in counts) for counts in zip(*ended)]

        system.wait_for("the connections to end", lambda: spoken()[:1] >= [3])
        self.assertEqual(spoken(), [3, 3, 1])

    def test_3_the_answers_outlive_a_restart_and_the_primary(self):
        self.backup.restart()
        self.primary.stop()
        before = self.backup.log_octets()
        self.assertEqual(heard(self.backup, "ann@far.test", f"demo@{PRIMARY}")[0], 250)
        self.assertEqual(heard(self.backup, "ann@far.test", f"gone@{PRIMARY}")[0], 550)
        self.assertNotIn("probe:", self.backup.complete_log(before))
        code, text = heard(self.backup, "ann@far.test", f"new@{PRIMARY}")
        self.assertEqual(code, 450, text)
        self.assertIn("4.1.1 ", text)
        self.assertIn("unverified address: ", text)

    def test_4_by_the_operators_word_mail_is_taken_while_it_is_away(self):
        self.backup.settings["unverified_recipient_tempfail_action"] = "permit"
        self.backup.write_config()
        self.backup.ask("reload")
        self.assertEqual(heard(self.backup, "ann@far.test", f"other@{PRIMARY}")[0], 250)
        self.assertEqual(heard(self.backup, "ann@far.test", f"gone@{PRIMARY}")[0], 550)
        self.primary.start()


class Slow(unittest.TestCase):
    """A server that does not answer costs the client no more than address_verify_poll_time; many clients make one probe."""

    def test_it_goes_on_without_the_client(self):
        listener = socket.create_server(("127.0.0.1", 0))
        port, connections, go = listener.getsockname()[1], [], threading.Event()

        def serve():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                connections.append(connection)
                threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(connection):
            go.wait(60)
            with connection, connection.makefile("rb") as lines:
                connection.sendall(b"220 slow.test\r\n")
                for line in lines:
                    said.append(line.strip().upper())
                    connection.sendall(b"250 ok\r\n")

        said = []
        threading.Thread(target=serve, daemon=True).start()
        with waxwing.Waxwing("patient", mynetworks=["127.0.0.1/32"], relay_domains=["slow.test"], address_verify_poll_time="500ms",
                             transport_maps={"slow.test": f"relay:[127.0.0.1]:{port}"},
                             smtpd_recipient_restrictions=["reject_unverified_recipient"]) as server:
            begun = time.monotonic()
            code, text = heard(server, "ann@far.test", "x@slow.test")
            self.assertEqual((code, "verification in progress" in text), (450, True), text)
            self.assertLess(time.monotonic() - begun, 5)
            self.assertEqual(heard(server, "bob@far.test", "x@slow.test")[0], 450)
            go.set()
            server.wait_for_log("<x@slow.test> is deliverable")
            self.assertEqual(heard(server, "ann@far.test", "x@slow.test")[0], 250)
            self.assertEqual([line for line in said if line.startswith(b"RCPT")], [b"RCPT TO:<X@SLOW.TEST>"])
            self.assertFalse([line for line in said if line.startswith((b"DATA", b"BDAT"))], said)
        listener.close()


class Loop(unittest.TestCase):
    """A server that sends the mail of a relayed domain to itself asks itself; that ends at once, and with one probe."""

    def test_it_ends(self):
        server = waxwing.Waxwing("round", mynetworks=["127.0.0.9/32"], relay_domains=["loop.test"],
                                 smtpd_recipient_restrictions=["reject_unverified_recipient"])
        # By an address that is not seen to be our own.
        server.settings["transport_maps"] = {"loop.test": f"relay:[127.0.0.1]:{server.port}"}
        with server:
            begun = time.monotonic()
            code, text = heard(server, "ann@far.test", "x@loop.test")
            self.assertEqual(code, 450, text)
            self.assertIn("came back to this server", text)
            self.assertLess(time.monotonic() - begun, 5)
            self.assertEqual(len(logged(server, "probe: ", 1)), 1)


@unittest.skipUnless(system.ROOT and os.path.exists("/usr/sbin/postfix"), "needs root and Postfix")
class Senders(unittest.TestCase):
    """MAIL FROM of a domain elsewhere is asked about there."""

    def test_they_are_asked_about(self):
        with postfix.Postfix(virtual_mailbox_maps=f"inline:{{ {{ demo@{PRIMARY} = demo/Maildir/ }} }}") as elsewhere, waxwing.Waxwing(
                "careful", mynetworks=["127.0.0.1/32"], transport_maps={PRIMARY: f"smtp:[127.0.0.1]:{elsewhere.port}"},
                smtpd_sender_restrictions=["reject_unverified_sender"]) as server:
            to = f"demo@{server.domain}"
            self.assertEqual(heard(server, f"demo@{PRIMARY}", to)[0], 250)
            self.assertEqual(heard(server, "", to)[0], 250)
            code, text = heard(server, f"gone@{PRIMARY}", to)
            self.assertEqual(code, 450, text)
            self.assertIn(f"4.1.7 <gone@{PRIMARY}>: Sender address rejected: undeliverable address: ", text)
            self.assertEqual(heard(server, f"gone@{server.domain}", to)[0], 450)
            self.assertEqual(len(logged(server, "probe: ", 2)), 2, "our own users are looked up")


if __name__ == "__main__":
    cases.main()
