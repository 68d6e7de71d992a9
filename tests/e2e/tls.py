#!/usr/bin/env python3
"""openssl and swaks look at what the listeners do about TLS: versions, ciphers, names, swaps, clients' certificates, proxies."""
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
import unittest

from harness import cases, system, waxwing

HOSTS = {"a": "mx-a.example.test", "b": "mx-b.example.test"}


def openssl(*arguments, stdin=""):
    """Runs openssl; its exit code, and all that it said."""
    done = subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, text=True, timeout=30)
    return done.returncode, done.stdout + done.stderr


def certificate(folder, name, host, *more, days=90):
    """A key and a certificate for `host` in one PEM file, the server's alone."""
    key, pem = os.path.join(folder, f"{name}.key"), os.path.join(folder, f"{name}.crt")
    code, said = openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", str(days),
                         "-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-keyout", key, "-out", pem, *more)
    assert code == 0, said
    both = os.path.join(folder, f"{name}.pem")
    with open(both + ".new", "w") as out:
        for part in (key, pem):
            with open(part) as file:
                out.write(file.read())
    os.chmod(both + ".new", 0o600)
    system.give_to_service_user(both + ".new")
    os.replace(both + ".new", both)
    return both


def subject(said):
    """The line of s_client that names the server's certificate."""
    return next((line for line in said.splitlines() if line.startswith("subject=")), said)


class Tls(unittest.TestCase):
    """One server with a listener for each way."""

    @classmethod
    def setUpClass(cls):
        cls.folder = system.work_folder("certificates")
        files = [certificate(cls.folder, name, host) for name, host in HOSTS.items()]
        # The system's own configuration would make it an authority, which is no client.
        plain = os.path.join(cls.folder, "plain.cnf")
        with open(plain, "w") as file:
            file.write("[req]\ndistinguished_name = dn\n[dn]\n")
        cls.client = certificate(cls.folder, "client", "client.example.test", "-config", plain)
        cls.stranger = certificate(cls.folder, "stranger", "stranger.example.test")
        cls.ports = {name: system.free_port() for name in ("implicit", "new", "asking", "strict", "proxied", "foreign")}
        cls.server = waxwing.Waxwing("tls", smtpd_tls_chain_files=files, smtpd_tls_CAfile=os.path.join(cls.folder, "client.crt"),
                                     smtpd_upstream_proxy_timeout="1s", smtpd_starttls_timeout="2s")
        first = cls.server.settings["listen"][0]

        def listen(name, **keys):
            return {"name": name, "address": f"127.0.0.1:{cls.ports[name]}", "kind": "smtp", **keys}

        cls.server.settings["listen"] = [
            {**first, "tls": "starttls"},
            listen("implicit", tls="implicit"),
            listen("new", tls="implicit", tls_protocols=">=TLSv1.3"),
            listen("asking", tls="implicit", client_certificates="ask"),
            listen("strict", tls="implicit", client_certificates="require"),
            listen("proxied", tls="starttls", proxy=True, proxy_networks=["127.0.0.0/8"]),
            listen("foreign", tls="none", proxy=True, proxy_networks=["192.0.2.0/24"]),
        ]
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()
        system.remove_folder(cls.folder)

    def s_client(self, port, *arguments, starttls=False, stdin="QUIT\n"):
        """s_client to a port; whether it shook hands, and what it said."""
        how = ["-starttls", "smtp"] if starttls else []
        code, said = openssl("s_client", "-connect", f"127.0.0.1:{port}", *how, *arguments, "-crlf", "-ign_eof", stdin=stdin)
        return "BEGIN CERTIFICATE" in said and code == 0, said

    def test_versions(self):
        """1.2 and 1.3 are spoken, older ones never."""
        for version, spoken in (("-tls1_3", True), ("-tls1_2", True), ("-tls1_1", False), ("-tls1", False)):
            for starttls in (True, False):
                with self.subTest(version=version, starttls=starttls):
                    port = self.server.port if starttls else self.ports["implicit"]
                    old = ["-cipher", "ALL:@SECLEVEL=0"] if not spoken else []
                    shook, said = self.s_client(port, version, *old, starttls=starttls)
                    self.assertEqual(shook, spoken, said)
        self.assertFalse(self.s_client(self.ports["new"], "-tls1_2")[0])
        self.assertTrue(self.s_client(self.ports["new"], "-tls1_3")[0])

    def test_weak_ciphers(self):
        """Without forward secrecy, without encryption, with CBC or RC4 there is no session."""
        for cipher in ("AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA", "eNULL", "aNULL", "CAMELLIA128-SHA"):
            with self.subTest(cipher=cipher):
                shook, said = self.s_client(self.ports["implicit"], "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
                self.assertFalse(shook, said)
        self.assertTrue(self.s_client(self.ports["implicit"], "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256")[0])

    def test_every_cipher(self):
        """Those of TLS 1.2 and 1.3 that are ours, each alone, and none of all others that this openssl knows."""
        ours = {"-tls1_2": ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"],
                "-tls1_3": ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"]}
        others = {"-tls1_2": ["ALL:COMPLEMENTOFALL:" + ":".join("!" + name for name in ours["-tls1_2"])],
                  "-tls1_3": ["TLS_AES_128_CCM_SHA256:TLS_AES_128_CCM_8_SHA256"]}
        for version, option in (("-tls1_2", "-cipher"), ("-tls1_3", "-ciphersuites")):
            weak = ":@SECLEVEL=0" if option == "-cipher" else ""
            for names, spoken in ((ours[version], True), (others[version], False)):
                for name in names:
                    for starttls in (True, False):
                        with self.subTest(cipher=name[:60], starttls=starttls):
                            port = self.server.port if starttls else self.ports["implicit"]
                            shook, said = self.s_client(port, version, option, name + weak, starttls=starttls)
                            self.assertEqual(shook, spoken, said)
                            if spoken:
                                self.assertRegex(said, f"Cipher is {name}\n")

    def test_groups(self):
        """Keys are exchanged over curves only, and signed by no SHA-1."""
        for group, spoken in (("X25519", True), ("P-256", True), ("P-384", True), ("ffdhe2048", False), ("ffdhe4096", False)):
            with self.subTest(group=group):
                self.assertEqual(self.s_client(self.ports["implicit"], "-tls1_3", "-groups", group)[0], spoken)
        self.assertFalse(self.s_client(self.ports["implicit"], "-tls1_2", "-sigalgs", "ECDSA+SHA1", "-cipher", "ALL:@SECLEVEL=0")[0])

    def test_what_else_a_scanner_looks_for(self):
        """No compression, no name of ALPN that nobody defined, secure renegotiation (RFC 5746) announced, and none done."""
        said = self.s_client(self.ports["implicit"], "-tls1_2", "-alpn", "smtp,h2")[1]
        for words in ("Compression: NONE", "Secure Renegotiation IS supported", "No ALPN negotiated", "Extended master secret: yes"):
            self.assertIn(words, said)
        for starttls in (True, False):
            with self.subTest(starttls=starttls):
                port = self.server.port if starttls else self.ports["implicit"]
                command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *(["-starttls", "smtp"] if starttls else []), "-tls1_2", "-crlf"]
                scanner = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                # It reads its input once it has shaken hands, and takes a line of R, read by itself, for an order to shake hands anew.
                scanner.stdin.write("NOOP\n")
                scanner.stdin.flush()
                said = ""
                ended = threading.Timer(60, scanner.kill)
                ended.start()
                try:
                    while not (line := scanner.stdout.readline()).startswith("250 2.0.0"):
                        self.assertTrue(line, said)
                        said += line
                    scanner.stdin.write("R\n")
                    scanner.stdin.close()
                    said += scanner.stdout.read()
                finally:
                    ended.cancel()
                    scanner.kill()
                    scanner.wait()
                    scanner.stdout.close()
                before, after = said.split("RENEGOTIATING")
                # A second handshake would have shown the certificate once more.
                self.assertIn("depth=0", before)
                self.assertNotIn("depth=0", after)
                self.assertIn("no renegotiation", after)

    def test_names(self):
        """The name that the client gives picks the certificate; others get the first. ALPN is no obstacle."""
        for name, shown in ((HOSTS["a"], "mx-a"), (HOSTS["b"], "mx-b"), (HOSTS["b"].upper(), "mx-b"), ("else.example.test", "mx-a")):
            with self.subTest(name=name):
                self.assertIn(shown, subject(self.s_client(self.server.port, "-servername", name, starttls=True)[1]))
        self.assertIn("mx-a", subject(self.s_client(self.ports["implicit"], "-noservername")[1]))
        self.assertTrue(self.s_client(self.ports["implicit"], "-alpn", "smtp,h2")[0])

    def test_client_certificates(self):
        """Required: only who is vouched for. Asked for: everyone."""
        def shown(pem):
            return ["-cert", pem, "-key", pem]

        for port, certificates, served in (("strict", shown(self.client), True), ("strict", [], False),
                                           ("strict", shown(self.stranger), False), ("asking", shown(self.client), True),
                                           ("asking", [], True), ("asking", shown(self.stranger), True)):
            with self.subTest(port=port, certificates=certificates):
                # With TLS 1.3 a client learns only after its handshake that it is refused.
                said = self.s_client(self.ports[port], *certificates)[1]
                self.assertEqual("\n220 " in said, served, said)

    def test_plain_text_behind_starttls(self):
        """What came in plain text does not count as encrypted (CVE-2011-0411)."""
        with socket.create_connection(("127.0.0.1", self.server.port), 10) as plain:
            plain.settimeout(10)
            self.assertTrue(plain.recv(1000).startswith(b"220"))
            plain.sendall(b"EHLO x\r\n")
            self.assertIn(b"STARTTLS", plain.recv(1000))
            plain.sendall(b"STARTTLS\r\nMAIL FROM:<injected@example.test>\r\n")
            said = b""
            try:
                while piece := plain.recv(1000):
                    said += piece
            except ConnectionResetError:
                pass
            self.assertNotIn(b"250", said)

    def test_silent_client(self):
        """A client that does not shake hands is left after smtpd_starttls_timeout."""
        begin = time.monotonic()
        with socket.create_connection(("127.0.0.1", self.ports["implicit"]), 10) as plain:
            plain.settimeout(10)
            self.assertEqual(plain.recv(1000), b"")
        self.assertLess(time.monotonic() - begin, 6)

    def test_swap(self):
        """A new file is taken up while a session is open; a broken one is not, and the log says so."""
        fingerprint = self.fingerprint()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(socket.create_connection(("127.0.0.1", self.ports["implicit"]), 10)) as session:
            session.recv(1000)
            certificate(self.folder, "a", HOSTS["a"])
            system.wait_for("the new certificate", lambda: self.fingerprint() != fingerprint)
            session.sendall(b"NOOP\r\n")
            self.assertTrue(session.recv(1000).startswith(b"250"))
        fingerprint = self.fingerprint()
        good = os.path.join(self.folder, "a.pem")
        shutil.copy(good, good + ".good")
        with open(good, "w") as file:
            file.write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        self.server.wait_for_log("changed certificates can't be used")
        self.assertEqual(self.fingerprint(), fingerprint)
        failed = subprocess.run([waxwing.program(), "tls", "show", "--config", self.server.config], capture_output=True, text=True)
        self.assertEqual(failed.returncode, 1)
        self.assertIn("a.pem", failed.stderr)
        shutil.copy(good + ".good", good)
        system.wait_for("tls show", lambda: self.shown_ok())

    def fingerprint(self):
        """Of the certificate that is shown by default."""
        pem = ssl.get_server_certificate(("127.0.0.1", self.ports["implicit"]))
        return hash(pem)

    def shown_ok(self):
        command = [waxwing.program(), "tls", "show", "--config", self.server.config]
        return subprocess.run(command, capture_output=True).returncode == 0

    def test_show(self):
        """`waxwing tls show` knows the ports, what is in use, and fails for what ends soon."""
        system.wait_for("tls show", self.shown_ok)
        answers = self.server.ask("tls", "show")
        listeners = {answer["listener"]: answer for answer in answers if "listener" in answer}
        self.assertEqual((listeners["smtp"]["tls"], listeners["implicit"]["tls"]), ("starttls", "implicit"))
        self.assertEqual((listeners["new"]["versions"], listeners["foreign"]["tls"]), ("TLSv1.3", "none"))
        certificates = [answer for answer in answers if "names" in answer]
        self.assertEqual([answer["names"] for answer in certificates], [[host] for host in HOSTS.values()])
        self.assertEqual([(answer["in_use"], answer["days_left"] in (89, 90)) for answer in certificates], [(True, True)] * 2)
        command = [waxwing.program(), "tls", "show", "--days", "91", "--config", self.server.config]
        failed = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(failed.returncode, 1)
        self.assertIn("expires in", failed.stderr)

    def test_swaks(self):
        """swaks delivers by STARTTLS, and over an encrypted connection from its start."""
        for port, how in ((self.server.port, "-tls"), (self.server.port, "-tlso"), (self.ports["implicit"], "-tlsc")):
            with self.subTest(how=how):
                done = subprocess.run(["swaks", "--server", f"127.0.0.1:{port}", how, "--from", "ann@example.test", "--to",
                                       f"demo@{self.server.domain}", "--helo", "client.example.test", "--timeout", "30"],
                                      stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                self.assertIn("=== TLS started with cipher", done.stdout)

    def say(self, port, octets):
        """What a port answers to octets until it waits or closes."""
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.settimeout(10)
            connection.sendall(octets)
            try:
                return connection.recv(1000)
            except ConnectionResetError:
                return b""

    def test_proxy(self):
        """With a header of either version the session begins; without, or from elsewhere, it does not."""
        port = self.ports["proxied"]
        addresses = socket.inet_aton("203.0.113.7") + socket.inet_aton("198.51.100.1") + b"\x10\x00\x00\x19"
        start = b"\r\n\r\n\x00\r\nQUIT\n"
        for header in (b"PROXY TCP4 203.0.113.9 198.51.100.1 4096 25\r\n", b"PROXY UNKNOWN\r\n", start + b"\x21\x11\x00\x0c" + addresses,
                       start + b"\x21\x11\x00\x10" + addresses + b"\x04\x00\x01\x00", start + b"\x20\x00\x00\x00"):
            with self.subTest(header=header):
                self.assertTrue(self.say(port, header).startswith(b"220"))
        for wrong in (b"EHLO x\r\n", b"PROXY TCP4 1.2.3.4\r\n", start + b"\x21\x11\xff\xff", b""):
            with self.subTest(header=wrong):
                self.assertEqual(self.say(port, wrong), b"")
        self.assertEqual(self.say(self.ports["foreign"], b"PROXY UNKNOWN\r\n"), b"")
        self.server.wait_for_log("no PROXY header")


if __name__ == "__main__":
    cases.main()
