//! Settings of the plugin, read from the configuration.

use waxwing_sdk::settings::{boolean, number, string, strings};

/// Default limit of a header field in bytes (`header_size_limit`).
const HEADER_SIZE_LIMIT: u64 = 102_400;
/// Default list of removed fields (`message_drop_headers`).
const MESSAGE_DROP_HEADERS: [&str; 4] = ["bcc", "content-length", "resent-bcc", "return-path"];

/// Settings, named after Postfix parameters. Those marked *server* default to the server's own keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanupSettings {
    /// Host name in Message-ID. Server.
    pub myhostname: String,
    /// Domain that completes bare addresses; if empty, the host completes them. Server.
    pub myorigin: String,
    /// Bytes of a header field at most; longer fields are truncated. Server.
    pub header_size_limit: usize,
    /// Adds missing fields to mail from other servers too, not only to mail of local users and programs.
    pub always_add_missing_headers: bool,
    /// Names of removed fields, lower case.
    pub message_drop_headers: Vec<String>,
    /// Domains that hide the host names below: `ann@host.example.com` becomes `ann@example.com`. A leading `!` excludes a domain.
    pub masquerade_domains: Vec<String>,
    /// Local parts excluded from masquerading, lower case.
    pub masquerade_exceptions: Vec<String>,
}

impl Default for CleanupSettings {
    fn default() -> Self {
        Self {
            myhostname: "localhost".to_owned(),
            myorigin: String::new(),
            header_size_limit: usize::try_from(HEADER_SIZE_LIMIT).unwrap_or(usize::MAX),
            always_add_missing_headers: true,
            message_drop_headers: MESSAGE_DROP_HEADERS.map(str::to_owned).to_vec(),
            masquerade_domains: Vec::new(),
            masquerade_exceptions: Vec::new(),
        }
    }
}

impl CleanupSettings {
    /// Reads all keys; the error text names the key.
    pub fn read() -> Result<Self, String> {
        let default = Self::default();
        let lower = |list: Vec<String>| list.iter().map(|t| t.to_lowercase()).collect::<Vec<_>>();
        let dropped = lower(strings("message_drop_headers")?);
        let has_dropped = waxwing_sdk::config::get("message_drop_headers").is_some();
        Ok(Self {
            myhostname: string("myhostname")?.unwrap_or(default.myhostname),
            myorigin: string("myorigin")?.unwrap_or_default().to_lowercase(),
            header_size_limit: number("header_size_limit")?
                .map_or(default.header_size_limit, |n| usize::try_from(n).unwrap_or(usize::MAX)),
            always_add_missing_headers: boolean("always_add_missing_headers")?.unwrap_or(default.always_add_missing_headers),
            message_drop_headers: if has_dropped { dropped } else { default.message_drop_headers },
            masquerade_domains: lower(strings("masquerade_domains")?),
            masquerade_exceptions: lower(strings("masquerade_exceptions")?),
        })
    }
}
