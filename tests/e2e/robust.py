#!/usr/bin/env python3
"""What clients do wrong, on purpose or not, by raw sockets: each thing has its answer, and the server goes on as if nothing had happened."""
import socket
import struct
import time
import unittest

from harness import cases, maildir, messages, system, waxwing

SENDER = b"ann@example.test"
OPENING = b"EHLO client.example.test\r\n"


class Raw:
    """A connection that sends octets and reads replies."""

    def __init__(self, port, seconds=60):
        self.socket = socket.create_connection(("127.0.0.1", port), seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input = self.socket.makefile("rb")

    def send(self, octets, piece=None, pause=0.0):
        """Sends octets, in segments of `piece` octets if that is given."""
        for at in range(0, len(octets), piece or max(1, len(octets))):
            self.socket.sendall(octets[at:at + (piece or len(octets))])
            if pause:
                time.sleep(pause)

    def reply(self):
        """The next reply as `code enhanced`, or `closed`."""
        while True:
            try:
                line = self.input.readline()
            except ConnectionResetError:
                return "closed"
            if not line:
                return "closed"
            if line[3:4] != b"-":
                words = line.decode("latin-1").split()
                return " ".join(word for word in words[:2] if word[0].isdigit())

    def replies(self, count):
        return [self.reply() for _ in range(count)]

    def until_closed(self):
        """All replies up to the end."""
        found = []
        while (reply := self.reply()) != "closed":
            found.append(reply)
        return found

    def close(self):
        self.input.close()
        self.socket.close()


def transaction(to, message):
    """A whole session's octets."""
    return (OPENING + b"MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n" % (SENDER, to) + message + b".\r\nQUIT\r\n")


class Server(unittest.TestCase):
    """One server for all of it; after each case it takes a message."""

    @classmethod
    def setUpClass(cls):
        cls.server = waxwing.Waxwing("robust", smtpd_timeout="3s", smtpd_recipient_limit=100, header_size_limit="64KiB", message_size_limit="1MiB",
                                     smtpd_client_connection_count_limit=0).start()
        cls.to = f"demo@{cls.server.domain}".encode()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def setUp(self):
        self.server.wait_until_idle()
        maildir.clear(self.server.maildir)

    def tearDown(self):
        self.server.wait_until_idle()
        maildir.clear(self.server.maildir)
        connection = Raw(self.server.port)
        connection.send(transaction(self.to, messages.plain("afterwards")))
        self.assertEqual([reply[:3] for reply in connection.until_closed()], ["220", "250", "250", "250", "354", "250", "221"])
        connection.close()
        maildir.wait_for_one(self.server.maildir)

    def session(self, octets, piece=None, pause=0.0, half_close=False):
        """The codes that a session's octets have, up to the close."""
        connection = Raw(self.server.port)
        try:
            connection.send(octets, piece, pause)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what it said before it closed is read below
        if half_close:
            connection.socket.shutdown(socket.SHUT_WR)
        found = connection.until_closed()
        connection.close()
        return found


class Connections(Server):
    """What becomes of connections, and of envelopes without end."""

    def test_segments_may_end_anywhere(self):
        message = messages.head("segments") + b"\r\n..two dots\r\n.\r.\r\n"[:15] + b"end\r\n"
        octets = transaction(self.to, message)
        for piece in (1, 2, 3, 7, 64):
            with self.subTest(piece=piece):
                maildir.clear(self.server.maildir)
                self.assertEqual([reply[:3] for reply in self.session(octets, piece)], ["220", "250", "250", "250", "354", "250", "221"])
                arrived = maildir.wait_for_one(self.server.maildir)
                self.assertTrue(arrived.endswith(b"\n.two dots\nend\n"), arrived[-100:])

    def test_a_split_at_every_octet_of_the_end(self):
        octets = transaction(self.to, messages.plain("split"))
        end = octets.index(b"\r\n.\r\n")
        for at in range(end - 2, end + 12):
            with self.subTest(at=at):
                connection = Raw(self.server.port)
                connection.send(octets[:at])
                time.sleep(0.02)
                connection.send(octets[at:])
                self.assertEqual([reply[:3] for reply in connection.until_closed()], ["220", "250", "250", "250", "354", "250", "221"])
                connection.close()

    def test_a_half_closed_socket_gets_its_answers(self):
        octets = transaction(self.to, messages.plain("half")).removesuffix(b"QUIT\r\n")
        found = self.session(octets, half_close=True)
        self.assertEqual([reply[:3] for reply in found][:6], ["220", "250", "250", "250", "354", "250"])
        maildir.wait_for_one(self.server.maildir)

    def test_data_that_is_cut_off_is_no_message(self):
        octets = transaction(self.to, messages.plain("cut")).removesuffix(b".\r\nQUIT\r\n").replace(b"client.example", b"cut.example")
        for how in ("closed", "reset", "half-closed"):
            with self.subTest(how=how):
                connection = Raw(self.server.port)
                connection.send(octets)
                self.assertEqual([reply[:3] for reply in connection.replies(5)], ["220", "250", "250", "250", "354"])
                if how == "half-closed":
                    connection.socket.shutdown(socket.SHUT_WR)
                    self.assertEqual(connection.until_closed(), [])
                if how == "reset":
                    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
        self.server.wait_for_log(r" disconnect .*\bhelo=cut\.example", 3)
        self.server.wait_until_idle()
        self.assertEqual(maildir.files(self.server.maildir), [])

    def test_a_silent_client_is_cut(self):
        for sent in (b"", OPENING, b"EHL", transaction(self.to, messages.plain("silent")).removesuffix(b".\r\nQUIT\r\n")):
            with self.subTest(sent=sent[:20]):
                started = time.monotonic()
                found = self.session(sent)
                self.assertEqual(found[-1], "421 4.4.2", found)
                self.assertLess(time.monotonic() - started, 10)

    def test_recipients_over_the_limit_are_for_the_next_message(self):
        many = b"".join(b"RCPT TO:<%s>\r\n" % self.to for _ in range(150))
        found = self.session(OPENING + b"MAIL FROM:<%s>\r\n" % SENDER + many + b"RSET\r\nQUIT\r\n")
        self.assertEqual(found[3:103], ["250 2.1.5"] * 100)
        self.assertEqual(set(found[103:153]), {"452 4.5.3"})
        self.assertEqual(found[153:], ["250 2.0.0", "221 2.0.0"])

    def test_thousands_of_unknown_recipients_end_the_session(self):
        many = b"".join(b"RCPT TO:<nobody%d@%s>\r\n" % (number, self.server.domain.encode()) for number in range(5000))
        found = self.session(OPENING + b"MAIL FROM:<%s>\r\n" % SENDER + many)
        self.assertEqual(found[-1][:3], "421", found[-3:])
        self.assertLess(len(found), 40)


# Octets behind DATA up to the dot, and the reply; `None`: it is taken.
CONTENTS = {
    "a header at its limit": (lambda: b"X-Long: " + b"x" * 50_000 + b"\r\n\r\nbody\r\n", None),
    "a header over its limit": (lambda: b"".join(b"X-%d: %s\r\n" % (n, b"x" * 900) for n in range(100)) + b"\r\nbody\r\n", "5"),
    "one field over the limit": (lambda: b"X-Long: " + b"x" * 200_000 + b"\r\n\r\nbody\r\n", "5"),
    "ten thousand fields": (lambda: b"A: 1\r\n" * 10_000 + b"\r\nbody\r\n", None),
    "NUL in the body": (lambda: messages.head("nul") + b"\r\na\0b\r\n", None),
    "NUL in the header": (lambda: b"Subject: a\0b\r\n" + messages.head("nul") + b"\r\nbody\r\n", None),
    "a line of 100,000": (lambda: messages.head("line") + b"\r\n" + b"y" * 100_000 + b"\r\n", None),
    "a message at the size limit": (lambda: messages.head("size") + b"\r\n" + messages.noise(1_000_000), None),
    "a message over the size limit": (lambda: messages.head("size") + b"\r\n" + messages.noise(1_500_000), "552 5.3.4"),
    "a bare LF": (lambda: messages.head("lf") + b"\r\na\nb\r\n", "5"),
    "a bare CR": (lambda: messages.head("cr") + b"\r\na\rb\r\n", "5"),
    "LF . LF": (lambda: messages.head("smuggle") + b"\r\na\n.\nMAIL FROM:<x@y.test>\r\n", "5"),
    "LF . CR LF": (lambda: messages.head("smuggle") + b"\r\na\n.\r\nMAIL FROM:<x@y.test>\r\n", "5"),
    "CR . CR": (lambda: messages.head("smuggle") + b"\r\na\r.\rMAIL FROM:<x@y.test>\r\n", "5"),
    "nothing": (lambda: b"", None),
    "only an empty line": (lambda: b"\r\n", None),
}


class Contents(Server):
    """What a message may have in it."""

    def test_contents(self):
        for name, (make, refused) in CONTENTS.items():
            with self.subTest(content=name):
                maildir.clear(self.server.maildir)
                message = make().replace(b"\r\n.", b"\r\n..") if "." not in name else make()
                found = self.session(OPENING + b"MAIL FROM:<%s>\r\nRCPT TO:<%s>\r\nDATA\r\n" % (SENDER, self.to) + message + b".\r\nQUIT\r\n")
                self.assertEqual([reply[:3] for reply in found[:5]], ["220", "250", "250", "250", "354"])
                self.assertEqual(found[-1], "221 2.0.0", found)
                self.assertEqual(len(found), 7, f"one reply to the message, and none to what is in it: {found}")
                if refused is None:
                    self.assertEqual(found[5], "250 2.0.0", found)
                    maildir.wait_for_one(self.server.maildir)
                else:
                    self.assertTrue(found[5].startswith(refused), found)
                    self.server.wait_until_idle()
                    self.assertEqual(maildir.files(self.server.maildir), [])


# Octets of a command and its reply.
COMMANDS = {
    b"FOO\r\n": "500 5.5.1",
    b"\r\n": "500 5.5.1",
    b"NOOP " + b"x" * 5000 + b"\r\n": "500 5.5.2",
    b"x" * 1_000_000 + b"\r\n": "500 5.5.2",
    b"NO\0OP\r\n": "500",
    b"\xff\xfe\xfd\r\n": "500",
    b"NOOP\n": "5",
    b"NOOP\rNOOP\r\n": "5",
    b"RCPT TO:<a@b.test>\r\n": "503 5.5.1",
    b"DATA\r\n": "503 5.5.1",
    b"MAIL FROM:<" + b"a" * 400 + b"@b.test>\r\n": "5",
    b"MAIL FROM:<a@b.test> SIZE=99999999999\r\n": "552 5.3.4",
    b"MAIL FROM:<a@b.test> FOO=1\r\n": "555 5.5.4",
    b"MAIL FROM:a@b.test\0>\r\n": "5",
    b"STARTTLS\r\n": "50",
}


class Commands(Server):
    """Commands that are none, and at the wrong time."""

    def test_commands(self):
        for octets, reply in COMMANDS.items():
            with self.subTest(command=octets[:30]):
                found = self.session(OPENING + octets + b"QUIT\r\n")
                self.assertEqual(len(found), 4, found)
                self.assertTrue(found[2].startswith(reply), found)

    def test_a_browser_is_sent_away(self):
        found = self.session(b"POST / HTTP/1.1\r\nHost: x\r\n\r\nEHLO x\r\nMAIL FROM:<a@b.test>\r\n")
        self.assertEqual([reply[:3] for reply in found], ["220", "500"])

    def test_a_stream_of_mistakes_ends(self):
        found = self.session(OPENING + b"FOO\r\n" * 10_000)
        self.assertEqual(found[-1], "421 4.7.0", found[-2:])
        self.assertLess(len(found), 30)


if __name__ == "__main__":
    cases.main()
