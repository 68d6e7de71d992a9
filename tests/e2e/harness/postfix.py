"""A private Postfix: own configuration, spool and loopback port; the system's own, if any, is not touched."""
import os
import pwd
import subprocess

from . import system

MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
lmtp unix - - n - - lmtp
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
tlsmgr unix - - n 1000? 1 tlsmgr
postlog unix-dgram n - n - 1 postlogd
"""


class Postfix:
    """Delivers to the Maildir of `demo` at its domain, or relays all to `relayhost`."""

    def __init__(self, relayhost="", domain="postfix.example.test", processes=100, **settings):
        self.folder = system.work_folder("postfix")
        os.chown(self.folder, 0, 0)
        self.port = system.free_port()
        self.domain = domain
        self.etc = os.path.join(self.folder, "etc")
        self.spool = os.path.join(self.folder, "spool")
        self.log = os.path.join(self.folder, "mail.log")
        for folder in (self.etc, self.spool, f"{self.folder}/data", f"{self.folder}/mail"):
            os.mkdir(folder)
        postfix, owner = pwd.getpwnam("postfix"), pwd.getpwnam(system.SERVICE_USER)
        os.chown(f"{self.folder}/data", postfix.pw_uid, postfix.pw_gid)
        os.chown(f"{self.folder}/mail", owner.pw_uid, owner.pw_gid)
        main = {
            "compatibility_level": "3.6",
            "queue_directory": self.spool,
            "data_directory": f"{self.folder}/data",
            "daemon_directory": "/usr/lib/postfix/sbin",
            "command_directory": "/usr/sbin",
            "shlib_directory": "/usr/lib/postfix",
            "mail_owner": "postfix",
            "setgid_group": "postdrop",
            "inet_interfaces": "127.0.0.1",
            "inet_protocols": "ipv4",
            "myhostname": domain,
            "mydestination": "",
            "mynetworks": "127.0.0.0/8",
            "smtpd_peername_lookup": "no",
            "disable_dns_lookups": "yes",
            "smtp_host_lookup": "native",
            "smtp_tls_security_level": "none",
            "smtpd_tls_security_level": "none",
            "relayhost": relayhost,
            "maillog_file": self.log,
            "maillog_file_prefixes": self.folder,
            "default_process_limit": str(processes),
            "in_flow_delay": "0",
            "message_size_limit": "104857600",
            "virtual_mailbox_limit": "0",
            "alias_maps": "",
            "local_recipient_maps": "",
            "virtual_mailbox_domains": domain,
            "virtual_mailbox_base": f"{self.folder}/mail",
            "virtual_mailbox_maps": "static:demo/Maildir/",
            "virtual_minimum_uid": "1",
            "virtual_uid_maps": f"static:{owner.pw_uid}",
            "virtual_gid_maps": f"static:{owner.pw_gid}",
            **settings,
        }
        with open(f"{self.etc}/main.cf", "w") as file:
            file.writelines(f"{key} = {value}\n" for key, value in main.items())
        with open(f"{self.etc}/master.cf", "w") as file:
            file.write(MASTER.format(port=self.port))
        self.processes = None

    @property
    def maildir(self):
        """The Maildir of `demo`."""
        return os.path.join(self.folder, "mail", "demo", "Maildir")

    def command_line(self):
        """Starts the master, which goes on in the background."""
        return ["postfix", "-c", self.etc, "start"]

    def start(self):
        """Starts it and waits for its port."""
        done = subprocess.run(self.command_line(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        if done.returncode != 0:
            raise AssertionError(f"postfix: {done.stdout}{done.stderr}")
        system.wait_for_port(self.port)
        return self

    def queued(self):
        """Messages in its queue."""
        queues = (os.path.join(self.spool, name) for name in ("incoming", "active", "deferred", "maildrop"))
        return sum(len(files) for queue in queues for _, _, files in os.walk(queue))

    def master_pid(self):
        """The process that all its processes descend from."""
        with open(os.path.join(self.spool, "pid", "master.pid")) as file:
            return int(file.read())

    def stop(self):
        """Ends it and waits until its processes are gone."""
        try:
            pid = self.master_pid()
        except OSError:
            return
        subprocess.run(["postfix", "-c", self.etc, "stop"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        system.wait_for("postfix to end", lambda: not os.path.exists(f"/proc/{pid}"))

    def close(self):
        """Ends it and removes its folder."""
        self.stop()
        system.remove_folder(self.folder)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.close()
