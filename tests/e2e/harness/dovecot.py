"""A private Dovecot that takes mail by LMTP: own configuration and loopback port; the system's own, if any, is not touched."""
import os
import pwd

from . import system

CONFIG = """\
protocols = lmtp
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/dovecot.log
default_internal_user = dovecot
default_login_user = dovenull
ssl = no
mail_location = maildir:~/Maildir
mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = 1
first_valid_gid = 1
recipient_delimiter =
lmtp_rcpt_check_quota = no
protocol lmtp {{
  postmaster_address = postmaster@store.test
  mail_plugins =
}}
service lmtp {{
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
  unix_listener lmtp {{
    path = {folder}/lmtp
    mode = 0666
  }}
}}
passdb {{
  driver = passwd-file
  args = {folder}/users
}}
userdb {{
  driver = passwd-file
  args = username_format=%n {folder}/users
}}
"""


class Dovecot:
    """Has mailboxes for `users`, whatever the domain."""

    def __init__(self, *users):
        self.folder = system.work_folder("dovecot")
        os.chmod(self.folder, 0o755)
        owner = pwd.getpwnam(system.SERVICE_USER)
        self.port = system.free_port()
        self.socket = f"{self.folder}/lmtp"
        for name in ("run", "state", "mail"):
            os.mkdir(f"{self.folder}/{name}")
        os.chown(f"{self.folder}/mail", owner.pw_uid, owner.pw_gid)
        with open(f"{self.folder}/users", "w") as file:
            file.writelines(f"{user}:{{plain}}x:{owner.pw_uid}:{owner.pw_gid}::{self.folder}/mail/{user}::\n" for user in users)
        self.config = f"{self.folder}/dovecot.conf"
        with open(self.config, "w") as file:
            file.write(CONFIG.format(folder=self.folder, port=self.port, uid=owner.pw_uid, gid=owner.pw_gid))
        self.process = None

    def maildir(self, user):
        """The Maildir of one of the users."""
        return f"{self.folder}/mail/{user}/Maildir"

    def __enter__(self):
        command = ["dovecot", "-F", "-c", self.config]
        self.process = system.start(command, f"{self.folder}/out.log", as_service_user=False)
        system.wait_for_port(self.port, self.process)
        return self

    def __exit__(self, *_):
        system.stop(self.process)
        system.remove_folder(self.folder)
