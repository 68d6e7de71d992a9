#!/usr/bin/env python3
"""swaks over each way to encrypt that it knows, and with each mechanism of AUTH that it has, over each of them."""
import os
import subprocess
import unittest

from harness import cases, certificates, maildir, system, waxwing

SENDER = "ann@example.test"
HOST = "mx.example.test"
USER, PASSWORD = "anna", "a pencil"
# Of swaks's mechanisms: what it shares with us, and what needs the password on the server, or a broken hash.
OURS, FOREIGN = ("PLAIN", "LOGIN"), ("CRAM-MD5", "CRAM-SHA1", "DIGEST-MD5", "NTLM")


class Swaks(unittest.TestCase):
    """One server with a listener of each kind; its clients may relay only where they have a name."""

    @classmethod
    def setUpClass(cls):
        cls.pair, cls.other = certificates.Pair(HOST), certificates.Pair("client.example.test")
        cls.server = waxwing.Waxwing("swaks", smtpd_tls_chain_files=[cls.pair.chain], smtpd_tls_CAfile=cls.other.certificate,
                                     users_plaintext=True, mynetworks=["192.0.2.0/24"])
        users = os.path.join(cls.server.folder, "users")
        with open(users, "w") as file:
            file.write(f"{USER}:{{PLAIN}}{PASSWORD}\n")
        cls.server.settings["users"] = ["file:" + users]
        names = ("smtps", "strict", "none", "asking", "submission", "submissions")
        cls.ports = {name: system.free_port() for name in names}

        def listen(name, kind, **keys):
            return {"name": name, "address": f"127.0.0.1:{cls.ports[name]}", "kind": kind, **keys}

        cls.server.settings["listen"] += [
            listen("smtps", "smtp", tls="implicit"),
            listen("strict", "smtp", tls_required=True, tls_protocols=">=TLSv1.3"),
            listen("none", "smtp", tls="none"),
            listen("asking", "smtp", tls="implicit", client_certificates="ask"),
            listen("submission", "submission"),
            listen("submissions", "submission", tls="implicit"),
        ]
        cls.server.start()
        cls.ports["smtp"] = cls.server.port

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        cls.pair.close()
        cls.other.close()

    def swaks(self, listener, *options):
        command = ["swaks", "--server", f"127.0.0.1:{self.ports[listener]}", "--from", SENDER, "--to", f"demo@{self.server.domain}",
                   "--helo", "client.example.test", "--timeout", "30", *options]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def way(self, listener, options, protocol):
        """What Received says of mail that came this way; `protocol` None: none comes."""
        maildir.clear(self.server.maildir)
        done = self.swaks(listener, *options)
        said = done.stdout[-1500:] + done.stderr[-500:]
        self.assertEqual(done.returncode == 0, protocol is not None, said)
        if protocol:
            arrived = maildir.wait_for_one(self.server.maildir).decode()
            self.assertRegex(arrived, rf"\bwith {protocol} id ")
            self.assertEqual("(using TLSv1." in arrived, "S" in protocol.removeprefix("ESMTP"), arrived[:600])
            if "--tls-protocol" in options:
                self.assertIn("(using TLSv1." + options[options.index("--tls-protocol") + 1][-1], arrived)
        return done.stdout

    def test_ways_to_encrypt(self):
        trusting, name = ("--tls-verify", "--tls-ca-path", self.pair.certificate), ("--tls-sni", HOST)
        shown = ("--tls-cert", self.other.certificate, "--tls-key", self.other.key)
        for what, listener, options, protocol in (
            ("none", "smtp", (), "ESMTP"),
            ("STARTTLS", "smtp", ("--tls",), "ESMTPS"),
            ("STARTTLS if there is, and there is", "smtp", ("--tls-optional",), "ESMTPS"),
            ("STARTTLS if there is, and there is none", "none", ("--tls-optional",), "ESMTP"),
            ("STARTTLS that works if there is", "smtp", ("--tls-optional-strict",), "ESMTPS"),
            ("STARTTLS where there is none", "none", ("--tls",), None),
            ("from the beginning", "smtps", ("--tls-on-connect",), "ESMTPS"),
            ("from the beginning, where it is not", "smtp", ("--tls-on-connect",), None),
            ("STARTTLS within TLS", "smtps", ("--tls",), None),
            ("1.0", "smtp", ("--tls", "--tls-protocol", "tlsv1"), None),
            ("1.1", "smtp", ("--tls", "--tls-protocol", "tlsv1_1"), None),
            ("1.2", "smtp", ("--tls", "--tls-protocol", "tlsv1_2"), "ESMTPS"),
            ("1.3", "smtp", ("--tls", "--tls-protocol", "tlsv1_3"), "ESMTPS"),
            ("1.1 from the beginning", "smtps", ("--tls-on-connect", "--tls-protocol", "tlsv1_1"), None),
            ("1.2 from the beginning", "smtps", ("--tls-on-connect", "--tls-protocol", "tlsv1_2"), "ESMTPS"),
            ("1.3 from the beginning", "smtps", ("--tls-on-connect", "--tls-protocol", "tlsv1_3"), "ESMTPS"),
            ("a cipher that is ours", "smtp", ("--tls", "--tls-protocol", "tlsv1_2", "--tls-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"), "ESMTPS"),
            ("a cipher that is not", "smtp", ("--tls", "--tls-protocol", "tlsv1_2", "--tls-cipher", "ECDHE-ECDSA-AES128-SHA"), None),
            ("plain where TLS is required", "strict", (), None),
            ("1.2 where 1.3 is required", "strict", ("--tls", "--tls-protocol", "tlsv1_2"), None),
            ("1.3 where it is required", "strict", ("--tls", "--tls-protocol", "tlsv1_3"), "ESMTPS"),
            ("our name asked for, our certificate verified", "smtp", ("--tls", *name, *trusting), "ESMTPS"),
            ("a certificate of the client's", "asking", ("--tls-on-connect", *shown), "ESMTPS"),
        ):
            with self.subTest(way=what):
                self.way(listener, options, protocol)

    def test_mechanisms(self):
        right = ("--auth-user", USER, "--auth-password", PASSWORD)
        for listener, how in (("submission", "--tls"), ("submission", "--tls-optional"), ("submissions", "--tls-on-connect"), ("smtp", "--tls")):
            for mechanism in (*OURS, None):
                with self.subTest(listener=listener, how=how, mechanism=mechanism):
                    self.way(listener, (how, "--auth", *filter(None, [mechanism]), *right), "ESMTPSA")
            for mechanism in FOREIGN:
                with self.subTest(listener=listener, how=how, mechanism=mechanism):
                    self.way(listener, (how, "--auth", mechanism, *right), None)

    def test_who_is_nobody(self):
        wrong = ("--auth-user", USER, "--auth-password", "a pen")
        right = ("--auth-user", USER, "--auth-password", PASSWORD)
        for mechanism in OURS:
            with self.subTest(mechanism=mechanism, what="a wrong password"):
                self.assertIn("535 5.7.8", self.way("submission", ("--tls", "--auth", mechanism, *wrong), None))
            with self.subTest(mechanism=mechanism, what="nothing is offered in plain text"):
                said = self.way("submission", ("--auth", mechanism, *right), None)
                self.assertNotIn("AUTH PLAIN", said)
        with self.subTest(what="no name at all"):
            self.assertIn("530 5.7.0", self.way("submission", ("--tls",), None))


if __name__ == "__main__":
    cases.main()
