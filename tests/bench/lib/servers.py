"""The servers that are measured: each relays everything to one loopback port, with its log on and no DNS."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "e2e"))
from harness import postfix, system, waxwing  # noqa: E402

DURABLE_CALLS = "fsync,fdatasync,sync,syncfs,sync_file_range,msync"


class WaxwingRelay:
    """As it comes: both standard plugins, log and trace on; started by root, it serves as another user."""

    name = "waxwing"

    def __init__(self, sink_port, wrap=()):
        self.server = waxwing.Waxwing("bench", as_service_user=False, relayhost=f"[127.0.0.1]:{sink_port}")
        user = system.SERVICE_USER
        self.server.wrap = [*wrap, "setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]

    def start(self):
        """Starts it on an empty queue."""
        self.server.start()
        self.port = self.server.port
        return self

    def queued(self):
        """Entries of its queue."""
        return len(self.server.units())

    def hook_calls(self):
        """{plugin: {hook: calls so far}}."""
        return {plugin["name"]: {hook["hook"]: hook["calls"] for hook in plugin["hooks"]}
                for plugin in self.server.ask("plugin", "list")}

    def close(self):
        """Ends it."""
        process = self.server.process
        if process is not None and process.poll() is None:
            # Under strace the server is a child; a signal to strace would only detach it.
            with open(f"/proc/{process.pid}/task/{process.pid}/children") as file:
                children = file.read().split()
            for pid in children:
                os.kill(int(pid), 15)
        self.server.close()


class PostfixRelay:
    """Debian's Postfix with its defaults, but for what slows it on purpose (in_flow_delay) or looks up names."""

    name = "postfix"

    def __init__(self, sink_port, wrap=()):
        self.server = postfix.Postfix(relayhost=f"[127.0.0.1]:{sink_port}")
        self.wrap = list(wrap)
        self.process = None

    def start(self):
        """Starts it on an empty queue."""
        command = [*self.wrap, *self.server.command_line()]
        self.process = system.start(command, os.path.join(self.server.folder, "start.log"), as_service_user=False)
        system.wait_for_port(self.server.port)
        self.port = self.server.port
        return self

    def queued(self):
        """Files in its queues."""
        return self.server.queued()

    def hook_calls(self):
        """It has no plugins."""
        return {}

    def close(self):
        """Ends it."""
        self.server.stop()
        self.process.wait(30)
        self.server.close()


SERVERS = {server.name: server for server in (WaxwingRelay, PostfixRelay)}
