// Refuses mail with a configured word in its subject, marks the rest.
import { get } from "waxwing:mail/config@0.1.0";
import { headerText } from "waxwing:mail/message@0.1.0";
import { readPart } from "waxwing:mail/content@0.1.0";
import { addHeader } from "waxwing:mail/edit@0.1.0";
import { setTag } from "waxwing:mail/transaction@0.1.0";

const BODY_BYTES_MAX = 65536;

function word() {
  const word = JSON.parse(get("word") ?? "null");
  if (typeof word !== "string" || word === "") throw "`word` is required";
  return word;
}

export const onLoad = {
  load() {
    word();
  },
};

export const onMessage = {
  message() {
    const unwanted = word();
    if (headerText("Subject")?.includes(unwanted)) {
      const text = "This subject is not wanted here";
      return { tag: "reject", val: { code: 550, enhanced: "5.7.1", text } };
    }
    const body = new TextDecoder().decode(readPart(0, 0n, BODY_BYTES_MAX));
    setTag("body-word", body.includes(unwanted) ? "yes" : "no");
    addHeader("X-Checked", new TextEncoder().encode("js"));
    return { tag: "next" };
  },
};
