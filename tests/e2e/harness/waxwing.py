"""A Waxwing of one's own: `waxwing serve` with a configuration, or `waxwing dev`, and the commands that talk to it."""
import itertools
import json
import os
import re
import shutil
import subprocess

from . import client, system

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def built(program, variable):
    """The path to a built program: what the environment variable says, or where cargo puts it in the dev profile."""
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(REPOSITORY, "target"))
    path = os.environ.get(variable, os.path.join(target, "debug", program))
    if not os.path.exists(path):
        raise SystemExit(f"{path} is not built: cargo build -p waxwing-daemon -p waxwing-mailload (or set {variable})")
    return path


def _reachable(path):
    """The binary, or a copy where the service user can execute it (a checkout may lie in a closed folder)."""
    folder = os.path.dirname(os.path.abspath(path))
    while system.ROOT and folder != "/":
        if not os.stat(folder).st_mode & 0o001:
            copy = os.path.join(system.work_folder("bin"), "waxwing")
            shutil.copy(path, copy)
            return copy
        folder = os.path.dirname(folder)
    return path


_path = None
_barriers = itertools.count(1)


def program():
    """The path to start the server by; looked for once."""
    global _path
    if _path is None:
        _path = _reachable(built("waxwing", "WAXWING_BIN"))
    return _path


def toml(value):
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(item) for item in value) + "]"
    return json.dumps(value)


class Waxwing:
    """One server with its own folder, port and control socket."""

    def __init__(self, name, wrap=(), as_service_user=True, env=None, **settings):
        """`settings` are keys of the configuration; `wrap` is put before the command (strace …)."""
        self.name = name
        self.folder = system.work_folder(name)
        self.port = system.free_port()
        self.wrap, self.as_service_user, self.env = list(wrap), as_service_user, env
        self.log = os.path.join(self.folder, "waxwing.log")
        self.config = os.path.join(self.folder, "waxwing.toml")
        self.queue = os.path.join(self.folder, "queue")
        self.mail = os.path.join(self.folder, "mail")
        for folder in (self.queue, self.mail):
            os.mkdir(folder, 0o700)
            system.give_to_service_user(folder)
        self.settings = {
            "myhostname": f"{name}.example.test",
            "mydestination": [],
            "alias_maps": [],
            "queue_directory": self.queue,
            "virtual_mailbox_base": self.mail,
            "virtual_mailbox_domains": [f"{name}.example.test"],
            "virtual_mailbox_maps": {f"demo@{name}.example.test": "demo/Maildir/"},
            "minimal_backoff_time": "1s",
            "maximal_backoff_time": "2s",
            "queue_minfree": "64MiB",
            "dns": {"servers": ["127.0.0.1:1"], "timeout": "200ms", "attempts": 1},
            "listen": [{"name": "smtp", "address": f"127.0.0.1:{self.port}", "kind": "smtp"}],
            **settings,
        }
        self.process = None

    @property
    def domain(self):
        """The domain with a mailbox `demo`."""
        return f"{self.name}.example.test"

    @property
    def maildir(self):
        """The Maildir of `demo`."""
        return os.path.join(self.mail, "demo", "Maildir")

    def write_config(self):
        """Writes the configuration file."""
        with open(self.config, "w") as file:
            file.writelines(f"{key} = {toml(value)}\n" for key, value in self.settings.items())
        os.chmod(self.config, 0o644)

    def command_line(self):
        """How the server is started."""
        return [*self.wrap, program(), "serve", "--config", self.config]

    def start(self, seconds=60.0):
        """Starts the server and waits until it accepts mail."""
        self.write_config()
        self.process = system.start(self.command_line(), self.log, self.as_service_user, self.env)
        try:
            system.wait_for_port(self.port, self.process, seconds)
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{system.tail(self.log)}") from None
        return self

    def stop(self):
        """Ends the server; returns its exit code."""
        return system.stop(self.process) if self.process else None

    def restart(self):
        """Ends and starts it."""
        self.stop()
        return self.start()

    def close(self):
        """Ends the server and removes its folder."""
        self.stop()
        system.remove_folder(self.folder)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()

    def ask(self, *arguments):
        """The objects that a command answers which talks to the running server."""
        return ask(self.config, *arguments)

    def units(self):
        """The entries of `waxwing queue list`."""
        return self.ask("queue", "list")

    def wait_until_idle(self, seconds=30.0):
        """Waits until the queue is empty."""
        system.wait_for(f"{self.name}'s queue to be empty", lambda: not self.units(), seconds)

    # The server writes its log behind its replies, in the order of the events: a line is waited for, and that there is none is seen
    # behind a line of a later event.

    def wait_for_log(self, pattern, count=1, seconds=30.0, after=0):
        """Waits until `count` lines of the log match a regular expression, behind its first `after` octets; returns all of them."""
        return system.wait_for_lines(self.log, pattern, count, seconds, after)

    def log_octets(self):
        """The length of the log when all events so far are in it: for `after`."""
        self._log_is_written()
        return os.path.getsize(self.log)

    def complete_log(self, after=0):
        """The text of the log with all events so far, behind its first `after` octets. Needs a server that greets on its first port."""
        self._log_is_written()
        return self.ended_log(after)

    def ended_log(self, after=0):
        """The text of the log of a server that has ended: it writes its log to the end."""
        with open(self.log, "rb") as file:
            file.seek(after)
            return file.read().decode("utf-8", "replace")

    def _log_is_written(self):
        """Ends a session with a name that no other has, and waits for its line."""
        name = f"barrier{next(_barriers)}.example.test"
        with client.Client(self.port, ehlo=False) as connection:
            connection.accepted(connection.command(f"HELO {name}"))
        self.wait_for_log(rf" disconnect .*\bhelo={re.escape(name)}\b")


def ask(config, *arguments):
    """The answer of a command as a list: with --json each line is one object."""
    command = [program(), *arguments, "--config", config, "--json"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def hooks_in(records):
    """Every (plugin or part of the server, hook or step) in the records of a trace."""
    return {(entry["who"], entry["step"]) for record in records for entry in record["entries"]}


class Dev:
    """`waxwing dev` in a folder of its own, on ports of its own."""

    ADDRESS = "demo@localhost"

    def __init__(self, as_service_user=True):
        self.folder = system.work_folder("dev")
        self.as_service_user = as_service_user
        self.state = os.path.join(self.folder, "state")
        self.log = os.path.join(self.folder, "dev.log")
        self.port, self.submission_port = system.free_port(), system.free_port()
        self.process = None

    @property
    def maildir(self):
        """The demo user's Maildir."""
        return os.path.join(self.state, "mail", "waxwing.test", "demo")

    def start(self, seconds=120.0):
        """Starts it and waits for the SMTP port; the first start compiles plugins."""
        command = [program(), "dev", "--dir", self.state, "--smtp-port", str(self.port), "--submission-port", str(self.submission_port)]
        self.process = system.start(command, self.log, self.as_service_user, cwd=self.folder)
        try:
            system.wait_for_port(self.port, self.process, seconds)
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}\n{system.tail(self.log)}") from None
        return self

    def stop(self):
        """Ends it; returns its exit code."""
        return system.stop(self.process) if self.process else None

    def close(self):
        """Ends it and removes its folder."""
        self.stop()
        system.remove_folder(self.folder)

    def ask(self, *arguments):
        """The objects that a command answers which talks to the running server."""
        return ask(os.path.join(self.state, "waxwing.toml"), *arguments)
