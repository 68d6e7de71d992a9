#!/usr/bin/env python3
"""A full disk: 452, nothing lost, and service again when there is room. The queue lies on a small tmpfs."""
import os
import pwd
import unittest

from harness import cases, client, messages, sink, system, waxwing

DISK_MEGABYTES = 160
MINFREE_MEGABYTES = 48


class Disk:
    """A tmpfs in a mount namespace of its own, that servers are started into."""

    def __init__(self, path):
        self.path = path
        owner = pwd.getpwnam(system.SERVICE_USER)
        mount = f"mount -t tmpfs -o size={DISK_MEGABYTES}m,mode=700,uid={owner.pw_uid},gid={owner.pw_gid} tmpfs '{path}'"
        self.holder = system.start(["unshare", "-m", "sh", "-c", f"{mount} && exec sleep 1000"], os.devnull, as_service_user=False)
        self.inside = f"/proc/{self.holder.pid}/root{path}"
        system.wait_for("the tmpfs", lambda: os.path.ismount(self.inside) or self.is_small())

    def is_small(self):
        """Whether the mount is there."""
        status = os.statvfs(self.inside)
        return status.f_blocks * status.f_frsize == DISK_MEGABYTES << 20

    def wrap(self):
        """Puts a command into the namespace, as the service user."""
        user = system.SERVICE_USER
        return ["nsenter", "-t", str(self.holder.pid), "-m", "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]

    def free_megabytes(self):
        """What is left."""
        status = os.statvfs(self.inside)
        return status.f_bavail * status.f_frsize / (1 << 20)

    def fill(self, leave_megabytes):
        """Puts a file there that leaves so much."""
        size = int((self.free_megabytes() - leave_megabytes) * (1 << 20))
        with open(os.path.join(self.inside, "balloon"), "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(size, 1))

    def empty(self):
        """Takes the file away."""
        os.unlink(os.path.join(self.inside, "balloon"))

    def close(self):
        """The mount goes with its holder."""
        system.stop(self.holder)


@unittest.skipUnless(system.ROOT, "needs root to mount a tmpfs")
class FullDisk(unittest.TestCase):
    """What was acknowledged arrives, whatever the disk does."""

    def setUp(self):
        self.hop = sink.Sink()
        self.server = waxwing.Waxwing("disk", as_service_user=False, relayhost=f"[127.0.0.1]:{self.hop.port}",
                                      message_size_limit="16MiB", queue_minfree=f"{MINFREE_MEGABYTES}MiB")
        self.server.settings["control"] = {"socket": os.path.join(self.server.folder, "control")}
        self.disk = Disk(self.server.queue)
        self.server.wrap = self.disk.wrap()
        self.addCleanup(self.disk.close)
        self.addCleanup(self.server.close)
        self.addCleanup(self.hop.close)
        self.server.start()
        self.acknowledged = set()

    def send(self, octets):
        """One message; its reply, its subject kept if it was acknowledged."""
        subject = f"disk-{os.urandom(6).hex()}"
        with client.Client(self.server.port) as connection:
            reply = connection.command("MAIL FROM:<ann@example.test>")
            if reply[0] == 250:
                connection.accepted(connection.command("RCPT TO:<a@far.test>"))
                reply = connection.data(messages.head(subject) + b"\r\n" + messages.noise(octets))
        if reply[0] == 250:
            self.acknowledged.add(subject)
        return reply

    def send_until_refused(self, octets):
        for _ in range(2000):
            reply = self.send(octets)
            if reply[0] != 250:
                return reply
        self.fail("the disk never became full")

    def all_are_there(self):
        """Starts the server again if its store failed, as a supervisor would, and looks at the next hop."""
        code = self.server.process.poll()
        if code is not None:
            self.assertGreater(code, 0, "a store that failed ends the server with an error")
            self.server.start()
        return len(self.hop.messages) >= len(self.acknowledged)

    def everything_arrives(self):
        """The next hop is up and gets each acknowledged message exactly once."""
        if not self.hop.listener:
            self.hop.open()
        system.wait_for("the acknowledged messages", self.all_are_there, 90)
        self.server.wait_until_idle(60)
        subjects = [field[9:].decode() for _, _, content in self.hop.messages
                    for field in messages.split(content)[0] if field.startswith(b"Subject: ")]
        self.assertEqual(sorted(subjects), sorted(self.acknowledged))

    def test_it_fills_up_and_empties(self):
        code, text = self.send_until_refused(200_000)
        self.assertEqual((code, text.split()[0]), (452, "4.3.1"), text)
        self.assertGreater(len(self.acknowledged), 10)
        self.assertIsNone(self.server.process.poll(), "a full disk is no reason to end")
        self.everything_arrives()
        system.wait_for("mail to be taken again", lambda: self.send(1000)[0] == 250, 60, 1)

    def test_large_bodies_are_refused_too(self):
        code, text = self.send_until_refused(2_000_000)
        self.assertEqual((code, text.split()[0]), (452, "4.3.1"), text)
        self.everything_arrives()

    def test_another_program_fills_it(self):
        for _ in range(20):
            self.assertEqual(self.send(50_000)[0], 250)
        self.disk.fill(MINFREE_MEGABYTES / 2)
        # The server looks at the disk now and then; until it has seen it, what it takes has to arrive too.
        code, text = self.send_until_refused(1000)
        self.assertEqual((code, text.split()[0]), (452, "4.3.1"), text)
        # What is in the queue leaves it meanwhile: settling may use the reserve.
        self.everything_arrives()
        self.assertLess(self.disk.free_megabytes(), MINFREE_MEGABYTES)
        self.assertEqual(self.send(1000)[0], 452)
        self.disk.empty()
        system.wait_for("mail to be taken again", lambda: self.send(1000)[0] == 250)
        self.everything_arrives()

    def test_a_disk_that_is_full_to_the_last_block_loses_nothing(self):
        for _ in range(5):
            self.assertEqual(self.send(50_000)[0], 250)
        self.disk.fill(0)
        self.assertEqual(self.send_until_refused(1000)[0] // 100, 4)
        self.disk.empty()
        self.everything_arrives()
        system.wait_for("mail to be taken again", lambda: self.send(1000)[0] == 250)
        self.everything_arrives()


if __name__ == "__main__":
    cases.main()
