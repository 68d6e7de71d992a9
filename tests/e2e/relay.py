#!/usr/bin/env python3
"""Relay through a second Waxwing and through Debian's Postfix; deferral, conversion and bounces."""
import email
import email.policy
import re
import unittest

from harness import cases, client, maildir, messages, postfix, sink, system, waxwing

SENDER = "ann@example.test"


def relaying(name="first", port=1, **settings):
    """A Waxwing that sends everything that is not its own to a loopback port."""
    return waxwing.Waxwing(name, relayhost=f"[127.0.0.1]:{port}", **settings)


class Arrival(unittest.TestCase):
    """The messages of the corpus arrive unchanged behind another server."""

    def relay_corpus(self, next_hop, corpus):
        with relaying(port=next_hop.port) as first:
            for name, message in corpus.items():
                with self.subTest(message=name):
                    maildir.clear(next_hop.maildir)
                    with client.Client(first.port) as connection:
                        queue_id = connection.deliver(message, SENDER, f"demo@{next_hop.domain}")
                    arrived = maildir.wait_for_one(next_hop.maildir, 60)
                    self.assertIsNone(messages.difference(message, arrived))
                    self.assertEqual(messages.queue_id(arrived, first.settings["myhostname"]), queue_id)
            first.wait_until_idle()

    def test_through_a_second_waxwing(self):
        with waxwing.Waxwing("second") as second:
            self.relay_corpus(second, {**messages.corpus(), "fifty_megabytes": messages.fifty_megabytes()})

    @unittest.skipUnless(system.ROOT, "Postfix's master needs root")
    def test_through_postfix(self):
        with postfix.Postfix() as second:
            self.relay_corpus(second, {**messages.corpus(), "fifty_megabytes": messages.fifty_megabytes()})

    def test_log_has_a_line_for_each_recipient(self):
        with sink.Sink() as hop, relaying(port=hop.port) as first:
            with client.Client(first.port) as connection:
                queue_id = connection.deliver(messages.plain("log"), SENDER, "a@far.test", "b@far.test")
            first.wait_until_idle()
            first.stop()
            for recipient in ("a@far.test", "b@far.test"):
                lines = [line for line in first.ended_log().splitlines() if queue_id in line and recipient in line and "status=" in line]
                self.assertEqual(len(lines), 1, first.ended_log()[-3000:])
                for field in ("to=", "relay=", "delay=", "delays=", "dsn=2.0.0", "status=sent"):
                    self.assertIn(field, lines[0])


class EightBit(unittest.TestCase):
    """A next hop without 8BITMIME gets seven bits, or the sender a bounce."""

    def test_mime_is_converted(self):
        message = messages.corpus()["eight_bit"]
        with sink.Sink(extensions=("PIPELINING",)) as hop, relaying(port=hop.port) as first:
            with client.Client(first.port) as connection:
                self.assertIn("8BITMIME", connection.extensions)
                connection.accepted(connection.command(f"MAIL FROM:<{SENDER}> BODY=8BITMIME"))
                connection.accepted(connection.command("RCPT TO:<a@far.test>"))
                connection.accepted(connection.data(message))
            (_, _, arrived), = hop.wait_for(1)
            self.assertFalse(any("BODY=8BITMIME" in command for command in hop.commands))
        self.assertTrue(arrived.isascii(), arrived)
        text = email.message_from_bytes(arrived, policy=email.policy.default).get_content()
        # Lines of text end in CRLF inside of base64 (RFC 2045 §6.8), in that of the message inside of quoted-printable.
        self.assertEqual(text.replace("\r\n", "\n"), "Grüße, 你好, привет\n" * 3)

    def test_other_eight_bit_text_bounces_or_is_labelled(self):
        message = messages.corpus()["eight_bit_without_mime"]
        with sink.Sink(extensions=("PIPELINING",)) as hop, relaying(port=hop.port) as first:
            with client.Client(first.port) as connection:
                connection.deliver(message, f"demo@{first.domain}", "a@far.test")
            system.wait_for("a bounce or a converted message", lambda: hop.messages or maildir.files(first.maildir))
            for _, _, arrived in hop.messages:
                self.assertTrue(arrived.isascii(), arrived)
                self.assertEqual(email.message_from_bytes(arrived).get_payload(decode=True), b"caf\xe9 \xff\xfe \x80\n")
            for bounce in maildir.read_all(first.maildir):
                self.assertIn(b"5.6.3", bounce)


class Deferral(unittest.TestCase):
    """A next hop that is down or says 4yz: the message waits, then goes."""

    def test_next_hop_down_then_up(self):
        hop = sink.Sink()
        with relaying(port=hop.port) as first:
            message = messages.plain("later")
            with client.Client(first.port) as connection:
                queue_id = connection.deliver(message, SENDER, "a@far.test")
            system.wait_for("a deferred entry", lambda: any(unit["state"] == "deferred" for unit in first.units()))
            shown, = first.ask("queue", "show", queue_id)
            self.assertEqual([recipient["address"] for unit in shown["units"] for recipient in unit["recipients"]], ["a@far.test"])
            self.assertEqual(shown["units"][0]["sender"], SENDER)
            self.assertIn("Subject: later", shown["head"])
            first.restart()
            first.wait_for_log("status=deferred")
            self.assertEqual([unit["id"] for unit in first.units()], [queue_id], "the queue outlives the server")
            with hop:
                (_, recipients, arrived), = hop.wait_for(1, 60)
                self.assertEqual(recipients, ["a@far.test"])
                self.assertIsNone(messages.difference(message, arrived))
                first.wait_until_idle()
                self.assertEqual(len(hop.messages), 1)

    def test_a_temporary_refusal_is_tried_again(self):
        with sink.Sink(replies={"END": "451 4.3.0 not now"}) as hop, relaying(port=hop.port) as first:
            with client.Client(first.port) as connection:
                connection.deliver(messages.plain("again"), SENDER, "a@far.test")
            first.wait_for_log("451 4.3.0 not now")
            hop.replies.clear()
            hop.wait_for(1, 60)
            first.wait_until_idle()
            self.assertEqual(len(hop.messages), 1)


class Bounce(unittest.TestCase):
    """A permanent refusal is reported to the sender, once."""

    def bounce_of(self, replies):
        with sink.Sink(replies=replies) as hop, relaying(port=hop.port) as first:
            with client.Client(first.port) as connection:
                connection.deliver(messages.plain("bounced"), f"demo@{first.domain}", "gone@far.test")
            raw = maildir.wait_for_one(first.maildir)
            first.wait_until_idle()
            self.assertEqual(len(maildir.files(first.maildir)), 1)
            first.wait_for_log("status=bounced")
        self.assertTrue(raw.startswith(b"Return-Path: <>\n"), raw[:200])
        return email.message_from_bytes(raw, policy=email.policy.default)

    def check_report(self, report, status, reply):
        self.assertEqual(report.get_content_type(), "multipart/report")
        self.assertEqual(report.get_param("report-type"), "delivery-status")
        kinds = [part.get_content_type() for part in report.iter_parts()]
        self.assertEqual(kinds[:2], ["text/plain", "message/delivery-status"])
        self.assertIn(kinds[2], ("message/rfc822", "text/rfc822-headers"))
        fields = str(list(report.iter_parts())[1])
        self.assertRegex(fields, r"(?i)final-recipient: *rfc822; *gone@far\.test")
        self.assertRegex(fields, r"(?i)action: *failed")
        self.assertRegex(fields, rf"(?i)status: *{re.escape(status)}")
        self.assertRegex(fields, rf"(?is)diagnostic-code: *smtp; *{re.escape(reply)}")
        self.assertIn("Subject: bounced", str(list(report.iter_parts())[2]))

    def test_recipient_refused(self):
        report = self.bounce_of({"RCPT": "550 5.1.1 no such user"})
        self.check_report(report, "5.1.1", "550 5.1.1 no such user")

    def test_message_refused(self):
        report = self.bounce_of({"END": "554 5.7.1 not wanted"})
        self.check_report(report, "5.7.1", "554 5.7.1 not wanted")


if __name__ == "__main__":
    cases.main()
