//! What can go wrong with an engine elsewhere. Each message is one sentence that names the address
//! and the remedy.

use super::Address;
use crate::cause::Cause;

/// Most characters of a server's own words that are repeated.
const REPEATED: usize = 200;

/// What can go wrong with an engine elsewhere.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// A text is not the address of an engine.
    #[error(
        "\"{text}\" is not the address of an engine ({reason}); give one such as http://127.0.0.1:8188"
    )]
    Address {
        /// The text.
        text: String,
        /// What is wrong with it.
        #[source]
        reason: Cause,
    },
    /// No connection could be made, or it broke.
    #[error("{address} can't be reached ({reason}); start the engine there or correct the address")]
    Unreachable {
        /// The address.
        address: Address,
        /// Why, for people.
        reason: String,
        /// The client's own error, where there was one.
        #[source]
        source: Option<reqwest::Error>,
    },
    /// Nothing came for too long.
    #[error(
        "{address} said nothing for {seconds} s; look whether the engine there is stuck, and try again"
    )]
    TimedOut {
        /// The address.
        address: Address,
        /// Seconds that were waited.
        seconds: u64,
    },
    /// The engine wants a key, or refused the one that it got.
    #[error(
        "{address} wants a key or does not take the one it was given; add it again with --key-file"
    )]
    Unauthorised {
        /// The address.
        address: Address,
    },
    /// The engine refused a request.
    #[error("{address} refused {what} ({message}); correct that, or look at the engine's own log")]
    Refused {
        /// The address.
        address: Address,
        /// What was refused, for people.
        what: String,
        /// What the engine said.
        message: String,
    },
    /// An answer is not what such an engine sends.
    #[error(
        "{address} sent {found} where {wanted} was expected; look whether this is the address of the right engine"
    )]
    Unexpected {
        /// The address.
        address: Address,
        /// What came, for people.
        found: String,
        /// What should have come, for people.
        wanted: String,
    },
    /// An answer is longer than is read.
    #[error(
        "{address} sent more than {limit} bytes for {what}, which is not read; look whether this is the right engine"
    )]
    TooLarge {
        /// The address.
        address: Address,
        /// What was asked for, for people.
        what: String,
        /// Most bytes that are read.
        limit: usize,
    },
    /// The engine redirects to another address, which is not followed.
    #[error(
        "{address} sends its visitors on to {to}, where nothing is sent without your word; add that address if you trust it"
    )]
    Redirected {
        /// The address.
        address: Address,
        /// Where it redirects to.
        to: String,
    },
    /// The engine no longer knows a job or model.
    #[error(
        "the engine at {address} lost {what} ({reason}); it was stopped or started anew, try again"
    )]
    Lost {
        /// The address.
        address: Address,
        /// What was lost, for people.
        what: String,
        /// How that was seen, for people.
        reason: String,
    },
    /// Somebody stopped a picture on the engine itself.
    #[error("somebody stopped this picture at {address}; draw it again")]
    Interrupted {
        /// The address.
        address: Address,
    },
    /// The server does not know a sampling parameter that was set.
    #[error("the {server} at {address} takes no {what}; leave that out")]
    Unable {
        /// The address.
        address: Address,
        /// Name of the server program.
        server: &'static str,
        /// What it does not take, for people.
        what: String,
    },
    /// TLS could not be set up.
    #[error("no connection could be prepared ({0}); look at the system's certificates")]
    Tls(#[source] Cause),
    /// A workflow cannot be read, or a value cannot be put into it; the sentence says why.
    #[error("{0}")]
    Workflow(String),
    /// A key cannot be kept.
    #[error(
        "the key for {address} can't be kept ({reason}); free the system's keyring or the data folder"
    )]
    Key {
        /// The address that it is for.
        address: Address,
        /// Why the system refused.
        #[source]
        reason: Cause,
    },
}

impl RemoteError {
    /// Whether the engine has gone away, so that another may take over what it was to do.
    pub fn is_away(&self) -> bool {
        matches!(
            self,
            RemoteError::Unreachable { .. }
                | RemoteError::TimedOut { .. }
                | RemoteError::Lost { .. }
        )
    }
}

/// A server's words on one line, without control characters, cut where they are long.
pub(super) fn quoted(text: &str) -> String {
    let words = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(REPEATED) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What the beginning of an answer that is not the wanted one looks like.
pub(super) fn looks_like(body: &[u8]) -> String {
    let start = String::from_utf8_lossy(&body[..body.len().min(512)]);
    let start = start.trim_start().to_ascii_lowercase();
    if start.is_empty() {
        "nothing".to_owned()
    } else if start.starts_with("<!doctype html") || start.starts_with("<html") {
        "a web page".to_owned()
    } else if start.starts_with('{') || start.starts_with('[') {
        "broken JSON".to_owned()
    } else {
        format!(
            "\"{}\"",
            quoted(&start.chars().take(60).collect::<String>())
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_words_become_one_short_line() {
        assert_eq!(quoted("a\n b\u{7}c"), "a b c");
        assert_eq!(quoted(&"x".repeat(500)).chars().count(), REPEATED + 1);
        assert_eq!(looks_like(b"  <!DOCTYPE HTML>"), "a web page");
        assert_eq!(looks_like(b"{\"a\": "), "broken JSON");
        assert_eq!(looks_like(b""), "nothing");
        assert_eq!(looks_like("mö".as_bytes()), "\"mö\"");
    }
}
