"""An SMTP client that sends what it is told, octet by octet."""
import re
import socket


class Client:
    """One connection; every command returns its reply as (code, text)."""

    def __init__(self, port, source=None, host="127.0.0.1", seconds=120, ehlo=True):
        self.socket = socket.create_connection((host, port), seconds, (source, 0) if source else None)
        self.input = self.socket.makefile("rb")
        self.greeting = self.reply()
        self.extensions = self.command("EHLO client.example.test")[1] if ehlo else ""

    def reply(self):
        """Reads one reply."""
        lines = []
        while True:
            line = self.input.readline()
            if not line:
                raise ConnectionError(f"closed by the server after {lines!r}")
            lines.append(line.decode("latin-1").rstrip("\r\n"))
            if line[3:4] != b"-":
                return int(lines[-1][:3]), "\n".join(part[4:] for part in lines)

    def send(self, octets):
        """Sends octets."""
        self.socket.sendall(octets)

    def command(self, line):
        """Sends a command and reads its reply."""
        self.send(line.encode() + b"\r\n")
        return self.reply()

    def envelope(self, sender, *recipients, parameters=""):
        """MAIL (with parameters such as ` SMTPUTF8`) and RCPT, which must be accepted."""
        self.accepted(self.command(f"MAIL FROM:<{sender}>{parameters}"))
        for recipient in recipients:
            self.accepted(self.command(f"RCPT TO:<{recipient}>"))

    def data(self, message):
        """DATA, the message, the dot; returns the final reply."""
        code, text = self.command("DATA")
        if code != 354:
            return code, text
        self.send(re.sub(rb"(?m)^\.", b"..", message) + b".\r\n")
        return self.reply()

    def deliver(self, message, sender, *recipients):
        """A whole transaction; returns the queue id."""
        self.envelope(sender, *recipients)
        code, text = self.accepted(self.data(message))
        found = re.search(r"queued as (\w+)", text)
        if not found:
            raise AssertionError(f"no queue id in: {code} {text}")
        return found[1]

    @staticmethod
    def accepted(reply):
        """The reply, which must be positive."""
        if not 200 <= reply[0] < 300:
            raise AssertionError(f"refused: {reply[0]} {reply[1]}")
        return reply

    def close(self):
        """Says QUIT and closes."""
        try:
            self.command("QUIT")
        except OSError:
            pass
        self.input.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
