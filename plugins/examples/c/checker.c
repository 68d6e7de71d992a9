// Refuses mail with a configured word in its subject, marks the rest.
#include "bindings/configured_filter.h"

#include <string.h>

typedef configured_filter_string_t text_t;
typedef configured_filter_list_u8_t octets_t;

static const char NAME[] = "checker";
static const uint32_t BODY_BYTES_MAX = 65536;

// The host reads it and never writes or frees it: only what a function returns must be of the heap.
static text_t text(const char *literal) { return (text_t){(uint8_t *)literal, strlen(literal)}; }

static bool contains(const uint8_t *hay, size_t hay_len, text_t needle) {
  for (size_t at = 0; at + needle.len <= hay_len; at++)
    if (memcmp(hay + at, needle.ptr, needle.len) == 0) return true;
  return false;
}

// The key `word` of the plugin's table, empty if it is not there; false if it is no text. Settings come as JSON: a plain text is what
// stands between its quotation marks.
static bool configured_word(text_t *word) {
  text_t key = text("word");
  *word = text("");
  text_t json;
  if (!waxwing_mail_config_get(&key, &json)) return true;
  bool plain = json.len > 2 && json.ptr[0] == '"' && !contains(json.ptr, json.len, text("\\"));
  if (plain) *word = (text_t){json.ptr + 1, json.len - 2};
  return plain;
}

bool exports_waxwing_mail_on_load_load(text_t *error) {
  text_t word;
  if (configured_word(&word)) return true;
  configured_filter_string_dup(error, "`word` must be a text, not empty and without a backslash");
  return false;
}

static bool subject_has(text_t word) {
  text_t name = text("Subject"), subject;
  return waxwing_mail_message_header_text(&name, &subject) && contains(subject.ptr, subject.len, word);
}

static bool body_has(text_t word) {
  octets_t body;
  waxwing_mail_content_read_error_t error;
  return waxwing_mail_content_read_part(0, 0, BODY_BYTES_MAX, &body, &error) && contains(body.ptr, body.len, word);
}

void exports_waxwing_mail_on_message_message(exports_waxwing_mail_on_message_verdict_t *verdict) {
  text_t word;
  configured_word(&word);
  if (word.len > 0) {
    if (subject_has(word)) {
      waxwing_mail_types_reply_t *reply = &verdict->val.reject;
      verdict->tag = WAXWING_MAIL_TYPES_VERDICT_REJECT;
      reply->code = 550;
      reply->enhanced.is_some = true;
      configured_filter_string_dup(&reply->enhanced.val, "5.7.1");
      configured_filter_string_dup(&reply->text, "This subject is not wanted here");
      return;
    }
    text_t tag = text("body-word"), found = text(body_has(word) ? "yes" : "no");
    waxwing_mail_transaction_set_tag(&tag, &found);
  }
  text_t header = text("X-Checked"), name = text(NAME);
  octets_t value = {name.ptr, name.len};
  waxwing_mail_edit_edit_error_t error;
  waxwing_mail_edit_add_header(&header, &value, &error);
  verdict->tag = WAXWING_MAIL_TYPES_VERDICT_NEXT;
}
