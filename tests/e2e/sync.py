#!/usr/bin/env python3
"""No `250` leaves before the fdatasync that covers it: strace shows it, and under libeatmydata the same check fails."""
import os
import signal
import threading
import unittest

from harness import cases, client, messages, synctrace, system, waxwing

MESSAGES = int(os.environ.get("SYNC_MESSAGES", "1000"))
SESSIONS = 20
LARGE_MESSAGES = 20
LARGE_OCTETS = 400_000  # above what the queue keeps inside its records


def message(token, octets):
    """A message that has `first-TOKEN` in its header and `last-TOKEN` in its last line, and noise between."""
    return messages.head("sync") + f"X-Token: first-{token}\r\n\r\n".encode() + messages.noise(octets) + f"last-{token}\r\n".encode()


class Traced:
    """A server under strace that throws away what it accepts."""

    def __init__(self, name, *strace_options):
        self.server = waxwing.Waxwing(name, default_transport="discard")
        self.trace = os.path.join(self.server.folder, "trace")
        self.server.wrap = [*synctrace.STRACE, "-o", self.trace, *strace_options]

    def run(self, count, octets):
        """Sends messages in several sessions; returns {queue id: token} of those acknowledged."""
        acknowledged, errors = {}, []

        def session(number):
            try:
                with client.Client(self.server.port) as connection:
                    for sequence in range(number, count, SESSIONS):
                        token = f"{sequence:06d}{os.urandom(5).hex()}z"
                        acknowledged[connection.deliver(message(token, octets), "ann@example.test", "a@far.test")] = token
            except Exception as error:  # told to the main thread
                errors.append(error)

        self.server.start()
        threads = [threading.Thread(target=session, args=(number,)) for number in range(min(SESSIONS, count))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.end_server()
        if errors:
            raise errors[0]
        return acknowledged

    def end_server(self):
        """Ends the traced server, so that strace ends too (a signal to strace would only detach it)."""
        process = self.server.process
        with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
            for child in file.read().split():
                os.kill(int(child), signal.SIGTERM)
        process.wait(60)

    def faults(self, acknowledged):
        """What the trace says against the acknowledged messages, and the trace."""
        with open(self.trace, errors="replace") as file:
            trace = synctrace.Trace(file, self.server.queue)
        found = {queue_id: trace.fault(queue_id, f"first-{token}", f"last-{token}") for queue_id, token in acknowledged.items()}
        return {queue_id: fault for queue_id, fault in found.items() if fault}, trace


class Sync(unittest.TestCase):
    """The promise behind a 250."""

    def check(self, traced, count, octets):
        self.addCleanup(traced.server.close)
        acknowledged = traced.run(count, octets)
        self.assertEqual(len(acknowledged), count)
        faults, trace = traced.faults(acknowledged)
        print(f"      {count} messages, {trace.sync_count()} syncs, {len(faults)} acknowledged too early")
        return faults, trace

    def test_every_250_waits_for_its_sync(self):
        faults, _ = self.check(Traced("sync"), MESSAGES, 1000)
        self.assertEqual(faults, {})

    def test_large_bodies_and_their_directory_are_synced(self):
        faults, _ = self.check(Traced("large"), LARGE_MESSAGES, LARGE_OCTETS)
        self.assertEqual(faults, {})

    def test_the_check_fails_without_syncs(self):
        faults, trace = self.check(Traced("eaten", "-E", "LD_PRELOAD=libeatmydata.so"), MESSAGES, 1000)
        self.assertEqual(trace.sync_count(), 0, "libeatmydata was not loaded")
        self.assertEqual(len(faults), MESSAGES)


if __name__ == "__main__":
    cases.main()
