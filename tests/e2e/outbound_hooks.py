#!/usr/bin/env python3
"""One plugin at the hooks of the queue and of delivery: it scans, routes, signs, judges replies, plans the next try and hears what
became of each recipient; a second one is the table in which it finds its key."""
import os
import subprocess
import unittest

from harness import cases, client, maildir, messages, sink, system, waxwing

SENDER = "ann@example.test"


def build_plugin(folder):
    """Compiles the plugin of the fixtures, as the tests of the sandbox do."""
    manifest = os.path.join(waxwing.REPOSITORY, "tests", "fixtures", "evil", "Cargo.toml")
    command = ["cargo", "run", "--quiet", "--package", "waxwing-builder", "--example", "component", "--", manifest, folder, "outbound"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=waxwing.REPOSITORY)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    file = os.path.join(folder, "outbound.wasm")
    os.chmod(file, 0o644)
    return file


class Outbound(unittest.TestCase):
    """All mail goes to a sink whose replies the test chooses."""

    @classmethod
    def setUpClass(cls):
        cls.sink = sink.Sink()
        cls.server = waxwing.Waxwing("outbound", relayhost=f"[127.0.0.1]:{cls.sink.port}")
        component = build_plugin(cls.server.folder)
        grants = {"message": "full", "edit": True}
        cls.server.settings["plugins"] = {
            "outbound": {"file": component, "order": 10, "grants": {**grants, "lookup": ["plugin:keys"]}},
            # No mail is of that domain: it is asked for keys, and hears of events, which are of no domain.
            "keys": {"file": component, "order": 20, "grants": {**grants, "lookup": ["alias_maps"]},
                     "when": {"domain": ["nowhere.test"]}},
        }
        cls.server.start()
        cls.sink.open()

    @classmethod
    def tearDownClass(cls):
        cls.sink.close()
        cls.server.close()

    def setUp(self):
        self.sink.replies.clear()
        del self.sink.messages[:]

    def send(self, recipient, words=b"", sender=SENDER):
        with client.Client(self.server.port) as connection:
            return connection.deliver(messages.plain("outbound") + words, sender, recipient)

    def heard(self, queue_id, hook):
        """What the plugin logged at that hook of that message, in order."""
        records = [record for record in self.server.ask("trace", queue_id) if record["part"] == "delivery"]
        entries = [entry for record in records for entry in record["entries"]]
        return [line for entry in entries if entry["who"] == "outbound" and entry["step"] == hook for line in entry["log"]]

    def wait_heard(self, queue_id, hook, count=1):
        """The same, once there are so many lines: traces may come after what they tell of."""
        def enough():
            lines = self.heard(queue_id, hook)
            return lines if len(lines) >= count else None
        return system.wait_for(f"{hook} of {queue_id}", enough)

    def test_1_it_signs_with_a_key_of_the_other_plugin(self):
        queue_id = self.send("bob@far.test")
        (_, recipients, content), = self.sink.wait_for(1)
        self.assertEqual(recipients, ["bob@far.test"])
        self.assertIn(f"X-Signed: for smtp:[127.0.0.1]:{self.sink.port} with the key\n".encode(), content)
        self.assertIn("bob Fate::Delivered", self.wait_heard(queue_id, "on-outcome")[0])

    def test_2_it_routes(self):
        queue_id = self.send("away@far.test")
        self.assertIn("away Fate::Delivered discard 2.0.0", self.wait_heard(queue_id, "on-outcome")[0])
        self.server.wait_until_idle()
        self.assertEqual(self.sink.messages, [])

    def test_3_it_takes_a_refusal_for_temporary_and_plans_the_next_try(self):
        self.sink.replies["RCPT"] = "550 5.1.1 not yet"
        queue_id = self.send("cid@far.test")
        self.assertIn("1 at smtp:", self.wait_heard(queue_id, "on-retry")[0])
        self.assertIn("4.1.1", self.wait_heard(queue_id, "on-retry")[0])
        self.sink.replies.clear()
        (_, recipients, _), = self.sink.wait_for(1)
        self.assertEqual(recipients, ["cid@far.test"])
        self.assertIn("cid Fate::Delivered", self.wait_heard(queue_id, "on-outcome", 2)[-1])
        self.assertIn("cid Fate::Deferred", self.heard(queue_id, "on-outcome")[0])

    def test_4_it_gives_up_and_edits_the_report(self):
        self.sink.replies["RCPT"] = "550 5.1.1 never"
        maildir.clear(self.server.maildir)
        self.send("dan@far.test", sender=f"demo@{self.server.domain}")
        report = maildir.wait_for_one(self.server.maildir, 60)
        self.assertIn(b"X-Report: failure", report)
        self.assertIn(b"given up; last attempt: 4.1.1", report.replace(b"\n ", b" ").replace(b"\r", b""))
        self.sink.replies.clear()
        self.server.wait_until_idle()

    def test_5_a_scan_holds_what_was_accepted(self):
        queue_id = self.send("eve@far.test", b"a VIRUS\r\n")
        held = system.wait_for("it to be held", lambda: [u for u in self.server.units() if u["state"] == "hold"])
        self.assertEqual([unit["id"] for unit in held], [queue_id])
        self.assertIn("this has a virus", held[0]["reason"])
        self.assertEqual(self.sink.messages, [], "and nobody gets a report")

    def test_6_each_plugin_is_called_where_it_is_bound_and_did_not_fail(self):
        plugins = {plugin["name"]: {hook["hook"]: hook for hook in plugin["hooks"]} for plugin in self.server.ask("plugin", "list")}
        for hook in ("on-scan", "on-route", "on-send", "on-reply", "on-retry", "on-outcome", "on-dsn", "on-event"):
            self.assertGreater(plugins["outbound"][hook]["calls"], 0, hook)
        called = {hook for hook, counts in plugins["keys"].items() if counts["calls"]}
        self.assertEqual(called, {"on-table", "on-event"})
        for hooks in plugins.values():
            self.assertEqual(sum(hook["faults"] for hook in hooks.values()), 0, hooks)


if __name__ == "__main__":
    cases.main()
