"""Processes, ports, folders and waiting."""
import ctypes
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

ROOT = os.geteuid() == 0
# As root the servers run as this user of every Debian: nothing here needs to serve as root.
SERVICE_USER = "mail"
# Loopback ports above the ephemeral ones. The runner gives each script that runs at the same time a range of its own: FIRST-LAST.
PORTS_FIRST, PORTS_LAST = (int(end) for end in os.environ.get("WAXWING_PORTS", "61000-64999").split("-"))
_handed_out = set()


class Timeout(AssertionError):
    """Something that was waited for did not happen."""


def free_port():
    """A loopback port of the range that nobody listens on, handed out once. Each process begins elsewhere: several may share a range."""
    count = PORTS_LAST - PORTS_FIRST + 1
    first = os.getpid() * 37 % count
    for port in (PORTS_FIRST + (first + number) % count for number in range(count)):
        if port in _handed_out:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _handed_out.add(port)
        return port
    raise AssertionError("no free port")


def wait_for(what, condition, seconds=30.0, pause=0.05):
    """Calls `condition` until it gives something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise Timeout(f"waited {seconds:g} s for {what}")
        time.sleep(pause)


def wait_for_lines(path, pattern, count=1, seconds=30.0, after=0):
    """Waits until the file at `path`, which another process writes, has `count` whole lines that match the regular expression `pattern`
    behind its first `after` octets; returns all of them, or raises Timeout with the file's end."""

    def matching():
        lines = _whole_lines(path, after)
        found = [line for line in lines if re.search(pattern, line)]
        return found if len(found) >= count else None

    try:
        return wait_for(f"{count} lines with {pattern!r} in {path}", matching, seconds)
    except Timeout as error:
        raise Timeout(f"{error}\n{tail(path)}") from None


def _whole_lines(path, after):
    try:
        with open(path, "rb") as file:
            file.seek(after)
            return file.read().decode("utf-8", "replace").split("\n")[:-1]
    except FileNotFoundError:
        return []


def accepts(port):
    """Whether something accepts connections on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def greets(port):
    """Whether an SMTP server on a loopback port says 220; a bound port whose server still starts accepts, and is silent."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            return connection.recv(4).startswith(b"220")
    except OSError:
        return False


def wait_for_port(port, process=None, seconds=30.0):
    """Waits until an SMTP server greets on it; fails at once when `process` ends before."""

    def ready():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"the server ended with {process.returncode} before port {port} opened")
        return greets(port)

    wait_for(f"port {port}", ready, seconds)


def work_folder(name):
    """A new folder that the service user may write, outside of the source tree."""
    folder = tempfile.mkdtemp(prefix=f"waxwing-{name}-")
    os.chmod(folder, 0o755)
    give_to_service_user(folder)
    return folder


def give_to_service_user(path):
    """Makes `path` belong to the user the servers run as."""
    if ROOT:
        entry = pwd.getpwnam(SERVICE_USER)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def remove_folder(folder):
    """Removes a work folder, unless KEEP is set to look at it."""
    if os.environ.get("KEEP"):
        print(f"kept: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)


def _die_with_parent():
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


# How a program is started as that user; root only.
AS_SERVICE_USER = {"user": SERVICE_USER, "group": SERVICE_USER, "extra_groups": []} if ROOT else {}


def start(command, log, as_service_user=True, env=None, cwd=None):
    """Starts a program that ends with this script; its output goes to the file `log`."""
    account = AS_SERVICE_USER if as_service_user else {}
    with open(log, "ab") as output:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=_die_with_parent,
            env={**os.environ, **(env or {})}, cwd=cwd, **account,
        )


def stop(process, seconds=20.0):
    """Ends a process that `start` started: asks, waits, insists. Returns its exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


def tail(path, lines=30):
    """The last lines of a log, for the message of a failure."""
    try:
        with open(path, errors="replace") as file:
            return "".join(file.readlines()[-lines:])
    except OSError as error:
        return str(error)


def pss_megabytes(pid):
    """The process's share of memory, shared pages divided among their users."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    raise AssertionError("no Pss line")
