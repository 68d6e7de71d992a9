"""Reads a Maildir."""
import os

from . import system


def files(path):
    """Paths of the messages, the oldest first."""
    found = []
    for folder in ("new", "cur"):
        try:
            with os.scandir(os.path.join(path, folder)) as entries:
                found += [(entry.stat().st_mtime_ns, entry.path) for entry in entries]
        except FileNotFoundError:
            pass
    return [path for _, path in sorted(found)]


def read_all(path):
    """Contents of the messages."""
    contents = []
    for file in files(path):
        with open(file, "rb") as message:
            contents.append(message.read())
    return contents


def clear(path):
    """Removes the messages."""
    for file in files(path):
        os.unlink(file)


def wait_for_one(path, seconds=30.0):
    """The content of the only message, once it is there."""
    system.wait_for(f"a message in {path}", lambda: files(path), seconds)
    contents = read_all(path)
    if len(contents) != 1:
        raise AssertionError(f"{len(contents)} messages in {path}, expected one")
    return contents[0]
