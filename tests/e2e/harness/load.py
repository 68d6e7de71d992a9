"""Mail that keeps coming while something else is tried."""
import threading

from . import client, messages


class Load:
    """Sessions that stay open and send message after message, while the `with` lasts."""

    def __init__(self, server, sessions, pause_seconds):
        self.server, self.pause_seconds = server, pause_seconds
        self.sent, self.errors = [], []
        self.end = threading.Event()
        self.threads = [threading.Thread(target=self.session, args=(number,)) for number in range(sessions)]

    def session(self, number):
        try:
            with client.Client(self.server.port) as connection:
                while not self.end.is_set():
                    message = messages.plain(f"session{number}")
                    self.sent.append(connection.deliver(message, "ann@example.test", f"demo@{self.server.domain}"))
                    self.end.wait(self.pause_seconds)
        except Exception as error:  # told to the main thread
            self.errors.append(error)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        for thread in self.threads:
            thread.join()
