//! `message`: the header as the hooks before left it.

use wasmtime::Result;
use waxwing_bindings::imports::message::{AuthResults, Check, Field, Host};

use crate::parts::decoded;
use crate::state::State;

fn field(field: &waxwing_message::Field) -> Field {
    Field { name: field.name().to_owned(), value: field.value().to_vec() }
}

impl State {
    fn fields(&self) -> &[waxwing_message::Field] {
        self.call.context.head.as_ref().map_or(&[], |head| head.fields())
    }
}

impl Host for State {
    fn size(&mut self) -> Result<u64> {
        Ok(self.call.context.size())
    }

    fn header_count(&mut self) -> Result<u32> {
        Ok(u32::try_from(self.fields().len()).unwrap_or(u32::MAX))
    }

    fn header_at(&mut self, index: u32) -> Result<Option<Field>> {
        Ok(self.fields().get(index as usize).map(field))
    }

    fn header_text(&mut self, name: String) -> Result<Option<String>> {
        let head = self.call.context.head.as_ref();
        Ok(head.and_then(|head| head.first(&name)).map(|field| decoded(&field.unfolded())))
    }

    fn headers(&mut self) -> Result<Vec<Field>> {
        Ok(self.fields().iter().map(field).collect())
    }

    /// Nothing is checked in this version.
    fn authentication(&mut self) -> Result<AuthResults> {
        Ok(AuthResults { spf: Check::None, dmarc: Check::None, dkim: Vec::new(), arc: Check::None })
    }
}
