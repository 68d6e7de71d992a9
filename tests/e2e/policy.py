#!/usr/bin/env python3
"""Restrictions and Postfix's policy services: Debian's postgrey and policyd-spf are asked, swaks tries to relay."""
import grp
import os
import pwd
import shutil
import socket
import subprocess
import threading
import unittest

from harness import cases, client, maildir, messages, sink, system, waxwing

STRANGER = "127.0.0.2"
POSTGREY, POLICYD_SPF = "/usr/sbin/postgrey", "/usr/bin/policyd-spf"
GREY_SECONDS = 2


def asked(server, sender, recipient, source=STRANGER):
    """The reply to RCPT."""
    with client.Client(server.port, source) as connection:
        connection.accepted(connection.command(f"MAIL FROM:<{sender}>"))
        return connection.command(f"RCPT TO:<{recipient}>")


class Postgrey(unittest.TestCase):
    """Defers whom it does not know, and adds a field when he comes again."""

    @classmethod
    def setUpClass(cls):
        if not os.path.exists(POSTGREY):
            raise unittest.SkipTest("postgrey is not installed")
        cls.port = system.free_port()
        cls.server = waxwing.Waxwing("grey", mynetworks=["127.0.0.1/32"], smtpd_recipient_restrictions=[
            "permit_mynetworks", f"check_policy_service inet:127.0.0.1:{cls.port}"])
        user = "postgrey" if system.ROOT else pwd.getpwuid(os.getuid()).pw_name
        group = grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name
        data = os.path.join(cls.server.folder, "postgrey")
        os.mkdir(data)
        shutil.chown(data, user, group)
        cls.postgrey = system.start(
            [POSTGREY, f"--inet=127.0.0.1:{cls.port}", f"--delay={GREY_SECONDS}", f"--dbdir={data}", f"--user={user}", f"--group={group}"],
            os.path.join(cls.server.folder, "postgrey.log"), as_service_user=False)
        system.wait_for("postgrey", lambda: system.accepts(cls.port))
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        system.stop(cls.postgrey)
        cls.server.close()

    def test_1_a_stranger_waits_and_comes_again(self):
        to = f"demo@{self.server.domain}"
        code, text = asked(self.server, "ann@far.test", to)
        self.assertEqual((code, "reylist" in text), (450, True), text)
        rule = "smtpd_recipient_restrictions: check_policy_service"
        self.server.wait_for_log(rule)

        def delivered():
            with client.Client(self.server.port, STRANGER) as connection:
                connection.accepted(connection.command("MAIL FROM:<ann@far.test>"))
                if connection.command(f"RCPT TO:<{to}>")[0] == 450:
                    return False
                # The service has the field added to the first message after the delay.
                connection.accepted(connection.data(messages.plain("grey")))
                return True

        system.wait_for("the delay to be over", delivered, pause=0.5)
        arrived = maildir.wait_for_one(self.server.maildir)
        self.assertIn(b"X-Greylist: delayed", arrived)

    def test_2_our_network_does_not_wait(self):
        self.assertEqual(asked(self.server, "bob@far.test", f"demo@{self.server.domain}", "127.0.0.1")[0], 250)

    def test_3_without_it_the_default_is_done(self):
        self.server.settings["smtpd_policy_service_retry_delay"] = "100ms"
        self.server.restart()
        system.stop(self.postgrey)
        code, text = asked(self.server, "carl@far.test", f"demo@{self.server.domain}")
        self.assertEqual((code, text.split()[0]), (451, "4.3.5"), text)


class Spawned:
    """A service that speaks over its standard input, as Postfix's spawn(8) starts it."""

    def __init__(self, command):
        self.command, self.children = command, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.children.append(subprocess.Popen(self.command, stdin=connection, stdout=connection))
            connection.close()

    def close(self):
        self.listener.close()
        for child in self.children:
            child.kill()
            child.wait()


class Spf(unittest.TestCase):
    """policyd-spf understands what it is asked. It looks up nothing for addresses of this machine."""

    def test_it_answers(self):
        if not os.path.exists(POLICYD_SPF):
            self.skipTest("policyd-spf is not installed")
        service = Spawned([POLICYD_SPF])
        rules = [f"check_policy_service inet:127.0.0.1:{service.port}"]
        try:
            with waxwing.Waxwing("spf", mynetworks=["127.0.0.1/32"], smtpd_recipient_restrictions=rules) as server:
                for recipient in (f"nobody@{server.domain}", f"demo@{server.domain}"):
                    asked(server, "ann@far.test", recipient)
                with client.Client(server.port, STRANGER) as connection:
                    connection.deliver(messages.plain("spf"), "ann@far.test", f"demo@{server.domain}")
                self.assertEqual(len(service.children), 1, "one connection for all")
                arrived = maildir.wait_for_one(server.maildir)
                self.assertIn(b"X-Comment: SPF", arrived)
        finally:
            service.close()


class Relaying(unittest.TestCase):
    """What swaks sends from outside never reaches another domain."""

    RECIPIENTS = (
        "x@far.test", "X@FAR.TEST", "x@far.test.", "x%far.test@{ours}", "far.test!x@{ours}", '"x@far.test"@{ours}', "@{ours}:x@far.test",
        "x%far.test@relay.test", "far.test!x@relay.test", '"x@far.test"@relay.test', "@relay.test:x@far.test", "x@[127.0.0.1]",
        "x@[192.0.2.9]", "x@localhost", "postmaster@far.test", "postmaster%far.test@{ours}", '"\\"x@far.test\\""@relay.test',
    )

    def test_nothing_is_relayed(self):
        if not shutil.which("swaks"):
            self.skipTest("swaks is not installed")
        with sink.Sink() as hop, waxwing.Waxwing(
                "shut", mynetworks=["127.0.0.1/32"], relay_domains=["relay.test"], relayhost=f"[127.0.0.1]:{hop.port}",
                smtpd_relay_restrictions=["permit"], smtpd_client_restrictions=["permit"]) as server:
            for sender in ("<>", "ann@far.test", f"demo@{server.domain}"):
                for recipient in self.RECIPIENTS:
                    told = subprocess.run(
                        ["swaks", "--server", "127.0.0.1", "--port", str(server.port), "--local-interface", STRANGER, "--from", sender,
                         "--to", recipient.format(ours=server.domain), "--quit-after", "RCPT", "--timeout", "20"],
                        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
                    self.assertEqual(told.returncode, 24, f"{sender} {recipient}\n{told.stdout}{told.stderr}")


if __name__ == "__main__":
    cases.main()
