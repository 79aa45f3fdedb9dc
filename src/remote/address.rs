//! The address of an engine, as the author gave it.

use std::fmt;
use std::sync::Arc;

use reqwest::Url;
use serde::{Deserialize, Serialize};

use super::RemoteError;
use crate::cause::Cause;

/// `http` or `https`, a host, a port and perhaps a path; no names, keys, queries or fragments.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address(Arc<Url>);

impl Address {
    /// # Errors
    /// When `text` is not such an address; one with a password in it is refused, since addresses
    /// are shown and kept in the open.
    pub fn parse(text: &str) -> Result<Address, RemoteError> {
        let bad = |reason: Cause| RemoteError::Address {
            // A password must not be repeated.
            text: match text.split_once('@') {
                Some((_, host)) => format!("…@{host}"),
                None => text.to_owned(),
            },
            reason,
        };
        let mut url = Url::parse(text.trim()).map_err(|error| bad(error.into()))?;
        if !["http", "https"].contains(&url.scheme()) {
            return Err(bad(
                "it begins neither with http:// nor with https://".into()
            ));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(bad("it names no host".into()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad(
                "it holds a name or password, which belongs into --key-file".into(),
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(bad("it has a part behind ? or #".into()));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Address(Arc::new(url)))
    }

    /// Whether `text` looks like an address rather than a path.
    pub fn is_one(text: &str) -> bool {
        let start = text.get(..8).unwrap_or(text).to_ascii_lowercase();
        start.starts_with("http://") || start.starts_with("https://")
    }

    /// The address of `path` below this one; `path` begins with `/`.
    pub fn join(&self, path: &str) -> Url {
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        let mut url = Url::clone(&self.0);
        url.set_path(&format!("{}{path}", self.0.path().trim_end_matches('/')));
        url.set_query(query);
        url
    }

    /// The address without its path, for what a server has beside its OpenAI interface.
    pub fn root(&self) -> Address {
        let mut url = Url::clone(&self.0);
        url.set_path("");
        Address(Arc::new(url))
    }

    /// The address of a WebSocket below this one.
    pub fn socket(&self, path: &str) -> Url {
        let mut url = self.join(path);
        let scheme = if url.scheme() == "https" { "wss" } else { "ws" };
        url.set_scheme(scheme)
            .expect("ws and wss are as special as http and https");
        url
    }

    /// Host and port for people, such as `127.0.0.1:8188`.
    pub fn host(&self) -> String {
        let host = self.0.host_str().unwrap_or_default();
        match self.0.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }

    /// Whether `other` is at the same scheme, host and port.
    pub fn is_at(&self, other: &Url) -> bool {
        self.0.origin() == other.origin()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl TryFrom<String> for Address {
    type Error = RemoteError;

    fn try_from(text: String) -> Result<Address, RemoteError> {
        Address::parse(&text)
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_joined() {
        let address = Address::parse(" http://127.0.0.1:11434/v1/ ").unwrap();
        assert_eq!(address.to_string(), "http://127.0.0.1:11434/v1");
        assert_eq!(address.host(), "127.0.0.1:11434");
        let models = address.join("/models?a=1");
        assert_eq!(models.as_str(), "http://127.0.0.1:11434/v1/models?a=1");
        assert_eq!(address.root().to_string(), "http://127.0.0.1:11434");
        let comfy = Address::parse("https://box.local").unwrap();
        assert_eq!(
            comfy.socket("/ws?clientId=x").as_str(),
            "wss://box.local/ws?clientId=x"
        );
        assert!(comfy.is_at(&comfy.join("/view")));
        assert!(!comfy.is_at(&address.join("/view")));
        let json = serde_json::to_string(&address).unwrap();
        assert_eq!(serde_json::from_str::<Address>(&json).unwrap(), address);
    }

    #[test]
    fn what_is_no_address_is_refused_and_no_password_repeated() {
        for bad in [
            "ftp://a",
            "http://",
            "box:8188",
            "http://a/?q",
            "",
            "http://a:99999",
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
        let error = Address::parse("http://me:secret@box")
            .unwrap_err()
            .to_string();
        assert!(
            !error.contains("secret") && error.contains("--key-file"),
            "{error}"
        );
        assert!(Address::is_one("HTTP://x") && !Address::is_one("http-folder"));
    }
}
