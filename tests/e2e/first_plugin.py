#!/usr/bin/env python3
"""The first plugin of docs/plugins.md: its very commands, in each language, end with a mail that the new plugin has changed."""
import os
import re
import shutil
import subprocess
import tempfile
import time
import unittest

from harness import cases, system, waxwing

DOCUMENT = os.path.join(waxwing.REPOSITORY, "docs", "plugins.md")
SECTION = "## The first plugin in three minutes"
# The port that the document names: here each server has one of its own.
DOCUMENTED_PORT = ":2525 "
# What the steps may take, the build of Waxwing aside. Printed, not asserted: a loaded machine proves nothing.
SECONDS = 180
# A compiler that cannot be had is no fault of the document.
COMPILERS = {"rust": ["cargo"], "c": ["clang", "wasm-ld"], "js": ["node", "npm"], "python": ["python3"]}


def blocks():
    """The commands of the section in their order: (what the fence says, the text)."""
    with open(DOCUMENT) as file:
        text = file.read()
    section = text.split(SECTION + "\n", 1)[1].split("\n## ", 1)[0]
    assert section.count(DOCUMENTED_PORT) == 1, f"the section names the port{DOCUMENTED_PORT} once"
    return re.findall(r"^```sh ?(\w*)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def reachable(command):
    """Whether the registry of a language's compiler answers; asked by its own client, once."""
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


class FirstPlugin(unittest.TestCase):
    """One case for each language."""

    def setUp(self):
        self.port, self.submission_port = system.free_port(), system.free_port()
        # A clone whose server is built: the commands look for it where cargo puts it.
        self.clone = tempfile.mkdtemp(prefix="waxwing-first-")
        os.chmod(self.clone, 0o755)
        os.makedirs(os.path.join(self.clone, "target", "debug"))
        shutil.copy(waxwing.program(), os.path.join(self.clone, "target", "debug", "waxwing"))
        self.server = None

    def tearDown(self):
        if self.server:
            system.stop(self.server)
        system.remove_folder(self.clone)

    def follow(self, language):
        """Runs the document's commands; returns what the last one prints, and the seconds of each."""
        self.assertTrue(all(shutil.which(program) for program in COMPILERS[language]))
        # What the tests have in store would be no first time.
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("CARGO_TARGET", "COMPONENTIZE", "WAXWING"))}
        environment = {**clean, "PATH": os.path.join(self.clone, "target", "debug") + ":" + os.environ["PATH"]}
        took, printed = [], ""
        for kind, commands in blocks():
            commands = commands.replace("--lang rust", f"--lang {language}").replace(DOCUMENTED_PORT, f":{self.port} ")
            began = time.monotonic()
            if kind == "server":
                log = os.path.join(self.clone, "server.log")
                ports = f"--smtp-port {self.port} --submission-port {self.submission_port}"
                self.server = system.start(["sh", "-c", f"exec {commands.strip()} {ports}"], log, False, environment, cwd=self.clone)
                system.wait_for_port(self.port, self.server, 300)
            else:
                done = subprocess.run(["sh", "-ec", commands], cwd=self.clone, env=environment, stdin=subprocess.DEVNULL,
                                      capture_output=True, text=True, timeout=400)
                self.assertEqual(done.returncode, 0, f"{commands}\n{done.stdout}{done.stderr}{self.words()}")
                printed = done.stdout
            took.append(time.monotonic() - began)
        return printed, took

    def words(self):
        """What the server said."""
        return system.tail(os.path.join(self.clone, "server.log")) if self.server else ""

    def check(self, language):
        """The mail is changed; says how long it took."""
        printed, took = self.follow(language)
        steps = ", ".join(f"{seconds:.0f}" for seconds in took)
        print(f"      {language}: {sum(took):.0f} s of {SECONDS} s from the first command to the changed mail ({steps})", flush=True)
        self.assertIn("X-Checked: greeter", printed, self.words())

    def test_rust(self):
        self.check("rust")

    def test_c(self):
        if not all(shutil.which(program) for program in COMPILERS["c"]):
            self.skipTest("no clang with wasm-ld")
        self.check("c")

    def test_javascript(self):
        if not shutil.which("node") or not reachable(["npm", "ping"]):
            self.skipTest("npm is not here or its registry does not answer")
        self.check("js")

    def test_python(self):
        with tempfile.TemporaryDirectory() as folder:
            download = ["python3", "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, "componentize-py==0.25.1"]
            if not reachable(download):
                self.skipTest("pip is not here or its index does not answer")
        self.check("python")


if __name__ == "__main__":
    cases.main()
