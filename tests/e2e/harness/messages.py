"""Messages that mail servers have been known to spoil, and the comparison of what was sent with what arrived."""
import base64
import os
import re

# What the server, its cleanup plugin and the hops on the way may add. Nothing else may appear.
ADDED = {b"return-path", b"delivered-to", b"received", b"date", b"message-id", b"from", b"x-original-to"}

_HEAD = b"From: Ann Example <ann@example.test>\r\nTo: Demo <demo@example.test>\r\nSubject: %s\r\nDate: Tue, 24 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%s@example.test>\r\n"


def head(name):
    """A complete header block, without the blank line; its Message-ID is unique."""
    return _HEAD % (name.encode(), (name + os.urandom(6).hex()).encode())


def noise(octets):
    """Lines of text that no compression makes smaller."""
    return base64.encodebytes(os.urandom(octets * 3 // 4)).replace(b"\n", b"\r\n")


def plain(name):
    """An ordinary message."""
    return head(name) + b"\r\nHello.\r\n\r\nRegards\r\n"


def corpus():
    """Name to message, CRLF line ends, not dot-stuffed; all but `fifty_megabytes`, which is large."""
    return {
        "plain": plain("plain"),
        "dots": head("dots") + b"\r\n.\r\n..\r\n...\r\n.text\r\n. \r\nend\r\n",
        "last_line_a_dot": head("last-dot") + b"\r\nand now\r\n.\r\n",
        "empty_body": head("empty") + b"\r\n",
        "no_header": b"This text has no header at all\r\n\r\nsecond paragraph\r\n",
        "no_blank_line": head("no-blank-line") + b"and so the body begins\r\nwith its second line\r\n",
        "header_only": head("header-only"),
        "eight_bit": head("eight-bit") + b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n\r\n" + "Grüße, 你好, привет\r\n".encode() * 3,
        "eight_bit_without_mime": head("raw-eight-bit") + b"\r\ncaf\xe9 \xff\xfe \x80\r\n",
        "line_of_998": head("line-998") + b"\r\n" + b"x" * 998 + b"\r\nend\r\n",
        "line_of_100000": head("line-100000") + b"\r\n" + b"y" * 100_000 + b"\r\nend\r\n",
        "folded_header": head("folded") + b"X-Folded: one\r\n\ttwo\r\n   three\r\nx-CASE:kept  \r\n\r\nbody\r\n",
        "blank_lines": head("blank") + b"\r\n\r\n\r\nbody\r\n\r\n\r\n",
        "trailing_space": head("space") + b"\r\nline with trailing space   \r\n\t\r\n",
    }


def fifty_megabytes():
    """A message of 50 MB (base64 text in lines of 76)."""
    return head("fifty-megabytes") + b"\r\n" + noise(50_000_000)


def with_lf(message):
    """The message as a Maildir file has it: lines end in LF."""
    return message.replace(b"\r\n", b"\n")


def split(message):
    """Header fields (folded lines kept together) and body of a message with LF line ends.

    As RFC 5322 readers do: the header ends at an empty line, which belongs to neither part, or before the first
    line that is no field and no continuation of one.
    """
    fields, rest = [], message
    while rest:
        line, _, after = rest.partition(b"\n")
        if line == b"":
            return fields, after
        if line[:1] in b" \t" and fields:
            fields[-1] += b"\n" + line
        elif re.match(rb"[!-9;-~]+[ \t]*:", line):
            fields.append(line)
        else:
            break
        rest = after
    return fields, rest


def difference(sent, arrived, added=ADDED):
    """What is wrong with `arrived` (LF line ends) as a copy of `sent` (CRLF), or None.

    Every field that was sent is there, unchanged and in order; what else is there is in `added`; bodies are equal.
    """
    sent_fields, sent_body = split(with_lf(sent))
    fields, body = split(arrived)
    if body != sent_body:
        at = next((i for i, (a, b) in enumerate(zip(body, sent_body)) if a != b), min(len(body), len(sent_body)))
        return (f"bodies of {len(sent_body)} and {len(body)} octets differ at {at}: "
                f"sent {sent_body[at:at + 40]!r}, arrived {body[at:at + 40]!r}")
    wanted = list(sent_fields)
    for field in fields:
        if wanted and field == wanted[0]:
            wanted.pop(0)
        elif field.split(b":")[0].strip().lower() not in added:
            return f"a field that was not sent: {field[:200]!r}"
    return f"fields are missing, changed or out of order: {wanted[0][:200]!r}" if wanted else None


def queue_id(arrived, by=None):
    """The queue id in the newest Received field (or the one written by the host `by`)."""
    for field in split(arrived)[0]:
        if field.lower().startswith(b"received:") and (by is None or b"by " + by.encode() in field):
            found = re.search(rb"\bid\s+([A-Za-z0-9]+)", field)
            if found:
                return found[1].decode()
    raise AssertionError(f"no queue id in {arrived[:600]!r}")
