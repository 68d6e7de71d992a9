//! Values of `smtp_tls_security_level` and `smtp_tls_policy_maps`.

use waxwing_types::TlsLevel;

use crate::value::StringEnum;

impl StringEnum for TlsLevel {
    const FORM: &'static str = "\"none\", \"may\", \"encrypt\" or \"verify\"";
    const VARIANTS: &'static [(&'static str, Self)] =
        &[("none", Self::None), ("may", Self::May), ("encrypt", Self::Encrypt), ("verify", Self::Verify)];
}
