#!/usr/bin/env python3
"""Relay through Debian's Postfix with and without SMTPUTF8, DSN and 8BITMIME: what arrives, and which reports come back."""
import email
import email.policy
import unittest

from harness import cases, client, maildir, messages, postfix, system, waxwing

FEWER = "smtputf8, dsn, 8bitmime, chunking"


def fields_of(report):
    """The delivery status of a report, as text."""
    part = list(report.iter_parts())[1]
    return part.get_content_type(), part.as_bytes().decode("utf-8", "replace")


@unittest.skipUnless(system.ROOT, "Postfix's master needs root")
class Reports(unittest.TestCase):
    """A Waxwing relays to a Postfix, which relays to it what it has for others."""

    def setUp(self):
        self.first = waxwing.Waxwing("first")
        self.sender = f"demo@{self.first.domain}"

    def behind(self, **settings):
        """A Postfix as our next hop."""
        hop = postfix.Postfix(relayhost=f"[127.0.0.1]:{self.first.port}", **settings)
        self.first.settings["relayhost"] = f"[127.0.0.1]:{hop.port}"
        return hop

    def send(self, message, mail="", rcpt="", to="demo@postfix.example.test"):
        with client.Client(self.first.port) as connection:
            connection.accepted(connection.command(f"MAIL FROM:<{self.sender}>{mail}"))
            connection.accepted(connection.command(f"RCPT TO:<{to}>{rcpt}"))
            connection.accepted(connection.data(message))

    def report(self):
        raw = maildir.wait_for_one(self.first.maildir, 60)
        self.assertTrue(raw.startswith(b"Return-Path: <>\n"), raw[:200])
        report = email.message_from_bytes(raw, policy=email.policy.default)
        self.assertEqual(report.get_content_type(), "multipart/report")
        return report

    def test_success_behind_a_server_without_dsn_is_relayed(self):
        with self.behind(smtpd_discard_ehlo_keywords=FEWER) as hop, self.first:
            self.send(messages.plain("asked"), " RET=HDRS ENVID=QQ1", " NOTIFY=SUCCESS ORCPT=rfc822;old@x.test")
            kind, fields = fields_of(self.report())
            maildir.wait_for_one(hop.maildir, 60)
            self.assertEqual(kind, "message/delivery-status")
            for text in ("Action: relayed", "Status: 2.0.0", "Original-Envelope-Id: QQ1", "Original-Recipient: rfc822;old@x.test"):
                self.assertIn(text, fields)

    def test_success_behind_a_server_with_dsn_is_its_own_matter(self):
        with self.behind() as hop, self.first:
            self.send(messages.plain("asked"), " RET=HDRS ENVID=QQ1", " NOTIFY=SUCCESS ORCPT=rfc822;old@x.test")
            _, fields = fields_of(self.report())
            maildir.wait_for_one(hop.maildir, 60)
            self.first.wait_until_idle()
            self.assertEqual(len(maildir.files(self.first.maildir)), 1)
            for text in ("Reporting-MTA: dns; postfix.example.test", "Action: delivered", "Original-Envelope-Id: QQ1",
                         "Original-Recipient: rfc822;old@x.test"):
                self.assertIn(text, fields)

    def test_success_here_is_delivered(self):
        with self.first:
            self.send(messages.plain("asked"), "", " NOTIFY=SUCCESS", to=self.sender)
            system.wait_for("message and report", lambda: len(maildir.files(self.first.maildir)) == 2, 30)
            reports = [raw for raw in maildir.read_all(self.first.maildir) if raw.startswith(b"Return-Path: <>\n")]
            self.assertEqual(len(reports), 1)
            self.assertIn(b"Action: delivered\nStatus: 2.", reports[0])

    def test_an_alias_for_several_is_expanded_and_its_members_tell_no_success(self):
        domain = self.first.domain
        self.first.settings["virtual_alias_maps"] = {f"team@{domain}": f"ann@{domain}, bob@{domain}", f"one@{domain}": f"ann@{domain}"}
        for user in ("ann", "bob"):
            self.first.settings["virtual_mailbox_maps"][f"{user}@{domain}"] = f"{user}/Maildir/"
        with self.first:
            self.send(messages.plain("asked"), " ENVID=QQ1", " NOTIFY=SUCCESS,FAILURE", to=f"team@{domain}")
            for user in ("ann", "bob"):
                maildir.wait_for_one(f"{self.first.mail}/{user}/Maildir")
            self.first.wait_until_idle()
            kind, fields = fields_of(self.report())
            self.assertEqual(kind, "message/delivery-status")
            self.assertIn(f"Final-Recipient: rfc822; team@{domain}\nAction: expanded\nStatus: 2.0.0\n", fields)
            self.assertIn("Original-Envelope-Id: QQ1", fields)
            self.assertNotIn("ann@", fields)
            maildir.clear(self.first.maildir)
            self.send(messages.plain("asked"), "", " NOTIFY=SUCCESS", to=f"one@{domain}")
            _, fields = fields_of(self.report())
            self.assertIn(f"Original-Recipient: rfc822;one@{domain}\nFinal-Recipient: rfc822; ann@{domain}\nAction: delivered\n", fields)

    def test_never_is_never(self):
        with self.behind(virtual_mailbox_maps="inline:{demo@postfix.example.test=demo/Maildir/}") as _, self.first:
            self.send(messages.plain("asked"), "", " NOTIFY=NEVER", to="gone@postfix.example.test")
            self.first.wait_until_idle()
            self.first.wait_for_log("status=bounced")
            self.assertEqual(maildir.files(self.first.maildir), [])

    def test_utf8_address_without_smtputf8_bounces(self):
        with self.behind(smtpd_discard_ehlo_keywords=FEWER) as _, self.first:
            self.send(messages.plain("address"), " SMTPUTF8 BODY=8BITMIME", to="grün@postfix.example.test")
            kind, fields = fields_of(self.report())
            self.assertEqual(kind, "message/global-delivery-status")
            self.assertIn("Status: 5.6.7", fields)
            self.assertIn("Final-Recipient: utf-8; grün@postfix.example.test", fields)

    def test_utf8_address_with_smtputf8_arrives(self):
        with self.behind() as hop, self.first:
            self.send(messages.plain("address"), " SMTPUTF8 BODY=8BITMIME", to="grün@postfix.example.test")
            maildir.wait_for_one(hop.maildir, 60)
            self.first.wait_until_idle()
            self.assertEqual(maildir.files(self.first.maildir), [])

    def test_what_needs_no_smtputf8_goes_without(self):
        with self.behind(smtpd_discard_ehlo_keywords=FEWER) as hop, self.first:
            self.send(messages.plain("plain"), " SMTPUTF8")
            maildir.wait_for_one(hop.maildir, 60)

    def test_eight_bit_content_is_converted(self):
        with self.behind(smtpd_discard_ehlo_keywords=FEWER) as hop, self.first:
            self.send(messages.corpus()["eight_bit"], " BODY=8BITMIME")
            arrived = maildir.wait_for_one(hop.maildir, 60)
            self.assertTrue(arrived.isascii(), arrived)


if __name__ == "__main__":
    cases.main()
