"""Reads a strace of the server and says which acknowledgements left before the message was on the disk.

What makes the proof: strace sees each call begin and end, in one order for all threads. A thread that has waited for a
sync goes on only after strace saw that sync end; a reply is on the wire only after strace saw that call begin. So for
every `250 … queued as ID` there must be a file of the queue for which, in this order,
  1. the whole message (its first and its last token) was written, and those writes had ended;
  2. a sync of that file began, and ended with 0;
  3. the call that sends the 250 began.
A sync that began before the write ended doesn't count, nor does one of another file. A message whose body lies in a file
of its own needs that for the body and for the record that names it, and a sync of the directory after the file was made.
"""
import os
import re

CALLS = "write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync,openat,close"
STRACE = ["strace", "-f", "-qq", "--seccomp-bpf", "-y", "-s", "4194304", "-e", f"trace={CALLS}"]
_TAIL = 128  # characters of a file's last write that a token may begin in


class Event:
    """One system call: where it begins and ends in the order of the trace."""

    __slots__ = ("name", "text", "begin", "end", "path", "result")

    def __init__(self, name, text, begin):
        self.name, self.text, self.begin = name, text, begin
        self.end = self.path = self.result = None

    def finish(self, end):
        """Takes result and path from the complete text."""
        self.end = end
        path = re.search(r"\(\d+<([^>]*)>", self.text)
        self.path = path[1] if path else None
        result = re.search(r"\)\s+= (-?\d+)(?:<([^>]*)>)?[^=]*$", self.text)
        self.result = int(result[1]) if result else None
        if self.name == "openat" and result and result[2]:
            self.path = result[2]
        return self


def events(lines):
    """The system calls of a trace; the last of each thread may be unfinished and is left out."""
    open_calls, found = {}, []
    for number, line in enumerate(lines):
        match = re.match(r"(\d+)\s+(?:<\.\.\. (\w+) resumed>|(\w+)\()(.*)", line, re.S)
        if not match:
            continue
        pid, resumed, name, rest = match.groups()
        if resumed:
            event = open_calls.pop(pid, None)
            if event is not None:
                event.text += rest.rstrip("\n")
                event.finish(number)
            continue
        event = Event(name, f"{name}({rest}".rstrip("\n"), number)
        found.append(event)
        if event.text.endswith("<unfinished ...>"):
            event.text = event.text.removesuffix("<unfinished ...>")
            open_calls[pid] = event
        else:
            event.finish(number)
    return found


def _data(event):
    """What a call wrote, as strace shows it."""
    parts = re.findall(r'"((?:[^"\\]|\\.)*)"(\.\.\.)?', event.text)
    if any(cut for _, cut in parts):
        raise AssertionError(f"strace cut what {event.name} wrote to {event.path}")
    return "".join(part for part, _ in parts)


class Trace:
    """The calls of one run, by what they mean for the queue in `queue_directory`."""

    def __init__(self, lines, queue_directory):
        self.writes = {}        # path -> [(end, text with the tail of the write before)]
        self.syncs = {}         # path -> [(begin, end)], the successful ones
        self.created = {}       # path -> end of the call that made it
        self.replies = {}       # queue id -> begin of the call that sent its 250
        tails = {}
        for event in events(lines):
            inside = event.path is not None and event.path.startswith(queue_directory)
            if event.name in ("fsync", "fdatasync"):
                if event.result == 0:
                    self.syncs.setdefault(event.path, []).append((event.begin, event.end))
            elif event.name == "openat":
                if inside and "O_CREAT" in event.text:
                    self.created.setdefault(event.path, event.end)
            elif event.name != "close" and inside:
                text = _data(event)
                self.writes.setdefault(event.path, []).append((event.end, tails.get(event.path, "") + text))
                tails[event.path] = text[-_TAIL:]
            elif event.name != "close" and "queued as " in event.text and "socket:" in event.text + str(event.path):
                for queue_id in re.findall(r"250[ -]2\.\d+\.\d+ [^\"]*?queued as (\w+)", event.text):
                    self.replies.setdefault(queue_id, event.begin)

    def sync_count(self):
        """Successful syncs of any file."""
        return sum(len(syncs) for syncs in self.syncs.values())

    def _synced(self, path, written, reply):
        return any(written < begin and end < reply for begin, end in self.syncs.get(path, ()))

    def _written(self, path, token, reply):
        """When the last of the writes of `token` to `path` ended, of those before the reply; or None."""
        return max((end for end, text in self.writes[path] if token in text and end is not None and end < reply), default=None)

    def fault(self, queue_id, first, last):
        """Why the 250 of a message came too early, or None; `first` and `last` are tokens at its begin and its end."""
        reply = self.replies.get(queue_id)
        if reply is None:
            return "no 250 was seen"
        for path in self.writes:
            begin, end = self._written(path, first, reply), self._written(path, last, reply)
            if begin is not None and end is not None and self._synced(path, max(begin, end), reply):
                return None
        return self._fault_of_parts(first, last, reply)

    def _fault_of_parts(self, first, last, reply):
        """The same for a message whose head and body lie in different files."""
        heads = [(path, self._written(path, first, reply)) for path in self.writes]
        bodies = [(path, self._written(path, last, reply)) for path in self.writes]
        if not any(written is not None and self._synced(path, written, reply) for path, written in heads):
            return "no sync covers the record before the 250"
        for path, written in bodies:
            if written is not None and self._synced(path, written, reply):
                made = self.created.get(path)
                if made is None or self._synced(os.path.dirname(path), made, reply):
                    return None
                return "the body's directory was not synced before the 250"
        return "no sync covers the end of the body before the 250"
