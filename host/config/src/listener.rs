//! The address of a listener: an IP address with a port, or a Unix socket path.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use toml::Value;

use crate::Config;
use crate::reader::{ConfigReader, ValueNode};
use crate::server_tables::ListenerConfig;
use crate::value::{SocketAddrValue, ValueType, expect_string};

/// Default mode of a Unix socket.
const SOCKET_MODE_DEFAULT: u32 = 0o660;
/// Maximum length of a Unix socket path in bytes, limited by the kernel (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The address of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// IP address and TCP port.
    Inet(SocketAddr),
    /// Path of a Unix socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Returns the TCP port; `None` for a Unix socket.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Inet(address) => Some(address.port()),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for ListenAddress {
    /// Formats the address as in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl ListenerConfig {
    /// Returns the file mode of the Unix socket.
    #[must_use]
    pub fn socket_mode(&self) -> u32 {
        self.mode.unwrap_or(SOCKET_MODE_DEFAULT)
    }
}

/// An IP address with a port, or a Unix socket path.
pub(crate) struct ListenAddressValue;

impl ValueType for ListenAddressValue {
    type Value = ListenAddress;
    const FORM: &'static str = "address and port, \"127.0.0.1:25\" or \"[::1]:25\", or \"unix:/path/of/socket\"";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<ListenAddress> {
        let Some(path) = node.value.as_str().and_then(|text| text.strip_prefix("unix:")) else {
            return SocketAddrValue::read(node, reader).map(ListenAddress::Inet);
        };
        let path = reader.resolve_path(path);
        if path.as_os_str().len() > SOCKET_PATH_BYTES_MAX
            || path.as_os_str().as_encoded_bytes().contains(&0)
            || path.file_name().is_none()
        {
            let message = format!("\"{}\" can't be the path of a socket", path.display());
            let advice = format!("choose a path of at most {SOCKET_PATH_BYTES_MAX} octets: \"unix:/run/waxwing/lmtp\"");
            reader.error(node.span.clone(), message, advice);
            return None;
        }
        Some(ListenAddress::Unix(path))
    }

    fn show(value: &ListenAddress) -> Option<Value> {
        Some(Value::String(value.to_string()))
    }
}

/// A file mode in octal.
pub(crate) struct FileModeValue;

impl ValueType for FileModeValue {
    type Value = u32;
    const FORM: &'static str = "mode of a file in octal, \"0660\"";

    fn read(node: &ValueNode<'_>, reader: &mut ConfigReader<'_>) -> Option<u32> {
        let text = expect_string(node, reader, "a mode in quotes, such as \"0660\"")?;
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| (1..=0o777).contains(mode) && text.len() <= 4);
        if mode.is_none() {
            let advice = "write it as chmod takes it: \"0660\" for the user and the group, \"0666\" for everyone".to_owned();
            reader.error(node.span.clone(), format!("\"{text}\" is no mode"), advice);
        }
        mode
    }

    fn show(value: &u32) -> Option<Value> {
        Some(Value::String(format!("{value:04o}")))
    }
}

/// Reports keys without meaning for the kind of listener address, a Unix socket or a TCP port.
pub(crate) fn check_unix_listeners(config: &Config, reader: &mut ConfigReader<'_>) {
    for (index, listen) in config.listen.iter().enumerate() {
        let at = |key: &str| format!("listen[{index}].{key}");
        match &listen.address {
            ListenAddress::Unix(_) if listen.proxy => {
                let message = format!("the listener \"{}\" is a path, where no proxy connects", listen.name);
                reader.error_at(&at("proxy"), message, "leave it out, or give the listener an address and a port".to_owned());
            }
            ListenAddress::Unix(_) => {}
            ListenAddress::Inet(_) => {
                for key in ["mode", "user", "group"] {
                    if reader.key_spans.get(&at(key)).is_some() {
                        let message =
                            format!("{key} applies to Unix sockets only, and the listener \"{}\" has a port", listen.name);
                        reader.error_at(&at(key), message, "leave it out, or write address = \"unix:/path\"".to_owned());
                    }
                }
            }
        }
    }
}
