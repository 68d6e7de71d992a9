#!/usr/bin/env python3
"""Users log in with smtplib, swaks and msmtp, by each mechanism; nobody else does, and nobody submits without."""
import base64
import hashlib
import hmac
import os
import smtplib
import subprocess
import unittest

from harness import cases, certificates, components, system, waxwing

USER, PASSWORD = "anna", "a pencil"


def scram_record(password, salt=b"0123456789abcdef", rounds=4096):
    """What Dovecot's doveadm pw -s SCRAM-SHA-256 makes (RFC 5802 section 3)."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    client, server = (hmac.digest(salted, word, "sha256") for word in (b"Client Key", b"Server Key"))
    parts = (salt, hashlib.sha256(client).digest(), server)
    return "{SCRAM-SHA-256}" + ",".join([str(rounds), *(base64.b64encode(part).decode() for part in parts)])


def sha512_record(password):
    """By openssl's own crypt."""
    done = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=password, capture_output=True, text=True, check=True)
    return "{SHA512-CRYPT}" + done.stdout.strip()


class Auth(unittest.TestCase):
    """One server with a listener for submission, whose clients are strangers."""

    @classmethod
    def setUpClass(cls):
        cls.pair = certificates.Pair("mx.example.test")
        cls.folder = system.work_folder("users")
        users = os.path.join(cls.folder, "users")
        with open(users, "w") as file:
            file.write(f"{USER}:{sha512_record(PASSWORD)}\n{USER}:{scram_record(PASSWORD)}\n")
        system.give_to_service_user(users)
        cls.submission = system.free_port()
        cls.server = waxwing.Waxwing("auth", smtpd_tls_chain_files=[cls.pair.chain], users=["file:" + users], mynetworks=["192.0.2.0/24"])
        cls.server.settings["listen"].append({"name": "submission", "address": f"127.0.0.1:{cls.submission}", "kind": "submission"})
        cls.server.start()
        cls.to = f"demo@{cls.server.domain}"

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        cls.pair.close()
        system.remove_folder(cls.folder)

    def connect(self, tls=True):
        connection = smtplib.SMTP("127.0.0.1", self.submission, local_hostname="client.example.test", timeout=30)
        self.addCleanup(connection.close)
        connection.ehlo()
        if tls:
            connection.starttls(context=certificates.trusting_all())
            connection.ehlo()
        return connection

    def test_nothing_is_offered_in_plain_text(self):
        connection = self.connect(tls=False)
        self.assertNotIn("auth", connection.esmtp_features)
        self.assertEqual(connection.docmd("AUTH", "PLAIN AGFubmEAcGVuY2ls")[0], 538)

    def test_nobody_submits_without_a_name(self):
        connection = self.connect()
        self.assertEqual(connection.docmd("MAIL", "FROM:<anna@example.test>")[0], 530)

    def test_smtplib_by_plain_and_login(self):
        for way in ("auth_plain", "auth_login"):
            with self.subTest(way=way):
                connection = self.connect()
                connection.user, connection.password = USER, PASSWORD
                mechanism = way.removeprefix("auth_").upper()
                self.assertEqual(connection.auth(mechanism, getattr(connection, way))[0], 235)
                connection.sendmail("anna@example.test", [self.to], "Subject: x\r\n\r\nx\r\n")

    def test_a_wrong_password_and_nobody_hear_the_same(self):
        heard = set()
        for user, password in ((USER, "a pen"), ("nobody", PASSWORD)):
            connection = self.connect()
            with self.assertRaises(smtplib.SMTPAuthenticationError) as refused:
                connection.login(user, password)
            heard.add((refused.exception.smtp_code, refused.exception.smtp_error))
        self.assertEqual({code for code, _ in heard}, {535})
        self.assertEqual(len(heard), 1)

    def test_swaks(self):
        for mechanism in ("PLAIN", "LOGIN"):
            with self.subTest(mechanism=mechanism):
                done = subprocess.run(["swaks", "--server", f"127.0.0.1:{self.submission}", "--tls", "--auth", mechanism, "--auth-user", USER,
                                       "--auth-password", PASSWORD, "--from", "anna@example.test", "--to", self.to], stdin=subprocess.DEVNULL,
                                      capture_output=True, text=True, timeout=60)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_msmtp(self):
        ways = ["plain", "login"]
        known = subprocess.run(["msmtp", "--version"], capture_output=True, text=True).stdout
        ways += [way for way in ("scram-sha-256",) if way in known]
        for way in ways:
            for password, right in ((PASSWORD, True), ("a pen", False)):
                with self.subTest(way=way, right=right):
                    done = subprocess.run(["msmtp", "--host=127.0.0.1", f"--port={self.submission}", "--tls=on", "--tls-starttls=on", "--tls-certcheck=off",
                                           f"--auth={way}", f"--user={USER}", f"--passwordeval=echo '{password}'", "--from=anna@example.test",
                                           "--timeout=30", self.to], input="Subject: x\n\nx\n", capture_output=True, text=True, timeout=60)
                    self.assertEqual(done.returncode == 0, right, done.stderr)


class Plugin(unittest.TestCase):
    """A plugin knows the users: one by a token, one by a password, of one what is stored."""

    @classmethod
    def setUpClass(cls):
        cls.pair = certificates.Pair("mx.example.test")
        cls.folder = system.work_folder("porter")
        cls.submission = system.free_port()
        porter = {"file": components.build(cls.folder, "porter"), "grants": {"credentials": True}}
        cls.server = waxwing.Waxwing("porter", smtpd_tls_chain_files=[cls.pair.chain], mynetworks=["192.0.2.0/24"], plugins={"porter": porter})
        cls.server.settings["listen"].append({"name": "submission", "address": f"127.0.0.1:{cls.submission}", "kind": "submission"})
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        cls.pair.close()
        system.remove_folder(cls.folder)

    def test_msmtp(self):
        for way, user, secret, right in (
            ("oauthbearer", "tom", "t0ken", True),
            ("xoauth2", "tom", "t0ken", True),
            ("oauthbearer", "tom", "stale", False),
            ("xoauth2", "nobody", "t0ken", False),
            ("plain", "pat", "guest", True),
            ("plain", "pat", "t0ken", False),
            ("login", "ali", "open sesame", True),
            ("plain", "ali", "close sesame", False),
        ):
            with self.subTest(way=way, user=user, right=right):
                done = subprocess.run(["msmtp", "--host=127.0.0.1", f"--port={self.submission}", "--tls=on", "--tls-starttls=on", "--tls-certcheck=off",
                                       f"--auth={way}", f"--user={user}", f"--passwordeval=echo '{secret}'", "--from=anna@example.test", "--timeout=30",
                                       f"demo@{self.server.domain}"], input="Subject: x\n\nx\n", capture_output=True, text=True, timeout=60)
                self.assertEqual(done.returncode == 0, right, done.stderr)
        self.assertIn("sasl_username=patricia", self.server.text_log())


if __name__ == "__main__":
    cases.main()
