#!/usr/bin/env python3
"""No open relay, no loops, no root."""
import os
import pwd
import unittest

from harness import cases, client, maildir, messages, sink, system, waxwing

STRANGER = "127.0.0.2"


class Recipients(unittest.TestCase):
    """Who may send where."""

    @classmethod
    def setUpClass(cls):
        cls.hop = sink.Sink().open()
        cls.server = waxwing.Waxwing("closed", relayhost=f"[127.0.0.1]:{cls.hop.port}", mynetworks=["127.0.0.1/32"]).start()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        cls.hop.close()

    def rcpt(self, recipient, source=STRANGER):
        with client.Client(self.server.port, source) as connection:
            connection.accepted(connection.command("MAIL FROM:<ann@example.test>"))
            return connection.command(f"RCPT TO:<{recipient}>")

    def refused(self, recipient, code, enhanced, source=STRANGER):
        found = self.rcpt(recipient, source)
        self.assertEqual((found[0], found[1].split()[0]), (code, enhanced), found)

    def test_a_stranger_may_not_relay(self):
        for recipient in ("a@far.test", f"a%far.test@{self.server.domain}.far.test", "@far.test:a@other.test", '"a@far.test"@other.test'):
            self.refused(recipient, 554, "5.7.1")

    def test_tricks_for_our_domain_do_not_relay(self):
        for recipient in (f"a%far.test@{self.server.domain}", f'"a@far.test"@{self.server.domain}', f"far.test!a@{self.server.domain}"):
            found = self.rcpt(recipient)
            self.assertIn(found[0], (550, 553, 554, 501), f"{recipient}: {found}")

    def test_our_network_may_relay(self):
        self.assertEqual(self.rcpt("a@far.test", "127.0.0.1")[0], 250)

    def test_an_unknown_user_is_refused_at_rcpt(self):
        for source in (STRANGER, "127.0.0.1"):
            self.refused(f"nobody@{self.server.domain}", 550, "5.1.1", source)

    def test_a_known_user_is_taken_from_anyone(self):
        self.assertEqual(self.rcpt(f"demo@{self.server.domain}")[0], 250)

    def test_postmaster_always_exists(self):
        for recipient in ("postmaster", "Postmaster", f"postmaster@{self.server.domain}", f"POSTMASTER@{self.server.domain.upper()}"):
            self.assertEqual(self.rcpt(recipient)[0], 250, recipient)

    def test_mail_without_recipients_left_is_not_taken(self):
        with client.Client(self.server.port, STRANGER) as connection:
            connection.accepted(connection.command("MAIL FROM:<ann@example.test>"))
            connection.command("RCPT TO:<a@far.test>")
            self.assertGreaterEqual(connection.data(messages.plain("none"))[0], 500)
        self.assertEqual(self.hop.messages, [])


class Loops(unittest.TestCase):
    """Mail that goes round, and reports about reports."""

    def received(self, count):
        return b"".join(b"Received: from a%d.test by b%d.test; Tue, 24 Nov 2026 10:00:00 +0000\r\n" % (i, i) for i in range(count))

    def test_fifty_hops_are_enough(self):
        with waxwing.Waxwing("loops") as server:
            to = f"demo@{server.domain}"
            with client.Client(server.port) as connection:
                connection.deliver(self.received(40) + messages.plain("far"), "ann@example.test", to)
            with client.Client(server.port) as connection:
                connection.envelope("ann@example.test", to)
                code, text = connection.data(self.received(51) + messages.plain("round"))
            self.assertEqual((code, text.split()[0]), (554, "5.4.6"), text)
            maildir.wait_for_one(server.maildir)
            server.wait_until_idle()
            self.assertEqual(len(maildir.files(server.maildir)), 1)

    def test_a_report_that_fails_makes_no_report(self):
        with sink.Sink(replies={"RCPT": "550 5.1.1 no such user"}) as hop:
            with waxwing.Waxwing("reports", relayhost=f"[127.0.0.1]:{hop.port}") as server:
                with client.Client(server.port) as connection:
                    queue_id = connection.deliver(messages.plain("report"), "", "gone@far.test")
                server.wait_for_log(f"{queue_id}.*status=bounced")
                server.wait_until_idle()
                asked = [command for command in hop.commands if command.startswith("MAIL")]
                self.assertEqual(len(asked), 1, hop.commands)
                self.assertEqual(maildir.files(server.maildir), [])

    def test_a_report_to_a_sender_that_is_refused_too_ends_there(self):
        with sink.Sink(replies={"RCPT": "550 5.1.1 no such user"}) as hop:
            with waxwing.Waxwing("double", relayhost=f"[127.0.0.1]:{hop.port}") as server:
                with client.Client(server.port) as connection:
                    connection.deliver(messages.plain("double"), "also-gone@far.test", "gone@far.test")
                system.wait_for("both attempts", lambda: len([c for c in hop.commands if c.startswith("MAIL")]) >= 2)
                server.wait_until_idle()
                senders = [command.split("<")[1].split(">")[0] for command in hop.commands if command.startswith("MAIL")]
                self.assertEqual(sorted(senders), ["", "also-gone@far.test"])


@unittest.skipUnless(system.ROOT, "needs root")
class Privileges(unittest.TestCase):
    """Started as root, the server becomes mail_owner before it serves."""

    def status(self, pid):
        with open(f"/proc/{pid}/status") as file:
            return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)

    def test_root_becomes_mail_owner(self):
        server = waxwing.Waxwing("owner", as_service_user=False, mail_owner=system.SERVICE_USER)
        with server:
            owner = pwd.getpwnam(system.SERVICE_USER)
            for task in os.listdir(f"/proc/{server.process.pid}/task"):
                status = self.status(f"{server.process.pid}/task/{task}")
                self.assertEqual(status["Uid"].split(), [str(owner.pw_uid)] * 4)
                self.assertEqual(status["Gid"].split(), [str(owner.pw_gid)] * 4)
                self.assertNotIn("0", status["Groups"].split())
                self.assertEqual(status["NoNewPrivs"].strip(), "1")
                self.assertEqual(int(status["CapEff"], 16), 0)
                self.assertEqual(int(status["CapPrm"], 16), 0)
            with client.Client(server.port) as connection:
                connection.deliver(messages.plain("owner"), "ann@example.test", f"demo@{server.domain}")
            maildir.wait_for_one(server.maildir)
            self.assertEqual(os.stat(maildir.files(server.maildir)[0]).st_uid, owner.pw_uid)

    def test_dev_by_root_does_not_serve_as_root(self):
        server = waxwing.Dev(as_service_user=False)
        try:
            server.start()
            for task in os.listdir(f"/proc/{server.process.pid}/task"):
                status = self.status(f"{server.process.pid}/task/{task}")
                self.assertNotIn("0", status["Uid"].split())
                self.assertEqual(status["NoNewPrivs"].strip(), "1")
        finally:
            server.close()

    def test_root_without_mail_owner_does_not_serve(self):
        for settings in ({}, {"mail_owner": "root"}):
            server = waxwing.Waxwing("noowner", as_service_user=False, **settings)
            try:
                server.write_config()
                server.process = system.start(server.command_line(), server.log, as_service_user=False)
                code = server.process.wait(30)
                self.assertNotEqual(code, 0)
                self.assertIn("mail_owner", server.ended_log())
            finally:
                server.close()


if __name__ == "__main__":
    cases.main()
