// Refuses mail with a configured word in its subject, marks the rest.
import { get } from "waxwing:mail/config@0.1.0";
import { headerText } from "waxwing:mail/message@0.1.0";
import { readPart } from "waxwing:mail/content@0.1.0";
import { addHeader } from "waxwing:mail/edit@0.1.0";
import { setTag } from "waxwing:mail/transaction@0.1.0";

const NAME = "checker";
const BODY_BYTES_MAX = 65536;

function configuredWord() {
  const word = JSON.parse(get("word") ?? "null");
  // What a function throws that returns a result is its error.
  if (word !== null && (typeof word !== "string" || word === "")) throw "`word` must be a text, and not empty";
  return word;
}

export const onLoad = {
  load() {
    configuredWord();
  },
};

export const onMessage = {
  message() {
    const word = configuredWord();
    if (word !== null) {
      if (headerText("Subject")?.includes(word)) {
        const text = "This subject is not wanted here";
        return { tag: "reject", val: { code: 550, enhanced: "5.7.1", text } };
      }
      const body = new TextDecoder().decode(readPart(0, 0n, BODY_BYTES_MAX));
      setTag("body-word", body.includes(word) ? "yes" : "no");
    }
    addHeader("X-Checked", new TextEncoder().encode(NAME));
    return { tag: "next" };
  },
};
