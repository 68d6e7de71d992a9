#!/usr/bin/env python3
"""Other servers relay into ours: Postfix, Exim and OpenSMTPD, in plain text and over TLS; and swaks over each way to encrypt."""
import os
import shutil
import subprocess
import unittest

from harness import cases, certificates, client, components, maildir, messages, peers, postfix, system, waxwing

SENDER = "ann@example.test"
# What relays that speak their own submission change or cannot carry as it is.
CARRIED = ("plain", "dots", "eight_bit", "folded_header", "blank_lines", "line_of_998")
ADDED = messages.ADDED | {b"x-original-to", b"envelope-to", b"delivery-date"}
TLS_SETTINGS = "smtpd_tls_chain_files"


def knows_tls():
    """Whether the server that is tried has TLS."""
    with waxwing.Waxwing("knows") as server:
        server.stop()
        pair = certificates.Pair("mx.example.test")
        server.settings[TLS_SETTINGS] = [pair.chain]
        try:
            server.start(20)
            with client.Client(server.port) as connection:
                return "STARTTLS" in connection.extensions
        except AssertionError:
            return False
        finally:
            pair.close()


class Relays(unittest.TestCase):
    """Each server times each message, without and with TLS."""

    @classmethod
    def setUpClass(cls):
        cls.pair = certificates.Pair("mx.example.test")
        cls.tls = knows_tls()
        settings = {TLS_SETTINGS: [cls.pair.chain]} if cls.tls else {}
        cls.server = waxwing.Waxwing("relays", **settings).start()
        cls.to = f"demo@{cls.server.domain}"

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        cls.pair.close()

    def arrives(self, send, names=CARRIED, with_tls=False, also=None):
        corpus = messages.corpus()
        for name in names:
            with self.subTest(message=name):
                maildir.clear(self.server.maildir)
                send(corpus[name])
                arrived = maildir.wait_for_one(self.server.maildir, 40)
                self.assertIsNone(messages.difference(corpus[name], arrived, ADDED))
                newest = next(field for field in messages.split(arrived)[0] if field.lower().startswith(b"received:"))
                self.assertEqual(b"ESMTPS" in newest, with_tls, newest)
                if also:
                    also(arrived)

    def need_tls(self):
        if not self.tls:
            self.skipTest("this server has no TLS")

    def over_smtp(self, port):
        def send(message):
            with client.Client(port) as connection:
                connection.envelope(SENDER, self.to)
                connection.accepted(connection.data(message))
        return send

    def test_postfix(self):
        with postfix.Postfix(relayhost=f"[127.0.0.1]:{self.server.port}") as relay:
            self.arrives(self.over_smtp(relay.port))

    def test_postfix_over_tls(self):
        self.need_tls()
        with postfix.Postfix(relayhost=f"[127.0.0.1]:{self.server.port}", smtp_tls_security_level="encrypt", smtp_tls_loglevel="1") as relay:
            self.arrives(self.over_smtp(relay.port), with_tls=True)

    @unittest.skipUnless(os.path.exists(peers.EXIM), "PEERS names no folder with exim")
    def test_exim(self):
        relay = peers.Exim(self.server.port)
        self.addCleanup(relay.close)
        self.arrives(lambda message: self.by_exim(relay, message))

    @unittest.skipUnless(os.path.exists(peers.EXIM), "PEERS names no folder with exim")
    def test_exim_over_tls(self):
        self.need_tls()
        relay = peers.Exim(self.server.port, tls=True)
        self.addCleanup(relay.close)
        self.arrives(lambda message: self.assertIn(" X=TLS", self.by_exim(relay, message)), with_tls=True)

    def by_exim(self, relay, message):
        """Exim says K in its log where it sent by BDAT: it does wherever it is offered."""
        log = relay.send(message, SENDER, self.to)
        sent = [line for line in log.splitlines() if " => " in line][-1]
        with client.Client(self.server.port) as connection:
            self.assertEqual("CHUNKING" in connection.extensions, " K " in sent + " ", sent)
        return sent

    @unittest.skipUnless(os.path.exists(peers.OPENSMTPD), "PEERS names no folder with opensmtpd")
    def test_opensmtpd(self):
        relay = peers.OpenSmtpd(self.server.port).start()
        self.addCleanup(relay.close)
        self.arrives(self.over_smtp(relay.port))

    @unittest.skipUnless(os.path.exists(peers.OPENSMTPD), "PEERS names no folder with opensmtpd")
    def test_opensmtpd_over_tls(self):
        self.need_tls()
        relay = peers.OpenSmtpd(self.server.port, tls=True).start()
        self.addCleanup(relay.close)
        self.arrives(self.over_smtp(relay.port), with_tls=True)


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
        log = relay.send(messages.plain("exim"), SENDER, " ".join(self.addresses("demo", "never", "later")))
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


class Swaks(unittest.TestCase):
    """swaks over each way to encrypt."""

    @classmethod
    def setUpClass(cls):
        if not knows_tls():
            raise unittest.SkipTest("this server has no TLS")
        cls.pair = certificates.Pair("mx.example.test")
        cls.server = waxwing.Waxwing("swaks", **{TLS_SETTINGS: [cls.pair.chain]})
        cls.implicit, cls.strict = system.free_port(), system.free_port()
        cls.server.settings["listen"] += [
            {"name": "smtps", "address": f"127.0.0.1:{cls.implicit}", "kind": "smtp", "tls": "implicit"},
            {"name": "strict", "address": f"127.0.0.1:{cls.strict}", "kind": "smtp", "tls_required": True, "tls_protocols": ">=TLSv1.3"},
        ]
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        cls.pair.close()

    def swaks(self, port, *options):
        command = ["swaks", "--server", f"127.0.0.1:{port}", "--from", SENDER, "--to", f"demo@{self.server.domain}", "--helo", "client.example.test",
                   "--timeout", "30", *options]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def test_ways(self):
        for name, port, options, taken in (
            ("plain", self.server.port, (), True),
            ("STARTTLS", self.server.port, ("--tls",), True),
            ("STARTTLS 1.2", self.server.port, ("--tls", "--tls-protocol", "tlsv1_2"), True),
            ("STARTTLS 1.3", self.server.port, ("--tls", "--tls-protocol", "tlsv1_3"), True),
            ("TLS 1.1", self.server.port, ("--tls", "--tls-protocol", "tlsv1_1"), False),
            ("from the beginning", self.implicit, ("--tls-on-connect",), True),
            ("plain where TLS is required", self.strict, (), False),
            ("1.2 where 1.3 is required", self.strict, ("--tls", "--tls-protocol", "tlsv1_2"), False),
            ("1.3 where it is required", self.strict, ("--tls", "--tls-protocol", "tlsv1_3"), True),
            ("1.3 with our name asked for", self.strict, ("--tls", "--tls-sni", "mx.example.test"), True),
        ):
            with self.subTest(way=name):
                maildir.clear(self.server.maildir)
                done = self.swaks(port, *options)
                self.assertEqual(done.returncode == 0, taken, done.stdout[-1500:] + done.stderr[-500:])
                if taken:
                    arrived = maildir.wait_for_one(self.server.maildir)
                    self.assertEqual(b"ESMTPS" in arrived, bool(options), arrived[:600])


if __name__ == "__main__":
    cases.main()
