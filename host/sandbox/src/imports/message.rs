//! Interface `message`: the header block, with the changes of earlier hooks.

use wasmtime::Result;
use waxwing_bindings::imports::message::{AuthResults, Check, Field, Host};

use crate::state::InstanceState;

fn field(field: &waxwing_message::Field) -> Field {
    Field { name: field.name().to_owned(), value: field.value().to_vec() }
}

/// Decodes the encoded words (RFC 2047) of a field value.
fn decode_encoded_words(value: &str) -> String {
    if !value.contains("=?") {
        return value.to_owned();
    }
    let line = format!("{value}\n");
    let text = mail_parser::parsers::MessageStream::new(line.as_bytes()).parse_unstructured();
    text.as_text().map_or_else(|| value.to_owned(), str::to_owned)
}

impl InstanceState {
    fn fields(&self) -> &[waxwing_message::Field] {
        self.call.context.header.as_ref().map_or(&[], |head| head.fields())
    }
}

impl Host for InstanceState {
    fn size(&mut self) -> Result<u64> {
        self.called("message.size");
        Ok(self.call.context.size())
    }

    fn header_count(&mut self) -> Result<u32> {
        self.called("message.header-count");
        Ok(u32::try_from(self.fields().len()).unwrap_or(u32::MAX))
    }

    fn header_at(&mut self, index: u32) -> Result<Option<Field>> {
        self.called("message.header-at");
        Ok(self.fields().get(index as usize).map(field))
    }

    fn header_text(&mut self, name: String) -> Result<Option<String>> {
        self.called("message.header-text");
        let head = self.call.context.header.as_ref();
        Ok(head.and_then(|head| head.first(&name)).map(|field| decode_encoded_words(&field.unfolded())))
    }

    fn headers(&mut self) -> Result<Vec<Field>> {
        self.called("message.headers");
        Ok(self.fields().iter().map(field).collect())
    }

    /// No authentication checks exist in this version, so all results are `none`.
    fn authentication(&mut self) -> Result<AuthResults> {
        self.called("message.authentication");
        Ok(AuthResults { spf: Check::None, dmarc: Check::None, dkim: Vec::new(), arc: Check::None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_words_are_read() {
        assert_eq!(decode_encoded_words("=?utf-8?Q?caf=C3=A9?= =?utf-8?B?ISE=?= end"), "café!! end");
        assert_eq!(decode_encoded_words("a =? b"), "a =? b");
    }
}
