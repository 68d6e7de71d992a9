#!/usr/bin/env python3
"""The checks of the other scripts fail when they should."""
import unittest

from harness import cases, client, messages, sink, synctrace

QUEUE = "/q"


def trace(*lines):
    """A trace of one message `ID1` with the tokens first-t and last-t."""
    return synctrace.Trace([line + "\n" for line in lines], QUEUE)


WRITE = '7 write(9</q/journal>, "..first-t....last-t..", 22) = 22'
SYNC = "7 fdatasync(9</q/journal>) = 0"
REPLY = '8 sendto(5<socket:[77]>, "250 2.0.0 Ok: queued as ID1\\r\\n", 30, 0, NULL, 0) = 30'


class SyncTrace(unittest.TestCase):
    """The order of write, sync and reply."""

    def fault(self, *lines):
        return trace(*lines).fault("ID1", "first-t", "last-t")

    def test_write_sync_reply_is_right(self):
        self.assertIsNone(self.fault(WRITE, SYNC, REPLY))

    def test_each_wrong_order_is_found(self):
        for lines in ([WRITE, REPLY, SYNC], [SYNC, WRITE, REPLY], [WRITE, REPLY], [WRITE, SYNC.replace("journal", "other"), REPLY],
                      [WRITE, SYNC.replace("= 0", "= -1 EIO (Input/output error)"), REPLY], [SYNC, REPLY], [WRITE, SYNC]):
            self.assertIsNotNone(self.fault(*lines), lines)

    def test_a_sync_that_began_before_the_write_ended_does_not_count(self):
        self.assertIsNotNone(self.fault(
            "7 fdatasync(9</q/journal> <unfinished ...>", WRITE.replace("7 ", "6 "), "7 <... fdatasync resumed>) = 0", REPLY))

    def test_a_reply_that_begins_before_the_sync_ended_is_found(self):
        begun = REPLY.split(", 30, 0")[0] + " <unfinished ...>"
        self.assertIsNotNone(self.fault(WRITE, "7 fdatasync(9</q/journal> <unfinished ...>", begun,
                                        "7 <... fdatasync resumed>) = 0", "8 <... sendto resumed>, 30, 0, NULL, 0) = 30"))

    def test_a_record_over_two_writes_needs_both(self):
        first, last = '7 write(9</q/journal>, "..first-t..la", 13) = 13', '7 write(9</q/journal>, "st-t..", 6) = 6'
        self.assertIsNone(self.fault(first, last, SYNC, REPLY))
        self.assertIsNotNone(self.fault(first, SYNC, last, REPLY))

    def test_a_body_file_needs_its_sync_and_that_of_its_directory(self):
        make = "7 openat(AT_FDCWD</>, \"/q/bodies/1\", O_WRONLY|O_CREAT, 0600) = 11</q/bodies/1>"
        body, body_sync = '7 write(11</q/bodies/1>, "..last-t", 8) = 8', "7 fsync(11</q/bodies/1>) = 0"
        directory = "7 fsync(12</q/bodies>) = 0"
        record = '7 write(9</q/journal>, "..first-t..", 11) = 11'
        self.assertIsNone(self.fault(make, body, body_sync, directory, record, SYNC, REPLY))
        for left_out in (body_sync, directory, SYNC):
            lines = [line for line in (make, body, body_sync, directory, record, SYNC, REPLY) if line != left_out]
            self.assertIsNotNone(self.fault(*lines), left_out)

    def test_a_reply_is_no_log_line(self):
        logged = REPLY.replace("5<socket:[77]>", "2</log>").replace("sendto", "write")
        self.assertEqual(self.fault(logged, WRITE, SYNC), "no 250 was seen")


class Difference(unittest.TestCase):
    """What arrived against what was sent."""

    def test_what_may_be_added(self):
        for name, sent in messages.corpus().items():
            fields, body = messages.split(messages.with_lf(sent))
            arrived = b"".join(field + b"\n" for field in [b"Received: by x id 1", *fields, b"Date: now"]) + b"\n" + body
            self.assertIsNone(messages.difference(sent, arrived), name)

    def test_each_kind_of_damage_is_found(self):
        sent = messages.corpus()["folded_header"]
        good = messages.with_lf(sent)
        self.assertIsNone(messages.difference(sent, good))
        for old, new in ((b"body\n", b"body"), (b"body\n", b"body\n\n"), (b"\n\ttwo", b" two"), (b"x-CASE:kept  ", b"X-Case: kept"),
                         (b"Subject: folded\n", b""), (b"Subject", b"X-Spam: yes\nSubject")):
            self.assertIn(old, good)
            self.assertIsNotNone(messages.difference(sent, good.replace(old, new)), (old, new))

    def test_a_swapped_order_is_found(self):
        sent = b"A: 1\r\nB: 2\r\n\r\nx\r\n"
        self.assertIsNotNone(messages.difference(sent, b"B: 2\nA: 1\n\nx\n"))


class SinkAndClient(unittest.TestCase):
    """Our own two ends agree, dots and all."""

    def test_the_corpus_goes_through(self):
        with sink.Sink() as server, client.Client(server.port) as connection:
            for name, message in messages.corpus().items():
                connection.envelope("a@example.test", "b@example.test")
                connection.accepted(connection.data(message))
                self.assertEqual(server.messages.pop()[2], messages.with_lf(message), name)


if __name__ == "__main__":
    cases.main()
