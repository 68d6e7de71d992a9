#!/usr/bin/env python3
"""Plugins are replaced while mail passes: no session is dropped, no message is lost, each transaction is served by one version; a bad
file leaves the version before in service; what is rolled back stays away."""
import os
import signal
import subprocess
import unittest

from harness import cases, client, components, maildir, messages, system, waxwing
from harness.load import Load

REPLACEMENTS = 100
SESSIONS = 6
# Each session rests so long after a message: the test is about replacing, not about how many messages the machine can do.
PAUSE_SECONDS = 0.01
PLUGIN = "guest"
# A plugin that no mail is for.
WITNESS = "witness"
# Hooks before MAIL belong to the session, which may be older than the transaction.
SESSION_HOOKS = {"on-connect", "on-tls", "on-helo"}


def versions_of(records):
    """For each transaction, the versions of the plugin that served it."""
    by_id = {}
    for record in records:
        for entry in record["entries"]:
            if entry["who"] == PLUGIN and entry["step"] not in SESSION_HOOKS and record["part"] == "intake":
                by_id.setdefault(record["id"], set()).add(entry["version"])
    return by_id


class Reload(unittest.TestCase):
    """One server with one plugin from a file, which is replaced again and again."""

    @classmethod
    def setUpClass(cls):
        cls.server = waxwing.Waxwing("reload")
        folder = os.path.join(cls.server.folder, "plugins")
        os.mkdir(folder, 0o755)
        cls.file = os.path.join(folder, "guest.wasm")
        cls.component = components.build(cls.server.folder)
        cls.install(0)
        cls.witness = os.path.join(folder, "witness.wasm")
        components.write_variant(cls.component, 0, cls.witness)
        plugin = {"limits": {"time": "20s", "cpu": "5s"}, "grants": {"message": "full", "edit": True, "lookup": ["alias_maps"]},
                  "config": {"act": "", "at": "on-message"}}
        cls.server.settings["plugins"] = {
            PLUGIN: {**plugin, "file": cls.file},
            WITNESS: {**plugin, "file": cls.witness, "when": {"domain": ["nowhere.test"]}},
        }
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    @classmethod
    def install(cls, variant):
        """Puts a variant of the plugin in the file's place, at once."""
        components.write_variant(cls.component, variant, cls.file)

    def plugin(self, name=PLUGIN):
        """The plugin in the list."""
        found, = [plugin for plugin in self.server.ask("plugin", "list") if plugin["name"] == name]
        return found

    def poller_has_looked(self):
        """Waits until the poller has seen all files as they are now: it takes a change once two looks in a row agree, at all files each
        time, and a second change of this plugin's begins after the first was taken."""
        for variant in (1, 2):
            before = self.plugin(WITNESS)["version"]
            components.write_variant(self.component, variant, self.witness)
            system.wait_for("the poller to take another plugin's change", lambda: self.plugin(WITNESS)["version"] != before)

    def refused(self, *arguments):
        """What a command says that must fail."""
        command = [waxwing.program(), *arguments, "--config", self.server.config]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return done.stderr

    def test_1_replaced_under_load(self):
        seen, before = {}, self.plugin()["version"]
        with Load(self.server, SESSIONS, PAUSE_SECONDS) as load:
            for number in range(1, REPLACEMENTS + 1):
                self.install(number % 2)
                change, = self.server.ask("plugin", "reload", PLUGIN)
                self.assertEqual((change["change"], change["before"]), ("reloaded", before), change)
                before = change["version"]
                sent = len(load.sent)
                system.wait_for("mail to pass", lambda: load.errors or len(load.sent) > sent)
                for identity, versions in versions_of(self.server.ask("trace", "--last", "50")).items():
                    seen.setdefault(identity, set()).update(versions)
        self.assertEqual(load.errors, [], "a session was dropped or refused")
        self.assertEqual({len(versions) for versions in seen.values()}, {1}, "a transaction was served by two versions")
        self.assertTrue(before.startswith(f"v{REPLACEMENTS + 1}:"), before)
        different = {version for versions in seen.values() for version in versions}
        self.server.wait_until_idle()
        arrived = maildir.read_all(self.server.maildir)
        self.assertEqual(len(arrived), len(load.sent), "messages were lost or doubled")
        self.assertEqual(sum(b"X-Evil" in message for message in arrived), len(arrived), "a message passed without the plugin")
        on_message, = [hook for hook in self.plugin()["hooks"] if hook["hook"] == "on-message"]
        self.assertEqual((on_message["calls"], on_message["faults"]), (len(load.sent), 0), "counts go on from version to version")
        print(f"      {REPLACEMENTS} replacements under {SESSIONS} sessions: {len(load.sent)} messages, none lost; "
              f"{len(seen)} transactions seen with {len(different)} versions, each with one", flush=True)

    def test_2_a_bad_file_leaves_the_version_before(self):
        before = self.plugin()["version"]
        with client.Client(self.server.port) as connection:
            with open(self.file + ".new", "wb") as file:
                file.write(b"no component")
            os.chmod(self.file + ".new", 0o644)
            os.rename(self.file + ".new", self.file)
            system.wait_for("the poller to see the bad file", lambda: self.plugin()["last_error"])
            self.assertEqual(self.plugin()["version"], before)
            words = self.refused("plugin", "reload", PLUGIN)
            self.assertIn(f"{PLUGIN}: {before} stays in service", words)
            os.kill(self.server.process.pid, signal.SIGHUP)
            self.server.wait_for_log("SIGHUP: reading")
            self.server.wait_for_log("not reloaded")
            connection.deliver(messages.plain("still"), "ann@example.test", f"demo@{self.server.domain}")
        self.assertIsNone(self.server.process.poll(), "SIGHUP does not end the server")

    def test_3_what_is_rolled_back_stays_away(self):
        self.install(3)
        os.kill(self.server.process.pid, signal.SIGHUP)
        system.wait_for("the new version", lambda: not self.plugin()["last_error"] and self.plugin()["previous"])
        new, previous = self.plugin()["version"], self.plugin()["previous"]
        with client.Client(self.server.port) as connection:
            change, = self.server.ask("plugin", "rollback", PLUGIN)
            self.assertEqual((change["change"], change["before"], change["version"]), ("rolled-back", new, previous))
            self.install(3)
            self.poller_has_looked()
            self.assertEqual(self.plugin()["version"], previous, "the poller has loaded what was taken back")
            queued = connection.deliver(messages.plain("back"), "ann@example.test", f"demo@{self.server.domain}")
            records = system.wait_for("its trace", lambda: self.server.ask("trace", queued))
            self.assertEqual(versions_of(records), {queued: {previous}})
        self.assertIn("there is no version", self.refused("plugin", "rollback", PLUGIN))
        self.install(4)
        system.wait_for("the poller to load what is new", lambda: self.plugin()["version"] not in (new, previous))


class Beside(unittest.TestCase):
    """A canary serves a part of the transactions, a shadow is compared, a breaker is logged once."""

    MESSAGES = 40

    def test_canary_shadow_and_breaker(self):
        server = waxwing.Waxwing("beside")
        self.addCleanup(server.close)
        file = components.build(server.folder)
        next_file = os.path.join(server.folder, "next.wasm")
        components.write_variant(file, 1, next_file)
        plugin = {"file": file, "limits": {"time": "20s", "cpu": "5s"}, "config": {"act": "", "at": "on-message"},
                  "grants": {"message": "full", "edit": True, "lookup": ["alias_maps"]}}
        server.settings["plugins"] = {
            PLUGIN: {**plugin, "canary": {"file": next_file, "percent": 50}},
            "shadow": {**plugin, "mode": "shadow", "config": {"act": "discard", "at": "on-message"}},
            "broken": {**plugin, "on_fault": "skip", "breaker_faults": 3, "config": {"act": "panic", "at": "on-message"}},
        }
        server.start()
        with client.Client(server.port) as connection:
            queued = [connection.deliver(messages.plain(f"m{number}"), "ann@example.test", f"demo@{server.domain}")
                      for number in range(self.MESSAGES)]
        system.wait_for("all traces", lambda: len(versions_of(server.ask("trace", "--last", "100"))) == len(queued))
        records = server.ask("trace", "--last", "100")
        served = versions_of(records)
        self.assertEqual({len(versions) for versions in served.values()}, {1})
        by_version = [next(iter(versions)).split(":")[0] for versions in served.values()]
        shares = [by_version.count("v1"), by_version.count("v2")]
        self.assertTrue(all(share >= 5 for share in shares), shares)
        server.wait_until_idle()
        listed = server.ask("plugin", "list")
        counts = [(plugin["canary"], calls(plugin)["calls"]) for plugin in listed if plugin["name"] == PLUGIN]
        self.assertEqual(counts, [(None, shares[0]), (50, shares[1])])
        compared = calls(next(plugin for plugin in listed if plugin["name"] == "shadow"))
        self.assertEqual((compared["agreed"], compared["differed"]), (0, self.MESSAGES))
        told = [entry["result"] for record in records for entry in record["entries"] if entry["result"].startswith("differs: ")]
        self.assertEqual(set(told), {"differs: discard gone; the chain: next"})
        server.wait_for_log("breaker open")
        self.assertEqual(server.complete_log().count("breaker open"), 1)
        change, = server.ask("plugin", "promote", PLUGIN)
        self.assertEqual((change["change"], change["version"].split(":")[0]), ("promoted", "v2"))
        self.assertEqual(len(maildir.files(server.maildir)), self.MESSAGES)


def calls(plugin):
    """The counts of on-message."""
    hook, = [hook for hook in plugin["hooks"] if hook["hook"] == "on-message"]
    return hook


if __name__ == "__main__":
    cases.main()
