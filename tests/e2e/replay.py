#!/usr/bin/env python3
"""Transactions are recorded where the operator wants it, redacted and for a while, and can be played again with another plugin."""
import json
import os
import subprocess
import unittest

from harness import cases, client, components, system, waxwing

SECRET = "correct horse battery staple"
MESSAGE = (f"From: a@far.test\r\nTo: demo@replay.example.test\r\nSubject: hello\r\nX-Token: {SECRET} in the header\r\n\r\n"
           f"{SECRET} in the body\r\n").encode()
LIMITS = {"time": "20s", "cpu": "5s"}


def server(recording, **settings):
    """A server with the plugin `mine`, which tags recipients and changes headers."""
    file = settings.pop("file")
    return waxwing.Waxwing("replay", recording=recording, mynetworks=["192.0.2.0/24"], plugins={"mine": {
        "file": file, "limits": LIMITS, "config": {"act": "good"},
        "grants": {"message": "full", "edit": True, "lookup": ["virtual_mailbox_maps"]},
    }}, **settings)


def send(port, recipient="demo@replay.example.test", message=MESSAGE):
    """One message; its final reply and queue id."""
    with client.Client(port) as connection:
        connection.command("MAIL FROM:<a@far.test>")
        connection.command(f"RCPT TO:<{recipient}>")
        reply = connection.data(message)
    return reply


def queue_id(reply):
    """The id in a reply."""
    return reply[1].rsplit(" ", 1)[1]


class Replay(unittest.TestCase):
    """Recording and replay."""

    @classmethod
    def setUpClass(cls):
        cls.folder = system.work_folder("replay-plugins")
        os.chmod(cls.folder, 0o755)
        cls.file = components.build(cls.folder, "evil")

    @classmethod
    def tearDownClass(cls):
        system.remove_folder(cls.folder)

    def replay(self, where, *arguments, count=1):
        """The objects that `waxwing replay --json` prints, once it has found so many recordings: they may follow the reply to the client."""
        def enough():
            try:
                found = where.ask("replay", *arguments)
            except AssertionError as error:
                if "nothing is recorded" in str(error) and "--last" not in arguments:
                    return None
                raise
            return found if len(found) > count else None

        return system.wait_for(f"{count} recordings", enough)

    def test_a_changed_plugin_is_tried_on_recorded_mail(self):
        recording = {"enabled": True, "redact_body": False, "redact_headers": ["x-token"]}
        with server(recording, file=self.file) as where:
            first = queue_id(send(where.port))
            send(where.port)
            self.assertEqual(send(where.port, "x@elsewhere.test")[0], 554, "DATA without a recipient")
            same, summary = self.replay(where, first, "--plugin", self.file, "--name", "mine")
            self.assertTrue(same["same"], same)
            self.assertEqual(same["redacted"], ["X-Token redacted"])
            self.assertEqual(summary["summary"]["same"], 1)

            changed = ("--plugin", self.file, "--name", "mine", "--set", "act=panic", "--set", "at=on-message")
            *records, summary = self.replay(where, "--last", "10", *changed, count=3)
            self.assertEqual([record["then"]["verdict"] for record in records], ["accept", "accept", "reject"])
            self.assertEqual([record["now"]["verdict"] for record in records], ["defer", "defer", "reject"])
            self.assertEqual(summary["summary"]["verdicts"], {"accept -> defer": 2})
            self.assertEqual(records[2]["then"]["reply"], "554 5.7.1 Relay access denied")
            self.assertEqual(records[2]["now"]["reply"], "554 5.7.1 Relay access denied", "the new version is no way around it")
            lines = records[0]["differences"]
            self.assertTrue(any(line.startswith("- ") and "X-Subject: hello" in line for line in lines), lines)
            self.assertTrue(any(line.startswith("+ ") and "fault: trap" in line for line in lines), lines)

    def test_what_is_redacted_is_nowhere_on_the_disk(self):
        recording = {"enabled": True, "redact_headers": ["x-token"]}
        with server(recording, file=self.file) as where:
            sent = queue_id(send(where.port))
            where.wait_until_idle()
            record, summary = self.replay(where, sent, "--plugin", self.file, "--name", "mine")
            self.assertEqual(record["redacted"], [f"body redacted, {len(SECRET) + len(' in the body') + 2} B", "X-Token redacted"])
            self.assertEqual(summary["summary"]["redacted"], 1)
            self.assertNotIn(SECRET, json.dumps(record))
            text = subprocess.run([waxwing.program(), "replay", sent, "--plugin", self.file, "--name", "mine", "--config", where.config],
                                  capture_output=True, text=True, timeout=60).stdout
            self.assertIn("[body redacted, ", text)
            self.assertIn("X-Token redacted]", text)

    def test_recordings_expire(self):
        # Long enough for a busy machine to replay it in time.
        recording = {"enabled": True, "age_max": "15s"}
        with server(recording, file=self.file) as where:
            sent = queue_id(send(where.port))
            self.assertEqual(len(self.replay(where, sent, "--plugin", self.file, "--name", "mine")), 2)

            def refusal():
                try:
                    self.replay(where, sent, "--plugin", self.file, "--name", "mine")
                    return None
                except AssertionError as error:
                    return str(error)

            self.assertIn("it is too old", system.wait_for("the recording to expire", refusal, 60, 0.5))
            with self.assertRaisesRegex(AssertionError, "nothing is recorded"):
                self.replay(where, "--last", "5", "--plugin", self.file, "--name", "mine")

    def test_they_outlive_a_restart_and_are_off_unless_enabled(self):
        with server({"enabled": True}, file=self.file) as where:
            sent = queue_id(send(where.port))
            self.replay(where, sent, "--plugin", self.file, "--name", "mine")
            where.settings["recording"] = {"enabled": False}
            where.restart()
            self.assertEqual(len(self.replay(where, sent, "--plugin", self.file, "--name", "mine")), 2)
            later = queue_id(send(where.port))
            with self.assertRaisesRegex(AssertionError, "recording is not enabled"):
                self.replay(where, later, "--plugin", self.file, "--name", "mine")


if __name__ == "__main__":
    cases.main()
