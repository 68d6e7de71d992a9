#!/usr/bin/env python3
"""Four real clients send through `waxwing dev`; what lands in the demo user's Maildir is what they sent."""
import os
import smtplib
import subprocess
import unittest

from harness import cases, maildir, messages, system, waxwing

SENDER = "ann@example.test"


def by_swaks(file, port, recipient):
    """swaks ends the last line itself, so the file it gets has none; it takes a last line of one dot for the end."""
    with open(file, "rb") as message, open(file + ".swaks", "wb") as cut:
        cut.write(message.read().removesuffix(b"\n"))
    return ["swaks", "--server", f"127.0.0.1:{port}", "--from", SENDER, "--to", recipient, "--helo", "client.example.test",
            "--data", f"@{file}.swaks", "--timeout", "120", "--silent", "1"]


def by_msmtp(file, port, recipient):
    """msmtp would add headers of its own; here it sends the file as it is."""
    return ["sh", "-c", 'exec msmtp --host=127.0.0.1 --port="$1" --tls=off --auth=off --from="$2" --set-from-header=off '
            '--set-date-header=off --remove-bcc-headers=off --undisclosed-recipients=off "$3" <"$0"',
            file, str(port), SENDER, recipient]


def by_curl(file, port, recipient):
    """curl sends the file's octets; --crlf makes CRLF of its LF."""
    return ["curl", "--silent", "--show-error", "--max-time", "120", f"smtp://127.0.0.1:{port}/client.example.test",
            "--mail-from", SENDER, "--mail-rcpt", recipient, "--crlf", "--upload-file", file]


def by_smtplib(file, port, recipient):
    """Python's smtplib, in this process; it wants CRLF line ends."""
    with open(file, "rb") as message, smtplib.SMTP("127.0.0.1", port, timeout=120) as client:
        client.sendmail(SENDER, [recipient], message.read().replace(b"\n", b"\r\n"))


CLIENTS = {"swaks": by_swaks, "msmtp": by_msmtp, "curl": by_curl, "smtplib": by_smtplib}
# What swaks cannot send as it is: it always ends the header by an empty line and the body by a line of its own.
CANNOT = {("swaks", name) for name in ("last_line_a_dot", "empty_body", "no_blank_line", "header_only")}

# (plugin, hook) that must show in the trace of a message to a mailbox.
HOOKS = {("cleanup", "on-cleanup"), ("aliases", "on-resolve")}


class Clients(unittest.TestCase):
    """Every client times every message."""

    @classmethod
    def setUpClass(cls):
        cls.server = waxwing.Dev().start()
        cls.folder = system.work_folder("messages")
        cls.corpus = {**messages.corpus(), "fifty_megabytes": messages.fifty_megabytes()}
        for name, message in cls.corpus.items():
            with open(os.path.join(cls.folder, name), "wb") as file:
                file.write(messages.with_lf(message))

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        system.remove_folder(cls.folder)

    def send_all(self, client):
        """Sends the corpus by one client and looks at each message's arrival and trace."""
        for name, message in self.corpus.items():
            if (client, name) in CANNOT:
                continue
            with self.subTest(message=name):
                maildir.clear(self.server.maildir)
                sent = CLIENTS[client](os.path.join(self.folder, name), self.server.port, self.server.ADDRESS)
                if sent:
                    done = subprocess.run(sent, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150)
                    self.assertEqual(done.returncode, 0, f"{done.stdout[-2000:]}{done.stderr[-2000:]}")
                arrived = maildir.wait_for_one(self.server.maildir, 60)
                self.assertIsNone(messages.difference(message, arrived))
                self.see_hooks(messages.queue_id(arrived))

    def see_hooks(self, queue_id):
        """The trace names each hook of both plugins."""
        def all_hooks():
            return HOOKS <= waxwing.hooks_in(self.server.ask("trace", queue_id))

        # A trace may follow the message.
        system.wait_for(f"{HOOKS} in the trace of {queue_id}", all_hooks)

    def test_swaks(self):
        self.send_all("swaks")

    def test_msmtp(self):
        self.send_all("msmtp")

    def test_curl(self):
        self.send_all("curl")

    def test_smtplib(self):
        self.send_all("smtplib")


class AddedFields(unittest.TestCase):
    """What cleanup adds to a message that lacks it."""

    @classmethod
    def setUpClass(cls):
        cls.server = waxwing.Dev().start()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def test_a_bare_message_gets_date_message_id_and_from(self):
        with smtplib.SMTP("127.0.0.1", self.server.port, timeout=30) as client:
            client.sendmail(SENDER, [self.server.ADDRESS], b"Subject: bare\r\n\r\nbody\r\n")
        names = [field.split(b":")[0].lower() for field in messages.split(maildir.wait_for_one(self.server.maildir))[0]]
        for name in (b"return-path", b"delivered-to", b"received", b"date", b"message-id", b"from"):
            self.assertEqual(names.count(name), 1, f"{name} in {names}")

    def test_bcc_and_return_path_are_removed(self):
        maildir.clear(self.server.maildir)
        text = messages.head("bcc") + b"Bcc: secret@example.test\r\nReturn-Path: <forged@example.test>\r\n\r\nbody\r\n"
        with smtplib.SMTP("127.0.0.1", self.server.port, timeout=30) as client:
            client.sendmail(SENDER, [self.server.ADDRESS], text)
        arrived = maildir.wait_for_one(self.server.maildir)
        self.assertNotIn(b"secret@example.test", arrived)
        self.assertNotIn(b"forged@example.test", arrived)
        self.assertTrue(arrived.startswith(b"Return-Path: <ann@example.test>\n"), arrived[:200])

    def test_a_refused_transaction_can_be_traced(self):
        with smtplib.SMTP("127.0.0.1", self.server.port, timeout=30) as client:
            client.ehlo("client.example.test")
            client.mail(SENDER)
            code, text = client.rcpt("nobody-of-that-name@localhost")
        self.assertEqual(code, 550, text)

        def refused():
            newest, = self.server.ask("trace", "--last", "1")
            return newest["sender"] == SENDER and "550" in str(newest)

        system.wait_for("its trace", refused)


if __name__ == "__main__":
    cases.main()
