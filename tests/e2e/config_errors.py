#!/usr/bin/env python3
"""Bad configurations: each mistake is shown with its place and with advice, all in one go."""
import os
import re
import subprocess
import unittest

from harness import cases, system, waxwing

# Line of the file, the text at whose first character the mistake is placed, a word of the advice.
MISTAKES = [
    ('myhostnam = "mx.example.test"', "myhostnam", "myhostname"),
    ('mynetworks = "127.0.0.0/8"', '"127', "["),
    ('message_size_limit = "50 apples"', '"50', "MiB"),
    ('minimal_backoff_time = "soon"', '"soon', "5d"),
    ("hopcount_limit = 0", "0", "1"),
    ('relayhost = "[127.0.0.1:25"', '"[127', "[host]:port"),
    ('alias_maps = "hash:/etc/aliases"', '"hash', "aliases:"),
    ('listen = [{ name = "smtp", address = "127.0.0.1", kind = "smtp" }]', '"127.0.0.1"', "port"),
    ('dns = { servers = ["ns.example.test"] }', '"ns', "127.0.0.1"),
    ('plugins.cleanup = { on_fault = "ignore", grants = { messages = "full" } }', '"ignore"', "skip"),
    ('log = { level = "loud" }', '"loud', "info"),
]


class Mistakes(unittest.TestCase):
    """One file with at least ten of them."""

    def setUp(self):
        self.folder = system.work_folder("mistakes")
        self.addCleanup(system.remove_folder, self.folder)
        self.config = os.path.join(self.folder, "bad.toml")
        with open(self.config, "w") as file:
            file.writelines(line + "\n" for line, _, _ in MISTAKES)

    def check(self, *command):
        done = subprocess.run([waxwing.program(), *command], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60, **system.AS_SERVICE_USER)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        output = done.stdout + done.stderr
        blocks = re.split(rf"(?m)^(?={re.escape(self.config)}:\d+:\d+: error: )", output)[1:]
        places = [tuple(map(int, re.match(rf"{re.escape(self.config)}:(\d+):(\d+): ", block).groups())) for block in blocks]
        for number, (line, marked, advice) in enumerate(MISTAKES, 1):
            with self.subTest(mistake=line):
                place = (number, line.index(marked) + 1)
                self.assertIn(place, places, output)
                self.assertIn(advice, blocks[places.index(place)])
        # The line of the plugin has two: the unknown grant is the other.
        self.assertEqual(len(places), len(MISTAKES) + 1, output)

    def test_config_check_shows_them_all(self):
        self.check("config", "check", "--config", self.config)
        self.check("config", "check", self.config)

    def test_serve_shows_them_all_and_does_not_start(self):
        self.check("serve", "--config", self.config)


class Grants(unittest.TestCase):
    """A plugin that imports what it was not granted."""

    def test_the_error_names_plugin_import_and_line(self):
        server = waxwing.Waxwing("grants", plugins={"cleanup": {"grants": {"message": "headers", "edit": False}}})
        self.addCleanup(server.close)
        server.write_config()
        server.process = system.start(server.command_line(), server.log)
        self.assertNotEqual(server.process.wait(60), 0)
        log = server.ended_log()
        self.assertIn("cleanup", log)
        self.assertRegex(log, r"waxwing:mail/edit|import.*\bedit\b")
        self.assertRegex(log, r"plugins\.cleanup\.grants")
        self.assertIn("edit = true", log)


if __name__ == "__main__":
    cases.main()
