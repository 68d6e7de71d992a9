#!/usr/bin/env python3
"""Users log in with smtplib, swaks and msmtp, by each mechanism; nobody else does, and nobody submits without."""
import base64
import hashlib
import hmac
import json
import os
import pty
import smtplib
import subprocess
import termios
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


class Users(unittest.TestCase):
    """`waxwing user` beside a server that runs: what it did counts at once."""

    @classmethod
    def setUpClass(cls):
        cls.pair = certificates.Pair("mx.example.test")
        cls.folder = system.work_folder("managed")
        cls.users = os.path.join(cls.folder, "users")
        with open(cls.users, "w") as file:
            file.write("# ours\nrest:{PLAIN}x:1:2:::\n")
        os.chmod(cls.users, 0o640)
        system.give_to_service_user(cls.users)
        cls.submission = system.free_port()
        cls.server = waxwing.Waxwing("managed", smtpd_tls_chain_files=[cls.pair.chain], users=["file:" + cls.users], mynetworks=["192.0.2.0/24"])
        cls.server.settings["listen"].append({"name": "submission", "address": f"127.0.0.1:{cls.submission}", "kind": "submission"})
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        cls.pair.close()
        system.remove_folder(cls.folder)

    def user(self, *arguments, password=None):
        """Runs `waxwing user`; returns its exit code and what it printed."""
        done = subprocess.run([waxwing.program(), "user", *arguments, "--config", self.server.config], input=password, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def swaks(self, user, password, mechanism="PLAIN"):
        """Whether swaks gets its message in."""
        done = subprocess.run(["swaks", "--server", f"127.0.0.1:{self.submission}", "--tls", "--auth", mechanism, "--auth-user", user,
                               "--auth-password", password, "--from", "anna@example.test", "--to", f"demo@{self.server.domain}"], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)
        return done.returncode == 0

    def msmtp(self, way, user, password):
        """Whether msmtp gets its message in."""
        done = subprocess.run(["msmtp", "--host=127.0.0.1", f"--port={self.submission}", "--tls=on", "--tls-starttls=on", "--tls-certcheck=off",
                               f"--auth={way}", f"--user={user}", f"--passwordeval=echo '{password}'", "--from=anna@example.test", "--timeout=30",
                               f"demo@{self.server.domain}"], input="Subject: x\n\nx\n", capture_output=True, text=True, timeout=60)
        return done.returncode == 0

    def lines(self):
        with open(self.users) as file:
            return file.read().splitlines()

    def test_a_user_comes_changes_and_goes(self):
        before = os.stat(self.users)
        code, said = self.user("add", "Ben", password="first secret\n")
        self.assertEqual((code, "first secret" in said), (0, False), said)
        self.assertEqual([line.partition("}")[0] for line in self.lines()], ["# ours", "rest:{PLAIN", "Ben:{ARGON2ID", "Ben:{SCRAM-SHA-256"])
        self.assertEqual(self.lines()[1], "rest:{PLAIN}x:1:2:::")
        after = os.stat(self.users)
        self.assertEqual((before.st_uid, before.st_gid, before.st_mode), (after.st_uid, after.st_gid, after.st_mode))
        self.assertEqual(os.listdir(self.folder), ["users"])
        self.assertTrue(self.swaks("ben", "first secret"))
        self.assertTrue(self.msmtp("plain", "ben", "first secret"))
        self.assertEqual(self.user("add", "ben", password="x\n")[0], 1)
        self.assertEqual(self.user("passwd", "ben", password="second secret\n")[0], 0)
        self.assertFalse(self.swaks("ben", "first secret"), "although it was verified a moment ago")
        self.assertTrue(self.swaks("ben", "second secret"))
        self.assertEqual(self.user("delete", "ben")[0], 0)
        self.assertFalse(self.swaks("ben", "second secret"))
        self.assertEqual(len(self.lines()), 2)

    def test_scram_while_all_have_keys(self):
        users = os.path.join(self.folder, "own")
        self.assertEqual(self.user("add", "cid", "--in", "file:" + users, password="a pencil\n")[0], 0)
        self.addCleanup(os.remove, users)
        self.assertEqual(os.stat(users).st_mode & 0o777, 0o600)
        done = subprocess.run([waxwing.program(), "user", "list", "--json", "--in", "file:" + users, "--config", self.server.config], capture_output=True, text=True)
        self.assertEqual(json.loads(done.stdout), {"user": "cid", "schemes": ["ARGON2ID", "SCRAM-SHA-256"], "place": "file:" + users})
        self.assertEqual(self.user("passwd", "cid", "--no-scram", "--in", "file:" + users, password="b\n")[0], 0)
        self.assertEqual(self.user("list", "--in", "file:" + users), (0, "cid  ARGON2ID\n"))

    def test_mistakes_are_told_and_change_nothing(self):
        before = self.lines()
        for arguments, password, words in (
            (("add", "a:b"), "x\n", "':'"),
            (("add", "dora"), "\n", "1 to 1024 octets"),
            (("add", "rest"), "x\n", "already"),
            (("passwd", "nobody"), "x\n", "no user"),
            (("delete", "nobody"), None, "no user"),
            (("add", "dora", "--in", "ldap:x"), "x\n", "no place"),
        ):
            with self.subTest(arguments=arguments):
                code, said = self.user(*arguments, password=password)
                self.assertEqual((code, words in said), (1, True), said)
        self.assertEqual(self.lines(), before)

    def test_on_a_terminal_it_asks_twice_without_an_echo(self):
        for second, code in (("a pencil", 0), ("a pen", 1)):
            with self.subTest(second=second):
                pid, terminal = pty.fork()
                if pid == 0:
                    os.execv(waxwing.program(), ["waxwing", "user", "add", "eve", "--config", self.server.config])
                shown = b""
                for question, answer in ((b"Password for eve: ", "a pencil"), (b"Once more, the password for eve: ", second)):
                    while question not in shown:
                        shown += os.read(terminal, 1000)
                    system.wait_for("the echo to be off", lambda: not termios.tcgetattr(terminal)[3] & termios.ECHO)
                    os.write(terminal, answer.encode() + b"\n")
                try:
                    while piece := os.read(terminal, 1000):
                        shown += piece
                except OSError:  # The other end is closed.
                    pass
                self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), code, shown)
                self.assertNotIn(b"pencil", shown)
                self.user("delete", "eve")


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
