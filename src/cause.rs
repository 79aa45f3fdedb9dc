//! The causes of errors, kept with them as their source.

use std::error::Error;

/// What an error comes from; texts become one, too.
pub type Cause = Box<dyn Error + Send + Sync>;

/// The first line of a cause: candle appends a backtrace where one is asked for.
pub(crate) fn first_line(cause: &Cause) -> String {
    cause
        .to_string()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// An error and its causes in one sentence. Most messages name their cause already; only what
/// they leave out is added behind a colon.
pub fn sentence(error: &(dyn Error + 'static)) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        let mut lines = why.lines().map(str::trim);
        let first = lines.find(|line| !line.is_empty()).unwrap_or_default();
        if !message.contains(first.trim_end_matches(['.', ':'])) {
            message = format!("{message}: {why}");
        }
        cause = error.source();
    }
    // Causes may come in many lines; what is told is one.
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{name} can't be read ({why})")]
    struct Unreadable {
        name: &'static str,
        #[source]
        why: Cause,
    }

    #[derive(Debug, thiserror::Error)]
    #[error("the story can't be opened")]
    struct Unopened(#[source] Unreadable);

    #[test]
    fn a_cause_is_said_once() {
        let unreadable = || Unreadable {
            name: "a.json",
            why: "no such\n  file".into(),
        };
        assert_eq!(
            sentence(&unreadable()),
            "a.json can't be read (no such file)"
        );
        assert_eq!(
            sentence(&Unopened(unreadable())),
            "the story can't be opened: a.json can't be read (no such file)"
        );
        assert_eq!(first_line(&unreadable().why), "no such");
    }
}
