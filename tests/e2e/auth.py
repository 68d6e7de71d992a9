#!/usr/bin/env python3
"""Users log in with smtplib, swaks and msmtp, by each mechanism; nobody else does, and nobody submits without."""
import base64
import ctypes
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


def crypt_record(password, scheme, prefix, rounds):
    """By the system's libcrypt, as in /etc/shadow."""
    library = ctypes.CDLL("libcrypt.so.1")
    library.crypt_gensalt.restype = library.crypt.restype = ctypes.c_char_p
    setting = library.crypt_gensalt(prefix, ctypes.c_ulong(rounds), None, 0)
    return scheme + library.crypt(password.encode(), setting).decode()


class Submission(unittest.TestCase):
    """What the others inherit: one server with a listener for submission, whose clients are strangers."""

    @classmethod
    def serve(cls, name, **settings):
        """Starts it; `folder` must be there."""
        cls.pair = certificates.Pair("mx.example.test")
        cls.submission = system.free_port()
        cls.server = waxwing.Waxwing(name, smtpd_tls_chain_files=[cls.pair.chain], mynetworks=["192.0.2.0/24"], **settings)
        cls.server.settings["listen"].append({"name": "submission", "address": f"127.0.0.1:{cls.submission}", "kind": "submission"})
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        cls.pair.close()
        system.remove_folder(cls.folder)


class Auth(Submission):
    """One server with a listener for submission, whose clients are strangers."""

    @classmethod
    def setUpClass(cls):
        cls.folder = system.work_folder("users")
        users = os.path.join(cls.folder, "users")
        with open(users, "w") as file:
            file.write(f"{USER}:{sha512_record(PASSWORD)}\n{USER}:{scram_record(PASSWORD)}\n")
        system.give_to_service_user(users)
        cls.serve("auth", users=["file:" + users])
        cls.to = f"demo@{cls.server.domain}"

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


class Users(Submission):
    """`waxwing user` beside a server that runs: what it did counts at once."""

    @classmethod
    def setUpClass(cls):
        cls.folder = system.work_folder("managed")
        cls.users = os.path.join(cls.folder, "users")
        with open(cls.users, "w") as file:
            file.write("# ours\nrest:{PLAIN}x:1:2:::\n")
        os.chmod(cls.users, 0o640)
        system.give_to_service_user(cls.users)
        cls.serve("managed", users=["file:" + cls.users])

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
            (("add", "dora", "--in", "ldap:x"), "x\n", "not a user source"),
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


class Rehash(unittest.TestCase):
    """Old records are replaced when their users log in."""

    OLD = {
        "sha": ("{SHA512-CRYPT}", b"$6$", 5000),
        "blowfish": ("{BLF-CRYPT}", b"$2y$", 5),
        "yescrypt": ("", b"$y$", 1),
    }

    def setUp(self):
        self.pair = certificates.Pair("mx.example.test")
        self.addCleanup(self.pair.close)
        self.folder = system.work_folder("rehash")
        self.addCleanup(system.remove_folder, self.folder)
        self.users = os.path.join(self.folder, "users")
        with open(self.users, "w") as file:
            file.write("# old ones\n")
            file.writelines(f"{user}:{crypt_record('pw of ' + user, *how)}:1000::\n" for user, how in self.OLD.items())
        os.chmod(self.users, 0o600)
        system.give_to_service_user(self.users)

    def serve(self, **settings):
        server = waxwing.Waxwing("rehash", smtpd_tls_chain_files=[self.pair.chain], users=["file:" + self.users], smtpd_sasl_failure_delay="0s", **settings)
        self.addCleanup(server.close)
        return server.start()

    def login(self, server, user, password=None):
        """The code of the answer, and the mechanisms that were offered."""
        with smtplib.SMTP("127.0.0.1", server.port, local_hostname="client.example.test", timeout=30) as connection:
            connection.starttls(context=certificates.trusting_all())
            connection.ehlo()
            offered = connection.esmtp_features["auth"].split()
            connection.user, connection.password = user, password or f"pw of {user}"
            try:
                return connection.auth("PLAIN", connection.auth_plain)[0], offered
            except smtplib.SMTPAuthenticationError as refused:
                return refused.smtp_code, offered

    def records(self, user):
        with open(self.users) as file:
            return [line.strip() for line in file if line.startswith(user + ":")]

    def test_each_scheme_and_scram_at_the_end(self):
        server = self.serve(password_argon2_memory="8MiB", password_argon2_passes=3)
        for user in self.OLD:
            with self.subTest(user=user):
                self.assertEqual(self.login(server, user, "wrong")[0], 535)
                self.assertEqual(len(self.records(user)), 1)
                code, offered = self.login(server, user)
                self.assertEqual((code, "SCRAM-SHA-256" in offered), (235, False))
                system.wait_for("two records", lambda: len(self.records(user)) == 2)
                first, second = self.records(user)
                self.assertTrue(first.startswith(f"{user}:{{ARGON2ID}}$argon2id$v=19$m=8192,t=3,p=1$") and first.endswith(":1000::"), first)
                self.assertTrue(second.startswith(f"{user}:{{SCRAM-SHA-256}}4096,"), second)
                self.assertEqual(self.login(server, user)[0], 235)
                self.assertEqual(self.login(server, user, "wrong")[0], 535)
        self.assertIn("SCRAM-SHA-256", self.login(server, "sha")[1])
        done = subprocess.run(["msmtp", "--host=127.0.0.1", f"--port={server.port}", "--tls=on", "--tls-starttls=on", "--tls-certcheck=off", "--auth=scram-sha-256",
                               "--user=yescrypt", "--passwordeval=echo 'pw of yescrypt'", "--from=a@example.test", "--timeout=30", f"demo@{server.domain}"],
                              input="Subject: x\n\nx\n", capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(os.stat(self.users).st_mode & 0o777, 0o600)

    def test_a_folder_that_cannot_be_written_costs_one_warning(self):
        if not system.ROOT:
            self.skipTest("needs root")
        os.chown(self.folder, 0, 0)
        server = self.serve()
        for user in self.OLD:
            self.assertEqual(self.login(server, user)[0], 235)
        words = "can't be renewed at their logins"
        server.wait_for_log(words)
        for user in self.OLD:
            self.assertEqual(self.login(server, user)[0], 235)
        # The end waits for the renewals that have begun, and for the log.
        self.assertEqual(server.stop(), 0)
        self.assertEqual(server.ended_log().count(words), 1, server.ended_log())
        self.assertEqual([len(self.records(user)) for user in self.OLD], [1, 1, 1])

    def test_a_reload_takes_other_places_and_keys(self):
        server = self.serve(password_rehash=False)
        self.assertEqual(self.login(server, "sha")[0], 235)
        other = os.path.join(self.folder, "other")
        server.settings.update(users=["file:" + other], smtpd_sasl_failure_limit=2)
        server.write_config()
        add = [waxwing.program(), "user", "add", "dora", "--no-scram", "--config", server.config]
        subprocess.run(add, input="first", text=True, check=True, capture_output=True, timeout=60)
        system.give_to_service_user(other)
        server.ask("reload")
        self.assertEqual(self.login(server, "dora", "first")[0], 235)
        self.assertEqual([self.login(server, "sha")[0] for _ in range(3)], [535, 535, 454])
        self.assertEqual(len(self.records("sha")), 1)
        server.ask("reload")
        self.assertEqual(self.login(server, "dora", "first")[0], 454, "a reload forgives nothing")


class Store(unittest.TestCase):
    """Users in the server's own store."""

    @classmethod
    def setUpClass(cls):
        cls.pair = certificates.Pair("mx.example.test")
        cls.server = waxwing.Waxwing("store", smtpd_tls_chain_files=[cls.pair.chain], users=["store:"], smtpd_sasl_failure_delay="0s").start()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        cls.pair.close()

    def user(self, *arguments, password=None, **how):
        """Runs `waxwing user`; returns its exit code and what it printed."""
        done = subprocess.run([waxwing.program(), "user", *arguments, "--config", self.server.config], input=password, capture_output=True, text=True, timeout=60, **how)
        return done.returncode, done.stdout + done.stderr

    def login(self, user, password, mechanism="plain"):
        """Whether msmtp gets its message in."""
        done = subprocess.run(["msmtp", "--host=127.0.0.1", f"--port={self.server.port}", "--tls=on", "--tls-starttls=on", "--tls-certcheck=off",
                               f"--auth={mechanism}", f"--user={user}", f"--passwordeval=echo '{password}'", "--from=anna@example.test", "--timeout=30",
                               f"demo@{self.server.domain}"], input="Subject: x\n\nx\n", capture_output=True, text=True, timeout=60)
        return done.returncode == 0

    def test_a_user_comes_changes_stays_and_goes(self):
        self.assertEqual(self.user("add", "Ben", password="first secret\n"), (0, "added Ben in store:\n"))
        self.assertTrue(self.login("ben", "first secret"))
        self.assertTrue(self.login("ben", "first secret", "scram-sha-256"))
        self.assertEqual(self.user("list"), (0, "ben  ARGON2ID, SCRAM-SHA-256\n"))
        code, said = self.user("add", "ben", password="x\n")
        self.assertEqual((code, "already" in said), (1, True), said)
        self.assertEqual(self.user("passwd", "BEN", password="second secret\n")[0], 0)
        self.assertFalse(self.login("ben", "first secret"))
        self.server.restart()
        self.assertFalse(self.login("ben", "first secret"))
        self.assertTrue(self.login("ben", "second secret"))
        self.assertEqual(self.user("delete", "ben")[0], 0)
        self.assertFalse(self.login("ben", "second secret"))
        code, said = self.user("delete", "ben")
        self.assertEqual((code, "no user" in said), (1, True), said)

    def test_another_cost_is_taken_at_a_login(self):
        self.assertEqual(self.user("add", "cid", "--no-scram", password="a pencil\n")[0], 0)
        self.addCleanup(self.user, "delete", "cid")
        self.assertTrue(self.login("cid", "a pencil"))
        system.wait_for("keys for SCRAM", lambda: self.user("list") == (0, "cid  ARGON2ID, SCRAM-SHA-256\n"))
        self.assertTrue(self.login("cid", "a pencil", "scram-sha-256"))

    def test_only_root_and_its_owner_may(self):
        if not system.ROOT:
            self.skipTest("needs root")
        code, said = self.user("list", user="nobody", group="nogroup", extra_groups=[])
        self.assertEqual((code, "only root" in said), (1, True), said)


class Plugin(Submission):
    """A plugin knows the users: one by a token, one by a password, of one what is stored."""

    @classmethod
    def setUpClass(cls):
        cls.folder = system.work_folder("porter")
        cls.serve("porter", plugins={"porter": {"file": components.build(cls.folder, "porter"), "grants": {"credentials": True}}})

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
        self.server.wait_for_log("sasl_username=patricia")


if __name__ == "__main__":
    cases.main()
