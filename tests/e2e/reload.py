#!/usr/bin/env python3
"""`waxwing reload` under load: no session is dropped, no message is lost, a mistake leaves everything as it was. And what a supervisor
sees: readiness, sockets that it hands over, the end."""
import os
import shutil
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
import time
import unittest

from harness import cases, certificates, client, maildir, messages, system, waxwing
from harness.load import Load

RELOADS = 30
# Certificates are looked at every two seconds, users each second.
SEEN_SECONDS_MAX = 60
SESSIONS = 6
PAUSE_SECONDS = 0.01
END_SECONDS_MAX = 10
# Binds a port, hands it over as systemd does, and becomes the server.
HAND_OVER = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="smtp")
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Reload(unittest.TestCase):
    """One server whose configuration changes again and again."""

    @classmethod
    def setUpClass(cls):
        cls.server = waxwing.Waxwing("renewed").start()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def setUp(self):
        self.good = dict(self.server.settings)

    def tearDown(self):
        self.server.settings = self.good
        self.server.write_config()
        self.server.ask("reload")

    def reload(self, **settings):
        """The answer to a reload with these settings beside the others."""
        self.server.settings.update(settings)
        self.server.write_config()
        answer, = self.server.ask("reload")
        return answer

    def refused(self):
        """What `waxwing reload` says when it must fail."""
        # With the socket, so that the command does not find the mistake itself when it looks for that.
        command = [waxwing.program(), "reload", "--socket", os.path.join(self.server.queue, "control")]
        done = subprocess.run(command, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return done.stderr

    def test_1_under_load(self):
        before = len(maildir.files(self.server.maildir))
        with Load(self.server, SESSIONS, PAUSE_SECONDS) as load:
            for number in range(1, RELOADS + 1):
                self.reload(smtpd_banner=f"$myhostname version {number}", hopcount_limit=50 + number,
                            virtual_alias_maps={f"alias{number}@{self.server.domain}": f"demo@{self.server.domain}"})
                with client.Client(self.server.port) as new:
                    self.assertTrue(new.greeting[1].endswith(f"version {number}"), new.greeting)
                    new.envelope("ann@example.test", f"alias{number}@{self.server.domain}")
                    code, _ = new.command(f"RCPT TO:<alias{number - 1}@{self.server.domain}>")
                    self.assertEqual(code, 550, "the alias of the configuration before")
                sent = len(load.sent)
                system.wait_for("mail to pass", lambda: load.errors or len(load.sent) > sent)
        self.assertEqual(load.errors, [], "a session was dropped or refused")
        self.server.wait_until_idle()
        arrived = len(maildir.files(self.server.maildir)) - before
        self.assertEqual(arrived, len(load.sent), "messages were lost or doubled")
        print(f"      {RELOADS} reloads under {SESSIONS} sessions: {len(load.sent)} messages, none lost", flush=True)

    def test_2_an_open_session_keeps_what_it_began_with(self):
        with client.Client(self.server.port) as old:
            self.reload(virtual_mailbox_domains=["elsewhere.test"], virtual_mailbox_maps={"demo@elsewhere.test": "demo/Maildir/"})
            old.envelope("ann@example.test", f"demo@{self.server.domain}")
            with client.Client(self.server.port, source="127.0.0.2") as new:
                new.envelope("ann@example.test", "demo@elsewhere.test")

    def test_3_a_mistake_leaves_everything(self):
        taken = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(taken.close)
        port = taken.getsockname()[1]
        nowhere = os.path.join(self.server.folder, "no-such-file")
        for settings, words in [
            ({"hopcount_limt": 5}, "hopcount_limit"),
            ({"virtual_alias_maps": f"texthash:{nowhere}"}, "no-such-file"),
            ({"plugins": {"guest": {"file": nowhere}}}, "no-such-file"),
            ({"listen": self.good["listen"] + [{"name": "two", "address": f"127.0.0.1:{port}"}]}, "listener \"two\""),
        ]:
            with self.subTest(words):
                self.server.settings = {**self.good, **settings, "smtpd_banner": "$myhostname never"}
                self.server.write_config()
                before = self.server.log_octets()
                self.assertIn(words, self.refused())
                self.server.wait_for_log("not reloaded", after=before)
                with client.Client(self.server.port) as connection:
                    self.assertFalse(connection.greeting[1].endswith("never"))
                    connection.deliver(messages.plain("still"), "ann@example.test", f"demo@{self.server.domain}")
        self.assertIsNone(self.server.process.poll())

    def test_4_listeners_come_and_go(self):
        port = system.free_port()
        answer = self.reload(listen=self.good["listen"] + [{"name": "two", "address": f"127.0.0.1:{port}"}])
        self.assertEqual(answer["opened"], [f"two on 127.0.0.1:{port}"])
        with client.Client(port) as connection:
            answer = self.reload(listen=self.good["listen"])
            self.assertEqual(answer["closed"], [f"two on 127.0.0.1:{port}"])
            system.wait_for("the listener to close", lambda: not system.accepts(port))
            connection.deliver(messages.plain("kept"), "ann@example.test", f"demo@{self.server.domain}")

    def test_5_what_waits_for_the_next_start_is_named(self):
        answer = self.reload(message_size_limit="32MiB", runtime={"workers": 2})
        self.assertEqual(answer["next_start"], ["message_size_limit", "runtime"])

    def test_6_sighup_reloads(self):
        self.server.settings["smtpd_banner"] = "$myhostname by signal"
        self.server.write_config()
        os.kill(self.server.process.pid, signal.SIGHUP)

        def greets():
            with client.Client(self.server.port) as connection:
                return connection.greeting[1].endswith("by signal")
        system.wait_for("the new greeting", greets)


class Secrets(unittest.TestCase):
    """Certificates and users that change, in their files and by another configuration: who begins then gets the new ones, who has begun goes on."""

    def setUp(self):
        self.pairs = [certificates.Pair(f"mx{number}.example.test") for number in range(2)]
        self.server = waxwing.Waxwing("secrets", mynetworks=["192.0.2.0/24"], users_plaintext=True)
        self.chain = os.path.join(self.server.folder, "chain.pem")
        self.users = os.path.join(self.server.folder, "users")
        self.write(self.chain, self.content(0))
        self.write_users(anna="one")
        self.server.settings |= {"smtpd_tls_chain_files": [self.chain], "users": ["file:" + self.users]}
        self.server.start()
        self.addCleanup(self.close)

    def close(self):
        self.server.close()
        for pair in self.pairs:
            pair.close()

    def content(self, number):
        with open(self.pairs[number].chain) as file:
            return file.read()

    def write(self, path, text):
        """In one step, as tools that renew certificates do."""
        with open(path + ".new", "w") as file:
            file.write(text)
        os.chmod(path + ".new", 0o600)
        system.give_to_service_user(path + ".new")
        os.replace(path + ".new", path)

    def write_users(self, **passwords):
        self.write(self.users, "".join(f"{user}:{{PLAIN}}{password}\n" for user, password in passwords.items()))

    def connect(self):
        connection = smtplib.SMTP("127.0.0.1", self.server.port, local_hostname="client.example.test", timeout=30)
        self.addCleanup(connection.close)
        connection.starttls(context=certificates.trusting_all())
        return connection

    def shown(self):
        """Which of the pairs a new session is shown."""
        connection = self.connect()
        pem = ssl.DER_cert_to_PEM_cert(connection.sock.getpeercert(binary_form=True))
        connection.quit()
        found = []
        for number, pair in enumerate(self.pairs):
            with open(pair.certificate) as file:
                if "".join(file.read().split()) == "".join(pem.split()):
                    found.append(number)
        return found

    def logs_in(self, user, password):
        connection = self.connect()
        try:
            connection.login(user, password)
            return True
        except smtplib.SMTPAuthenticationError as refused:
            self.assertEqual(refused.smtp_code, 535)
            return False
        finally:
            connection.close()

    def begun(self):
        """A session of anna's in the midst of a transaction."""
        connection = self.connect()
        connection.login("anna", "one")
        self.assertEqual(connection.mail("anna@example.test")[0], 250)
        self.assertEqual(connection.rcpt(f"demo@{self.server.domain}")[0], 250)
        return connection

    def goes_on(self, connection):
        self.assertEqual(connection.data(messages.plain("begun"))[0], 250)
        # Still somebody, who may submit.
        connection.sendmail("anna@example.test", [f"demo@{self.server.domain}"], messages.plain("more"))
        connection.quit()
        system.wait_for("both messages", lambda: len(maildir.files(self.server.maildir)) == 2)

    def reload(self, **settings):
        """Whether it was taken, and what was said."""
        self.server.settings |= settings
        self.server.write_config()
        command = [waxwing.program(), "reload", "--socket", os.path.join(self.server.queue, "control")]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        return done.returncode == 0, done.stdout + done.stderr

    def test_a_replaced_certificate_is_served_without_a_reload(self):
        session = self.begun()
        self.write(self.chain, self.content(1))
        system.wait_for("the new certificate", lambda: self.shown() == [1], SEEN_SECONDS_MAX)
        self.goes_on(session)
        # Nor is a key without its certificate, half a file, or none.
        with open(self.pairs[0].key) as key, open(self.pairs[1].certificate) as certificate:
            foreign = key.read() + certificate.read()
        for text in (foreign, self.content(0)[:300], ""):
            with self.subTest(text=text[:40], length=len(text)):
                before = self.server.log_octets()
                self.write(self.chain, text)
                line = self.server.wait_for_log("changed certificates can't be used", 1, SEEN_SECONDS_MAX, before)[-1]
                self.assertIn(self.chain, line)
                self.assertIn("the previous certificates stay in use", line)
                self.assertEqual(self.shown(), [1])

    def test_another_certificate_by_reload(self):
        session = self.begun()
        # Seen at once: a reload does not wait for the next look at the files.
        self.write(self.chain, self.content(1))
        taken, said = self.reload()
        self.assertTrue(taken, said)
        self.assertEqual(self.shown(), [1])
        taken, said = self.reload(smtpd_tls_chain_files=[self.pairs[0].chain])
        self.assertTrue(taken, said)
        self.assertEqual(self.shown(), [0])
        bad = os.path.join(self.server.folder, "bad.pem")
        self.write(bad, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        for file in (bad, os.path.join(self.server.folder, "no-such.pem")):
            with self.subTest(file=file):
                taken, said = self.reload(smtpd_tls_chain_files=[file], smtpd_banner="$myhostname never")
                self.assertFalse(taken, said)
                self.assertIn(file, said)
                self.assertEqual(self.shown(), [0])
                with client.Client(self.server.port) as connection:
                    self.assertFalse(connection.greeting[1].endswith("never"))
        self.server.wait_for_log("not reloaded")
        self.goes_on(session)

    def test_users_in_a_changed_file(self):
        session = self.begun()
        # The login is remembered, and forgotten with its record.
        self.assertTrue(self.logs_in("anna", "one"))
        self.write_users(anna="two", ben="three")
        system.wait_for("the new password", lambda: self.logs_in("anna", "two"), SEEN_SECONDS_MAX)
        self.assertFalse(self.logs_in("anna", "one"))
        self.assertTrue(self.logs_in("ben", "three"))
        self.write_users(ben="three")
        system.wait_for("anna to be gone", lambda: not self.logs_in("anna", "two"), SEEN_SECONDS_MAX)
        self.assertTrue(self.logs_in("ben", "three"))
        os.unlink(self.users)

        def noticed():
            # A login is what looks at the file.
            self.assertTrue(self.logs_in("ben", "three"), "a file that is gone keeps its last content")
            return "its last content stays in use" in self.server.complete_log()

        system.wait_for("the server to notice that the file is gone", noticed, SEEN_SECONDS_MAX)
        self.goes_on(session)

    def test_other_users_by_reload(self):
        session = self.begun()
        others = os.path.join(self.server.folder, "others")
        self.write(others, "ben:{PLAIN}three\n")
        taken, said = self.reload(users=["file:" + others])
        self.assertTrue(taken, said)
        self.assertTrue(self.logs_in("ben", "three"))
        self.assertFalse(self.logs_in("anna", "one"))
        nowhere = os.path.join(self.server.folder, "nowhere")
        taken, said = self.reload(users=["file:" + nowhere])
        self.assertFalse(taken, said)
        self.assertIn(nowhere, said)
        self.assertTrue(self.logs_in("ben", "three"))
        self.goes_on(session)


class Supervised(unittest.TestCase):
    """What a supervisor sees and does."""

    def test_sockets_readiness_and_the_end(self):
        server = waxwing.Waxwing("supervised")
        self.addCleanup(server.close)
        path = os.path.join(server.folder, "notify")
        supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        supervisor.bind(path)
        os.chmod(path, 0o777)
        supervisor.settimeout(30)
        self.addCleanup(supervisor.close)
        server.wrap = [shutil.which("python3", path="/usr/bin:/bin") or sys.executable, "-c", HAND_OVER, str(server.port)]
        server.env = {"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "400000"}
        # Of another address: the socket is found by its name.
        server.settings["listen"] = [{"name": "smtp", "address": "127.0.0.1:1"}]
        log = os.path.join(server.folder, "own")
        os.mkdir(log)
        system.give_to_service_user(log)
        log = os.path.join(log, "waxwing.log")
        server.settings["log"] = {"file": log}
        server.start()
        heard = set()
        while not {"READY=1", "WATCHDOG=1"} <= heard:
            heard.add(supervisor.recv(100).decode())
        server.ask("reload")
        while not {"RELOADING=1"} <= heard:
            heard.add(supervisor.recv(100).decode())
        os.rename(log, log + ".1")
        os.kill(server.process.pid, signal.SIGUSR1)


        def logs_anew():
            client.Client(server.port).close()
            return os.path.exists(log)

        system.wait_for("the log file to be opened again", logs_anew)
        idle = client.Client(server.port)
        busy = client.Client(server.port)
        busy.envelope("ann@example.test", f"demo@{server.domain}")
        began = time.monotonic()
        os.kill(server.process.pid, signal.SIGTERM)
        for connection in (idle, busy):
            self.assertEqual(connection.reply()[0], 421)
            with self.assertRaises(ConnectionError):
                connection.reply()
        self.assertEqual(server.process.wait(END_SECONDS_MAX), 0)
        self.assertLess(time.monotonic() - began, END_SECONDS_MAX, "the end waited for something")
        while "STOPPING=1" not in heard:
            heard.add(supervisor.recv(100).decode())
        with open(log) as file:
            text = file.read()
        self.assertEqual(text.count("end=shutdown"), 2, text)
        self.assertIn("all sessions and deliveries have ended", text)


if __name__ == "__main__":
    cases.main()
