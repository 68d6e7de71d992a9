"""Exim and OpenSMTPD of Debian as private instances on loopback that relay everything to one port.

Their packages exclude Postfix's, so they are unpacked beside it: tests/e2e/fetch-peers FOLDER, and PEERS=FOLDER.
"""
import glob
import os
import re
import shutil
import subprocess

from . import system

FOLDER = os.environ.get("PEERS", "")
EXIM = os.path.join(FOLDER, "exim", "usr", "sbin", "exim4")
OPENSMTPD = os.path.join(FOLDER, "opensmtpd", "usr", "sbin", "smtpd")

# Libraries that they need and the system lacks, unpacked with them.
LIBRARIES = os.path.join(FOLDER, "libraries")

# Users that the programs insist on, in a file of their own that is mounted over the system's for the program alone.
USERS = {"Debian-exim": 901, "opensmtpd": 902, "opensmtpq": 903}


def with_users(folder, script):
    """A command that runs a shell script where these users exist."""
    for kind, end in (("passwd", ":x:{0}:{0}::/var/lib/opensmtpd/empty:/usr/sbin/nologin"), ("group", ":x:{0}:")):
        with open(f"/etc/{kind}") as system_file, open(f"{folder}/{kind}", "w") as file:
            file.write(system_file.read())
            file.writelines(name + end.format(number) + "\n" for name, number in USERS.items())
        os.chmod(f"{folder}/{kind}", 0o644)
    mounts = f"mount --make-rprivate / && mount --bind {folder}/passwd /etc/passwd && mount --bind {folder}/group /etc/group"
    found = [path.removeprefix(LIBRARIES) for part in ("usr/lib", "lib") for path in glob.glob(f"{LIBRARIES}/{part}/*-linux-gnu")]
    if found:
        # Mounted, because the service user may not look into the folder that they are in.
        os.makedirs(f"{folder}/libraries", exist_ok=True)
        places = ":".join(f"{folder}/libraries{path}" for path in found)
        mounts += f" && mount --bind {LIBRARIES} {folder}/libraries && export LD_LIBRARY_PATH={places}"
    return ["unshare", "-m", "sh", "-c", f"{mounts} && {script}"]


EXIM_CONFIG = """\
primary_hostname = exim.example.test
exim_path = {exim}
exim_user = {user}
exim_group = {user}
spool_directory = {folder}/spool
log_file_path = {folder}/%slog
pid_file_path = {folder}/exim.pid
deliver_drop_privilege = true
host_lookup =
tls_advertise_hosts =
trusted_users = {user}
qualify_domain = example.test
message_size_limit = 100M
never_users =
keep_environment =
acl_smtp_rcpt = accept
smtp_enforce_sync = false
smtputf8_advertise_hosts = *
begin routers
relay:
  driver = manualroute
  transport = remote
  route_list = * 127.0.0.1::{port}
  self = send
begin transports
remote:
  driver = smtp
  allow_localhost
  hosts_try_prdr = *
  hosts_try_chunking = *
{tls}
begin retry
* * F,1h,5s
"""


class Exim:
    """Hands each message on at once, in the foreground."""

    def __init__(self, port, tls=False, newest="1.3"):
        """`tls` makes it insist on STARTTLS, of no version above `newest`."""
        self.folder = system.work_folder("exim")
        spool = os.path.join(self.folder, "spool")
        os.mkdir(spool, 0o750)
        system.give_to_service_user(spool)
        self.program = os.path.join(self.folder, "exim4")
        shutil.copy(EXIM, self.program)
        self.config = os.path.join(self.folder, "exim.conf")
        tls_lines = "  hosts_avoid_tls = *"
        if tls:
            tls_lines = "  hosts_require_tls = *\n  tls_verify_certificates =\n  tls_try_verify_hosts ="
            if newest != "1.3":
                tls_lines += f"\n  tls_require_ciphers = NORMAL:-VERS-ALL:+VERS-TLS{newest}"
        with open(self.config, "w") as file:
            file.write(EXIM_CONFIG.format(exim=self.program, user=system.SERVICE_USER, folder=self.folder, port=port, tls=tls_lines))

    def send(self, message, sender, *recipients, parameters=""):
        """One message (CRLF line ends), with parameters of MAIL; it is delivered when this returns. Gives the log's lines, and what it said
        to the next server: with -v it prints each command, within TLS too, with ` >> ` or `SMTP>> ` before it."""
        user = system.SERVICE_USER
        script = f"exec setpriv --reuid={user} --regid={user} --clear-groups {self.program} -C {self.config} -odf -v -bs"
        opening = ["EHLO client.example.test", f"MAIL FROM:<{sender}>{parameters}", *(f"RCPT TO:<{recipient}>" for recipient in recipients), "DATA"]
        spoken = "".join(line + "\r\n" for line in opening).encode() + re.sub(rb"(?m)^\.", b"..", message) + b".\r\nQUIT\r\n"
        done = subprocess.run(with_users(self.folder, script), input=spoken, capture_output=True, timeout=60)
        log = system.tail(os.path.join(self.folder, "mainlog"), 40)
        if done.returncode != 0 or " => " not in log:
            raise AssertionError(f"exim: {done.returncode} {done.stdout}{done.stderr}\n{log}")
        return log, done.stderr.decode(errors="replace")

    def close(self):
        """Removes its folder."""
        system.remove_folder(self.folder)


class OpenSmtpd:
    """Listens on a port of its own."""

    def __init__(self, port, tls=False):
        self.folder = system.work_folder("opensmtpd")
        os.chown(self.folder, 0, 0)
        self.port = system.free_port()
        self.log = os.path.join(self.folder, "log")
        self.config = os.path.join(self.folder, "smtpd.conf")
        queue = USERS["opensmtpq"]
        spool = os.path.join(self.folder, "spool")
        os.mkdir(spool, 0o711)
        for name in ("corrupt", "incoming", "offline", "purge", "queue", "temporary"):
            os.mkdir(os.path.join(spool, name), 0o700)
            os.chown(os.path.join(spool, name), queue, 0)
        os.chown(os.path.join(spool, "offline"), 0, queue)
        os.chmod(os.path.join(spool, "offline"), 0o770)
        scheme = "smtp+tls" if tls else "smtp+notls"
        with open(self.config, "w") as file:
            file.write(f'listen on 127.0.0.1 port {self.port} hostname opensmtpd.example.test\n'
                       f'action "relay" relay host {scheme}://127.0.0.1:{port}{" tls no-verify" if tls else ""} helo opensmtpd.example.test\n'
                       'match from any for any action "relay"\n')
        os.chmod(self.config, 0o600)

    def start(self):
        """Starts it where its folders are mounted over those of the system, for it alone."""
        root = os.path.join(FOLDER, "opensmtpd")
        for place in ("/var/spool/smtpd", "/usr/libexec/opensmtpd", "/var/lib/opensmtpd/empty"):
            os.makedirs(place, exist_ok=True)
        script = (f"mount --bind {self.folder}/spool /var/spool/smtpd && "
                  f"mount --bind {root}/usr/libexec/opensmtpd /usr/libexec/opensmtpd && exec {OPENSMTPD} -d -f {self.config}")
        self.process = system.start(with_users(self.folder, script), self.log, as_service_user=False)
        try:
            system.wait_for_port(self.port, self.process)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{system.tail(self.log)}") from None
        return self

    def close(self):
        """Ends it and removes its folder."""
        system.stop(self.process)
        system.remove_folder(self.folder)
