//! Votes become the paper's table: how often each side is preferred.

use crate::cause::Cause;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use super::CRITERIA;
use crate::eval::EvalError;
use crate::eval::bootstrap::{Interval, interval};

const DRAWS: usize = 1000;

/// What the page lets a person download.
#[derive(Deserialize)]
struct Ballot {
    page: String,
    votes: Vec<Vote>,
}

#[derive(Deserialize)]
struct Vote {
    story: String,
    #[serde(flatten)]
    choices: std::collections::BTreeMap<String, Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preference {
    A,
    B,
    Tie,
}

/// Share and interval of A, B and ties.
pub(super) type VoteShares = [(f64, Option<Interval>); 3];

/// The votes of one or more persons.
#[derive(Clone, Debug, PartialEq)]
pub struct VoteCounts {
    /// People who voted.
    pub people: usize,
    /// Per criterion: what was asked, how many votes, and their shares where there are any.
    pub rows: Vec<(&'static str, usize, Option<VoteShares>)>,
}

/// Counts the votes in `files`, each a download of the same page.
///
/// # Errors
/// A file that can't be read, is no ballot, or is of another page than the first.
pub fn tally(files: &[PathBuf]) -> Result<VoteCounts, EvalError> {
    let mut votes: Vec<[Option<Preference>; CRITERIA.len()]> = Vec::new();
    let mut page: Option<String> = None;
    for path in files {
        let ballot = read(path)?;
        if page.get_or_insert_with(|| ballot.page.clone()) != &ballot.page {
            return Err(bad(
                path,
                "it is from another page than the files before; count each page by itself",
            ));
        }
        for vote in &ballot.votes {
            let mut row = [None; CRITERIA.len()];
            for ((key, _), choice) in CRITERIA.iter().zip(&mut row) {
                *choice = match vote.choices.get(*key).and_then(Value::as_str) {
                    None => None,
                    Some("a") => Some(Preference::A),
                    Some("b") => Some(Preference::B),
                    Some("tie") => Some(Preference::Tie),
                    Some(other) => {
                        let why = format!(
                            "the vote {other:?} on {} is none of a, b and tie",
                            vote.story
                        );
                        return Err(bad(path, why));
                    }
                };
            }
            votes.push(row);
        }
    }
    let rows = CRITERIA
        .iter()
        .enumerate()
        .map(|(i, (key, _))| {
            let cast: Vec<Preference> = votes.iter().filter_map(|vote| vote[i]).collect();
            let share = |choice: Preference| {
                let of = |drawn: &[usize]| {
                    let wins = drawn.iter().filter(|&&at| cast[at] == choice).count();
                    Some(wins as f64 / drawn.len() as f64)
                };
                let all: Vec<usize> = (0..cast.len()).collect();
                let value = of(&all).unwrap_or_default();
                (value, interval(cast.len(), DRAWS, 1, of))
            };
            let shares = (!cast.is_empty()).then(|| {
                [
                    share(Preference::A),
                    share(Preference::B),
                    share(Preference::Tie),
                ]
            });
            (*key, cast.len(), shares)
        })
        .collect();
    Ok(VoteCounts {
        people: files.len(),
        rows,
    })
}

fn bad(path: &Path, why: impl Into<Cause>) -> EvalError {
    EvalError::Vote {
        path: path.to_owned(),
        why: why.into(),
    }
}

fn read(path: &Path) -> Result<Ballot, EvalError> {
    let text = crate::files::read_text(path).map_err(|e| bad(path, e))?;
    serde_json::from_str(&text).map_err(|e| bad(path, e))
}

impl VoteCounts {
    /// A Markdown table like the paper's.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| | votes | A | B | tie |\n|---|---|---|---|---|\n");
        for (key, count, shares) in &self.rows {
            let cell = |(value, interval): &(f64, Option<Interval>)| {
                let range = interval.map_or_else(String::new, |(low, high)| {
                    format!(" ({:.1}–{:.1})", 100.0 * low, 100.0 * high)
                });
                format!("{:.1}{range}", 100.0 * value)
            };
            let cells = match shares {
                Some(shares) => shares.iter().map(cell).collect::<Vec<_>>().join(" | "),
                None => "– | – | –".to_owned(),
            };
            let _ = writeln!(text, "| {key} | {count} | {cells} |");
        }
        let _ = writeln!(
            text,
            "\nShares in per cent, with 95 % intervals from resampling votes; {} ballot{}.",
            self.people,
            if self.people == 1 { "" } else { "s" }
        );
        text
    }

    /// The counts as JSON.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|(key, count, shares)| {
                let mut row = json!({ "criterion": key, "votes": count });
                for (i, name) in ["a", "b", "tie"].iter().enumerate() {
                    row[*name] = match shares.as_ref().map(|shares| shares[i]) {
                        Some((value, Some((low, high)))) => {
                            json!({ "value": value, "low": low, "high": high })
                        }
                        Some((value, None)) => json!({ "value": value }),
                        None => Value::Null,
                    };
                }
                row
            })
            .collect();
        json!({ "ballots": self.people, "criteria": rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn votes_are_counted_by_criterion_and_ballots_of_other_pages_refused() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let one = write(
            "one.json",
            r#"{"page": "p", "votes": [
                {"story": "s1", "language": "a", "quality": "tie", "coherence": "b"},
                {"story": "s2", "language": "a", "quality": "a", "coherence": null}]}"#,
        );
        let two = write(
            "two.json",
            r#"{"page": "p", "votes": [
                {"story": "s1", "language": "b", "quality": "tie"},
                {"story": "s2", "language": "a"}]}"#,
        );
        let counted = tally(&[one.clone(), two]).unwrap();
        let shares = |i: usize| {
            let (_, count, shares) = &counted.rows[i];
            (*count, shares.unwrap().map(|(share, _)| share))
        };
        assert_eq!(shares(0), (4, [0.75, 0.25, 0.0]));
        assert_eq!(shares(1), (3, [1.0 / 3.0, 0.0, 2.0 / 3.0]));
        assert_eq!(shares(2), (1, [0.0, 1.0, 0.0]));
        let table = counted.markdown();
        assert!(table.contains("| language | 4 | 75.0 ("), "{table}");
        assert!(table.contains("2 ballots"));
        assert_eq!(counted.json()["criteria"][0]["a"]["value"], 0.75);

        let other = write("other.json", r#"{"page": "q", "votes": []}"#);
        let error = tally(&[one, other]).unwrap_err().to_string();
        assert!(
            error.contains("other.json") && error.contains("another page"),
            "{error}"
        );
        let odd = write(
            "odd.json",
            r#"{"page": "p", "votes": [{"story": "s9", "language": "both"}]}"#,
        );
        let error = tally(&[odd]).unwrap_err().to_string();
        assert!(error.contains("s9") && error.contains("both"), "{error}");
        let broken = write("broken.json", "no");
        assert!(
            tally(&[broken])
                .unwrap_err()
                .to_string()
                .contains("broken.json")
        );
    }
}
