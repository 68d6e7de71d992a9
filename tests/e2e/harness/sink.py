"""An SMTP server that keeps what it gets, and answers as badly as a test wants."""
import socket
import threading

from . import system


class Sink:
    """Listens on a port of its own while it is open; `messages` are (sender, recipients, content with LF line ends)."""

    def __init__(self, extensions=("PIPELINING", "8BITMIME", "SIZE 104857600"), replies=None, port=None):
        """`replies` maps MAIL, RCPT, DATA or END to a reply that is given instead of the good one."""
        self.port = port or system.free_port()
        self.extensions, self.replies = extensions, dict(replies or {})
        self.messages, self.commands = [], []
        self.lock = threading.Lock()
        self.listener = None
        self.connections = set()

    def open(self):
        """Begins to listen."""
        self.listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()
        return self

    def close(self):
        """Stops listening and ends open connections: the port then refuses."""
        if self.listener:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
        with self.lock:
            for connection in self.connections:
                try:
                    connection.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    __enter__ = open

    def __exit__(self, *_):
        self.close()

    def wait_for(self, count, seconds=30.0):
        """Waits for that many messages and returns them."""
        system.wait_for(f"{count} messages at the sink (it has {len(self.messages)})", lambda: len(self.messages) >= count, seconds)
        return list(self.messages)

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        try:
            with connection, connection.makefile("rb", 1 << 16) as lines:
                connection.sendall(b"220 sink.example.test ESMTP\r\n")
                self._session(connection, lines)
        except OSError:
            pass
        finally:
            with self.lock:
                self.connections.discard(connection)

    def _session(self, connection, lines):
        sender, recipients = None, []
        for line in lines:
            text = line.decode("latin-1").rstrip("\r\n")
            verb = text[:4].upper()
            with self.lock:
                self.commands.append(text)
            if verb == "EHLO":
                greeting = ["sink.example.test", *self.extensions]
                marks = ["-"] * (len(greeting) - 1) + [" "]
                reply = "\r\n".join(f"250{mark}{word}" for mark, word in zip(marks, greeting))
            elif verb == "MAIL":
                sender, recipients = _path(text), []
                reply = self.replies.get("MAIL", "250 2.1.0 ok")
            elif verb == "RCPT":
                reply = self.replies.get("RCPT", "250 2.1.5 ok")
                if reply[0] == "2":
                    recipients.append(_path(text))
            elif verb == "DATA":
                reply = self.replies.get("DATA", "354 go on" if recipients else "554 5.5.1 no recipients")
                if reply[0] == "3":
                    connection.sendall(reply.encode() + b"\r\n")
                    reply = self._message(lines, sender, recipients)
                    if reply is None:
                        return
            elif verb == "QUIT":
                connection.sendall(b"221 2.0.0 bye\r\n")
                return
            else:
                reply = "250 2.0.0 ok"
            connection.sendall(reply.encode() + b"\r\n")

    def _message(self, lines, sender, recipients):
        content = []
        for line in lines:
            if line == b".\r\n":
                break
            content.append(line[1:] if line.startswith(b".") else line)
        else:
            return None
        reply = self.replies.get("END", "250 2.0.0 taken")
        if reply[0] == "2" and recipients:
            with self.lock:
                self.messages.append((sender, list(recipients), b"".join(content).replace(b"\r\n", b"\n")))
        return reply


def _path(text):
    return text[text.find("<") + 1:text.find(">")]
