//! `--name value` pairs.
use std::collections::HashMap;
use std::str::FromStr;

/// The options of one call.
pub(crate) struct Options(HashMap<String, String>);

impl Options {
    /// Reads pairs until the arguments end.
    pub(crate) fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut pairs = HashMap::new();
        while let Some(name) = arguments.next() {
            let name = name.strip_prefix("--").ok_or_else(|| format!("`{name}`: expected --name value"))?.to_owned();
            let value = arguments.next().ok_or_else(|| format!("--{name}: no value"))?;
            pairs.insert(name, value);
        }
        Ok(Self(pairs))
    }

    /// The text of an option, or its default.
    pub(crate) fn text(&self, name: &str, default: &str) -> String {
        self.0.get(name).cloned().unwrap_or_else(|| default.to_owned())
    }

    /// The number of an option, or its default.
    pub(crate) fn number<T: FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        self.0.get(name).map_or(Ok(default), |text| text.parse().map_err(|_| format!("--{name} {text}: not a number in range")))
    }

    /// The number of an option that must be there.
    pub(crate) fn required<T: FromStr>(&self, name: &str) -> Result<T, String> {
        let text = self.0.get(name).ok_or_else(|| format!("--{name} is missing"))?;
        text.parse().map_err(|_| format!("--{name} {text}: not a number in range"))
    }

    /// The path of an option, if given.
    pub(crate) fn path(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}
