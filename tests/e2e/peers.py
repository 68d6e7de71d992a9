#!/usr/bin/env python3
"""Other servers relay into ours: Postfix, Exim and OpenSMTPD, in plain text and over TLS, with chunks where they can."""
import os
import re
import shutil
import subprocess
import unittest

from harness import cases, certificates, client, components, maildir, messages, peers, postfix, system, waxwing

SENDER = "ann@example.test"
# What relays that speak their own submission change or cannot carry as it is.
CARRIED = ("plain", "dots", "eight_bit", "folded_header", "blank_lines", "line_of_998")
ADDED = messages.ADDED | {b"x-original-to", b"envelope-to", b"delivery-date"}
LARGE_BYTES = 10_000_000
# The mailboxes beside demo's.
OTHERS = ("eve", "bob")
UTF8 = "grüße"


class Plain(unittest.TestCase):
    """One server for all relays; each kind of message by each relay, which all inherit this."""

    relay = None
    # What the relay must speak with us: the version of TLS, and whether it sends by BDAT and with SMTPUTF8.
    version, chunks, utf8 = None, False, True

    @classmethod
    def setUpClass(cls):
        if cls.relay is None:
            raise unittest.SkipTest("what the others inherit")
        cls.pair = certificates.Pair("mx.example.test")
        cls.server = waxwing.Waxwing("relays", smtpd_tls_chain_files=[cls.pair.chain])
        cls.server.settings["virtual_mailbox_maps"] |= {f"{name}@{cls.server.domain}": f"{name}/Maildir/" for name in (*OTHERS, UTF8)}
        cls.server.start()
        cls.to = f"demo@{cls.server.domain}"
        cls.peer = cls.relay(cls.server.port)

    @classmethod
    def tearDownClass(cls):
        cls.peer.close()
        cls.server.close()
        cls.pair.close()

    def setUp(self):
        for name in ("demo", *OTHERS, UTF8):
            maildir.clear(self.mailbox(name))

    def mailbox(self, name):
        return os.path.join(self.server.mail, name, "Maildir")

    def arrives(self, message, names=("demo",), parameters="", seconds=40):
        """Sends it through the relay to these mailboxes: each has it, octet by octet."""
        said = self.peer.pass_on(message, *(f"{name}@{self.server.domain}" for name in names), parameters=parameters)
        ids = set()
        for name in names:
            arrived = maildir.wait_for_one(self.mailbox(name), seconds)
            self.assertIsNone(messages.difference(message, arrived, ADDED))
            ids.add(messages.queue_id(arrived, self.server.settings["myhostname"]))
            self.was_encrypted(arrived, utf8="SMTPUTF8" in parameters)
        self.assertEqual(len(ids), 1, "recipients of one message came in several")
        if said is not None:
            self.assertEqual("BDAT " in said, self.chunks, said[-2000:])
            self.assertEqual(re.search(r">> DATA\b", said) is None, self.chunks, said[-2000:])

    def was_encrypted(self, arrived, utf8):
        """Received says how it came, and so does the line of the session in the log."""
        newest = next(field for field in messages.split(arrived)[0] if field.lower().startswith(b"received:")).decode()
        kind = ("UTF8SMTP" if utf8 else "ESMTP") + ("S" if self.version else "")
        self.assertRegex(newest, rf"\bwith {kind} id\b")
        used = re.search(r"\(using (\S+) with cipher (\S+)\)", newest)
        self.assertEqual(used and used[1], self.version, newest)
        wanted = f"{used[1]}:{used[2]}" if used else "-"

        lines = self.server.wait_for_log(rf" disconnect .*\bhelo={re.escape(self.peer.name)} ")
        fields = (dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines)
        self.assertEqual({line["tls"] for line in fields}, {wanted}, "all sessions")

    def test_difficult_messages(self):
        corpus = messages.corpus()
        for name in CARRIED:
            with self.subTest(message=name):
                self.setUp()
                self.arrives(corpus[name], parameters=" BODY=8BITMIME" if name == "eight_bit" else "")

    def test_several_recipients(self):
        self.arrives(messages.plain("several"), ("demo", *OTHERS))

    def test_large(self):
        self.arrives(messages.head("large") + b"\r\n" + messages.noise(LARGE_BYTES), seconds=60)

    def test_utf8_addresses(self):
        if not self.utf8:
            self.skipTest("this relay has no SMTPUTF8")
        message = messages.head("utf8").replace(b"Ann Example", "Änn Exämple".encode()) + "\r\nHallo, 你好\r\n".encode()
        self.arrives(message, (UTF8, "demo"), parameters=" SMTPUTF8 BODY=8BITMIME", seconds=8)


class Listening:
    """A relay that takes mail on a port, and the name that it greets us with."""

    def __init__(self, server, name):
        self.server, self.name = server, name
        server.start()

    def pass_on(self, message, *recipients, parameters):
        with client.Client(self.server.port) as connection:
            connection.envelope(SENDER, *recipients, parameters=parameters)
            connection.accepted(connection.data(message))

    def close(self):
        self.server.close()


class Called:
    """Exim, which is called for each message, and shows what it says."""

    name = "exim.example.test"

    def __init__(self, exim):
        self.exim = exim

    def pass_on(self, message, *recipients, parameters):
        log, said = self.exim.send(message, SENDER, *recipients, parameters=parameters)
        # K: by chunks, X: the version of TLS, as Exim writes them down.
        for line in (line for line in log.splitlines() if " => " in line):
            if " K " not in line + " ":
                raise AssertionError(f"not by BDAT: {line}")
        return said

    def close(self):
        self.exim.close()


def by_postfix(**settings):
    def relay(port):
        server = postfix.Postfix(relayhost=f"[127.0.0.1]:{port}", domain="postfix.example.test", **settings)
        return Listening(server, "postfix.example.test")
    return staticmethod(relay)


def by_opensmtpd(**how):
    return staticmethod(lambda port: Listening(peers.OpenSmtpd(port, **how), "opensmtpd.example.test"))


def by_exim(**how):
    return staticmethod(lambda port: Called(peers.Exim(port, **how)))


HAS_EXIM = unittest.skipUnless(os.path.exists(peers.EXIM), "PEERS names no folder with exim")
HAS_OPENSMTPD = unittest.skipUnless(os.path.exists(peers.OPENSMTPD), "PEERS names no folder with opensmtpd")


class Postfix(Plain):
    """Postfix never sends BDAT: its client has no such command (3.7, and up to 3.10)."""
    relay = by_postfix()


class PostfixTls(Plain):
    relay, version = by_postfix(smtp_tls_security_level="encrypt", smtp_tls_loglevel="1"), "TLSv1.3"


class PostfixTls12(Plain):
    relay, version = by_postfix(smtp_tls_security_level="encrypt", smtp_tls_mandatory_protocols=">=TLSv1.2, <=TLSv1.2"), "TLSv1.2"


@HAS_EXIM
class Exim(Plain):
    relay, chunks = by_exim(), True


@HAS_EXIM
class EximTls(Plain):
    relay, version, chunks = by_exim(tls=True), "TLSv1.3", True


@HAS_EXIM
class EximTls12(Plain):
    relay, version, chunks = by_exim(tls=True, newest="1.2"), "TLSv1.2", True


@HAS_OPENSMTPD
class OpenSmtpd(Plain):
    """OpenSMTPD has neither BDAT nor SMTPUTF8."""
    relay, utf8 = by_opensmtpd(), False


@HAS_OPENSMTPD
class OpenSmtpdTls(Plain):
    relay, version, utf8 = by_opensmtpd(tls=True), "TLSv1.3", False


class EachRecipient(unittest.TestCase):
    """Recipients who differ about a message (a plugin with on-recipient-message): PRDR tells the client so."""

    @classmethod
    def setUpClass(cls):
        cls.server = waxwing.Waxwing("each")
        mailboxes = {f"{user}@{cls.server.domain}": f"{user}/Maildir/" for user in ("demo", "never", "later")}
        cls.server.settings |= {
            "virtual_mailbox_maps": mailboxes,
            "plugins": {"picky": {"file": components.build(cls.server.folder, "picky")}},
        }
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def setUp(self):
        maildir.clear(self.server.maildir)

    def addresses(self, *users):
        return [f"{user}@{self.server.domain}" for user in users]

    def replies(self, parameter, *users):
        """What comes after the end of the message, as codes."""
        with client.Client(self.server.port) as connection:
            self.assertIn("PRDR", connection.extensions.splitlines())
            connection.accepted(connection.command(f"MAIL FROM:<{SENDER}>{parameter}"))
            for to in self.addresses(*users):
                connection.accepted(connection.command(f"RCPT TO:<{to}>"))
            codes = [connection.data(messages.plain("each"))[0]]
            while codes[0] == 353 and len(codes) < len(users) + 2:
                codes.append(connection.reply()[0])
            self.assertEqual(connection.command("NOOP")[0], 250)
        return codes

    def test_the_replies(self):
        self.assertEqual(self.replies(" PRDR", "demo", "never", "later"), [353, 250, 550, 450, 250])
        self.assertEqual(self.replies(" PRDR", "demo"), [250])
        self.assertEqual(self.replies(" PRDR", "never"), [550])
        self.assertEqual(self.replies("", "demo", "never"), [250], "one answer has to do")

    def test_it_can_be_turned_off(self):
        self.server.settings["smtpd_prdr"] = False
        self.server.write_config()
        self.server.ask("reload")
        try:
            with client.Client(self.server.port) as connection:
                self.assertNotIn("PRDR", connection.extensions)
                self.assertEqual(connection.command(f"MAIL FROM:<{SENDER}> PRDR")[0], 555)
        finally:
            del self.server.settings["smtpd_prdr"]
            self.server.write_config()
            self.server.ask("reload")

    @unittest.skipUnless(os.path.exists(peers.EXIM), "PEERS names no folder with exim")
    def test_exim(self):
        relay = peers.Exim(self.server.port)
        self.addCleanup(relay.close)
        log, _ = relay.send(messages.plain("exim"), SENDER, *self.addresses("demo", "never", "later"))
        maildir.wait_for_one(self.server.maildir)
        of = {mark: [line for line in log.splitlines() if f" {mark} " in line] for mark in ("=>", "->", "**", "==")}
        self.assertTrue(any("demo@" in line and "PRDR" in line for line in of["=>"] + of["->"]), log)
        self.assertTrue(any("never@" in line and "550" in line and "not for me" in line for line in of["**"]), log)
        self.assertTrue(any("later@" in line and "450" in line and "not now" in line for line in of["=="]), log)

    @unittest.skipUnless(shutil.which("swaks"), "swaks is not installed")
    def test_swaks(self):
        done = subprocess.run(
            ["swaks", "--server", f"127.0.0.1:{self.server.port}", "--from", SENDER, "--to", *self.addresses("demo"), "--prdr", "--timeout", "20"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertIn(f"MAIL FROM:<{SENDER}> PRDR", done.stdout)


if __name__ == "__main__":
    cases.main()
