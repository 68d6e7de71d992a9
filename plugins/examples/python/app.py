"""Refuses mail with a configured word in its subject, marks the rest."""

import json
from typing import Optional

from componentize_py_types import Err
from wit_world import exports
from wit_world.imports import config, content, edit, message, transaction
from wit_world.imports.types import Reply, Verdict, Verdict_Next, Verdict_Reject

NAME = "checker"
BODY_BYTES_MAX = 65536


def configured_word() -> Optional[str]:
    word = json.loads(config.get("word") or "null")
    if word is not None and (not isinstance(word, str) or not word):
        raise Err("`word` must be a text, and not empty")
    return word


class OnLoad(exports.OnLoad):
    def load(self) -> None:
        configured_word()


class OnMessage(exports.OnMessage):
    def message(self) -> Verdict:
        word = configured_word()
        if word is not None:
            if word in (message.header_text("Subject") or ""):
                return Verdict_Reject(Reply(550, "5.7.1", "This subject is not wanted here"))
            body = content.read_part(0, 0, BODY_BYTES_MAX)
            transaction.set_tag("body-word", "yes" if word.encode() in body else "no")
        edit.add_header("X-Checked", NAME.encode())
        return Verdict_Next()
