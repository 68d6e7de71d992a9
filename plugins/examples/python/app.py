"""Refuses mail with a configured word in its subject, marks the rest."""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import config, content, edit, message, transaction
from wit_world.imports.types import Reply, Verdict, Verdict_Next, Verdict_Reject

BODY_BYTES_MAX = 65536


def word() -> str:
    value = json.loads(config.get("word") or "null")
    if not isinstance(value, str) or not value:
        raise Err("`word` is required")
    return value


class OnLoad(exports.OnLoad):
    def load(self) -> None:
        word()


class OnMessage(exports.OnMessage):
    def message(self) -> Verdict:
        unwanted = word()
        if unwanted in (message.header_text("Subject") or ""):
            return Verdict_Reject(Reply(550, "5.7.1", "This subject is not wanted here"))
        body = content.read_part(0, 0, BODY_BYTES_MAX)
        transaction.set_tag("body-word", "yes" if unwanted.encode() in body else "no")
        edit.add_header("X-Checked", b"python")
        return Verdict_Next()
