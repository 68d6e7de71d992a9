"""Milters of Debian, each a private instance with a configuration of its own on loopback."""
import os
import shutil
import socket
import subprocess

from . import system

RSPAMD = """
options {{
  pidfile = "{folder}/rspamd.pid";
  tempdir = "{folder}";
  url_tld = "{folder}/tld";
  filters = "";
  dns {{ nameserver = ["127.0.0.1:1"]; timeout = 100ms; retransmits = 1; }}
}}
logging {{ type = "file"; filename = "{folder}/rspamd.log"; level = "info"; }}
actions {{ reject = 15; add_header = 6; }}
worker "rspamd_proxy" {{
  bind_socket = "127.0.0.1:{port}";
  milter = yes;
  timeout = 20s;
  count = 1;
  upstream "local" {{ default = yes; self_scan = yes; }}
}}
modules {{ path = "/usr/share/rspamd/plugins/milter_headers.lua"; }}
milter_headers {{
  use = ["x-rspamd-queue-id", "x-spam-status"];
  skip_local = false;
  skip_authenticated = false;
}}
"""

OPENDKIM = """
Syslog no
Mode {mode}
Domain {domain}
Selector test
KeyFile {folder}/test.private
Canonicalization simple/simple
InternalHosts {folder}/internal-{mode}
PeerList {folder}/none
Socket {socket}
PidFile {folder}/opendkim.pid
TestDNSData {folder}/dns
RequireSafeKeys no
AuthservID verifier.test
AlwaysAddARHeader yes
Background no
"""


def missing(*programs):
    """Why the cases can't run, or nothing."""
    gone = [name for name in programs if not shutil.which(name)]
    return f"not installed: {', '.join(gone)} (apt-get install {' '.join(gone)})" if gone else None


class Milter:
    """A running milter; `place` is what the configuration of Waxwing names."""

    def __init__(self, folder, name, command, place):
        self.log = os.path.join(folder, f"{name}.out")
        self.place, self.command = place, command
        self.process = None

    def start(self):
        """Starts it and waits until it answers."""
        self.process = system.start(self.command, self.log)

        def answers():
            if self.process.poll() is not None:
                raise AssertionError(f"{self.command[0]} ended with {self.process.returncode}\n{system.tail(self.log)}")
            return self.connects()

        system.wait_for(f"{self.command[0]} at {self.place}", answers)
        return self

    def connects(self):
        """Whether it accepts a connection."""
        kind, _, rest = self.place.partition(":")
        family, address = (socket.AF_UNIX, rest) if kind == "unix" else (socket.AF_INET, ("127.0.0.1", int(rest.split("@")[0])))
        with socket.socket(family) as probe:
            try:
                probe.connect(address)
                return True
            except OSError:
                return False

    def kill(self):
        """Ends it at once, with what it has started."""
        if self.process and self.process.poll() is None:
            children = subprocess.run(["ps", "--ppid", str(self.process.pid), "-o", "pid="], capture_output=True, text=True)
            self.process.kill()
            self.process.wait()
            for pid in children.stdout.split():
                try:
                    os.kill(int(pid), 9)
                except ProcessLookupError:
                    pass


def rspamd(folder):
    """Scans by itself, with no rules but its own for GTUBE and no network."""
    port = system.free_port()
    # Its own list has ten thousand names, which it compiles at each start for half a minute.
    _write(folder, "tld", "com\ntest\n")
    config = _write(folder, "rspamd.conf", RSPAMD.format(folder=folder, port=port))
    return Milter(folder, "rspamd", ["rspamd", "-f", "-c", config], f"inet:{port}@127.0.0.1")


def opendkim_key(folder, domain):
    """A key pair and the DNS record of its public half."""
    subprocess.run(["opendkim-genkey", "-b", "2048", "-d", domain, "-s", "test", "-D", folder], check=True, capture_output=True)
    with open(os.path.join(folder, "test.txt")) as file:
        record = "".join(file.read().split('"')[1::2])
    system.give_to_service_user(os.path.join(folder, "test.private"))
    _write(folder, "dns", f"test._domainkey.{domain} {record}\n")
    # It signs what comes from inside, verifies what does not, and passes over its peers.
    _write(folder, "internal-s", "127.0.0.1\n")
    _write(folder, "internal-v", "192.0.2.254\n")
    _write(folder, "none", "192.0.2.255\n")


def opendkim(folder, domain, mode):
    """Signs (`s`) what comes from 127.0.0.1, or verifies (`v`) it, over a local socket."""
    path = os.path.join(folder, f"{mode}.sock")
    text = OPENDKIM.format(folder=folder, domain=domain, mode=mode, socket=f"local:{path}")
    config = _write(folder, f"opendkim-{mode}.conf", text)
    return Milter(folder, f"opendkim-{mode}", ["opendkim", "-f", "-x", config], f"unix:{path}")


def _write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o644)
    return path
