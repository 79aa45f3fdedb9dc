//! What a comparison has judged so far, in a file a row: hours of work that a stopped program
//! must not lose.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::keep::slug;
use super::rows::RowConfig;
use super::score::StoryScore;
use super::world::World;
use super::{MethodContext, StoryOptions};
use crate::eval::EvalError;
use crate::voken::VokenFolder;
use crate::weights;

/// A row's scores: one line of JSON a story, behind one that says what they are the scores of.
pub(super) struct Ledger {
    path: PathBuf,
    file: File,
    /// The first line, until there is a story to write behind it.
    head: Option<String>,
}

/// Everything that the scores of `row` follow from.
///
/// # Errors
/// A model that is not there.
pub(super) fn fingerprint(
    row: &RowConfig,
    workshop: &MethodContext,
    options: &StoryOptions,
) -> Result<Value, EvalError> {
    let hash = |folder: &Option<PathBuf>| {
        weights::sha256(&VokenFolder::new(folder.as_ref()?).model_file()).ok()
    };
    let weights = match &row.model {
        None => None,
        Some(model) => {
            let manifest = weights::find(workshop.models, model)?.manifest;
            let writer = manifest.language_model.as_ref();
            let writer = writer
                .map(|id| weights::find(workshop.models, id))
                .transpose()?;
            let both = [Some(manifest), writer.map(|model| model.manifest)];
            let hashes = both.into_iter().flatten().map(|m| m.weights_hash());
            Some(hashes.collect::<Vec<_>>())
        }
    };
    let mut of = json!({
        "row": format!("{:?} {:?} {:?} {:?}", row.kind, row.recipe, row.context, row.guidance),
        "writes": row.writes,
        "settings": options.settings,
        "seed": options.seed,
        "similarity": workshop.judge.is_some(),
        "gallery": workshop.gallery,
        "weights": weights,
        "voken": hash(&row.voken),
        "writer": hash(&row.writer),
    });
    // What is as usual is not said: scores from before there was a choice are still those of the row.
    if options.world != World::default() {
        of["world"] = options.world.key().into();
    }
    if !row.references {
        of["references"] = false.into();
    }
    Ok(of)
}

/// Whether scores that say they are `begun`'s are those of `row`, which is `of`. What they say of
/// weights that are not there is taken as it stands: a report can be made again without them.
fn same(begun: &Value, row: &RowConfig, of: &Value) -> bool {
    let mut of = of.clone();
    for (key, folder) in [("voken", &row.voken), ("writer", &row.writer)] {
        if folder.is_some() && of[key].is_null() {
            of[key] = begun[key].clone();
        }
    }
    *begun == of
}

impl Ledger {
    /// Opens or begins that of `row` in `dir`, with the scores that are in it. A last line that
    /// was cut off when the program was stopped is left out.
    ///
    /// # Errors
    /// A file that can't be read or written, or that holds the scores of something else.
    pub(super) fn open(
        dir: &Path,
        row: &RowConfig,
        of: &Value,
    ) -> Result<(Self, Vec<StoryScore>), EvalError> {
        let path = dir.join(format!("{}.jsonl", slug(&row.name)));
        let failed = |e| unwritten(&path, e);
        std::fs::create_dir_all(dir).map_err(failed)?;
        let text = match crate::files::read_text(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(failed(e)),
        };
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let mut lines = text[..whole].lines();
        let begun = lines
            .next()
            .map(|line| serde_json::from_str::<Value>(line).ok());
        let head = match begun {
            None => Some(of.to_string()),
            Some(Some(begun)) if same(&begun, row, of) => None,
            Some(_) => return Err(EvalError::Ledger(path, "other weights or settings")),
        };
        let scores = lines
            .map(serde_json::from_str)
            .collect::<Result<Vec<StoryScore>, _>>()
            .map_err(|_| EvalError::Ledger(path.clone(), "something else"))?;
        let file = OpenOptions::new().create(true).append(true).open(&path);
        let file = file.map_err(failed)?;
        file.set_len(whole as u64).map_err(failed)?;
        Ok((Self { path, file, head }, scores))
    }

    /// Adds the next story's.
    ///
    /// # Errors
    /// A disk that is full.
    pub(super) fn add(&mut self, score: &StoryScore) -> Result<(), EvalError> {
        let line = serde_json::to_string(score);
        let mut lines = line.map_err(|e| unwritten(&self.path, e.into()))? + "\n";
        if let Some(head) = &self.head {
            lines.insert_str(0, &format!("{head}\n"));
        }
        let written = self.file.write_all(lines.as_bytes());
        written.map_err(|e| unwritten(&self.path, e))?;
        self.head = None;
        Ok(())
    }
}

fn unwritten(path: &Path, why: std::io::Error) -> EvalError {
    EvalError::Write {
        path: path.to_owned(),
        why: why.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eval::stories::PanelScore;

    fn row() -> RowConfig {
        let rows = "[[row]]\nname = \"Real ones\"\nkind = \"real\"";
        super::super::rows::read(Path::new("rows.toml"), rows)
            .unwrap()
            .rows
            .remove(0)
    }

    fn score(seconds: f64) -> StoryScore {
        let panel = PanelScore {
            seconds,
            features: vec![0.1, f32::MIN_POSITIVE, -7.25],
            similarity: Some(0.25),
            ..PanelScore::default()
        };
        StoryScore {
            panels: vec![panel],
            likelihood: (-12.5, 7),
            ..StoryScore::default()
        }
    }

    #[test]
    fn scores_are_read_again_as_they_were_and_a_cut_line_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let of = json!({"seed": 1});
        let open = || Ledger::open(dir.path(), &row(), &of).unwrap();
        let (mut ledger, none) = open();
        assert!(none.is_empty());
        ledger.add(&score(1.5)).unwrap();
        drop(ledger);
        let path = dir.path().join("real-ones.jsonl");
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"panels\": [");
        std::fs::write(&path, text).unwrap();
        let (mut ledger, one) = open();
        assert_eq!(one, [score(1.5)]);
        ledger.add(&score(2.5)).unwrap();
        assert_eq!(open().1, [score(1.5), score(2.5)]);
    }

    #[test]
    fn scores_are_taken_as_they_are_without_the_weights_that_they_are_of() {
        let dir = tempfile::tempdir().unwrap();
        let trained = RowConfig {
            voken: Some("voken".into()),
            ..row()
        };
        let open = |row: &RowConfig, hash: Option<&str>| {
            let of = json!({"seed": 1, "voken": hash});
            Ledger::open(dir.path(), row, &of).map(|(ledger, scores)| (ledger, scores.len()))
        };
        // Nothing is begun by a row that can't begin.
        assert_eq!(open(&trained, None).unwrap().1, 0);
        let (mut ledger, _) = open(&trained, Some("ab")).unwrap();
        ledger.add(&score(1.0)).unwrap();
        assert_eq!(open(&trained, Some("ab")).unwrap().1, 1);
        assert_eq!(open(&trained, None).unwrap().1, 1);
        assert!(open(&trained, Some("cd")).is_err());
        assert!(open(&row(), None).is_err());
    }

    #[test]
    fn scores_of_something_else_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let (mut ledger, _) = Ledger::open(dir.path(), &row(), &json!({"seed": 1})).unwrap();
        ledger.add(&score(1.0)).unwrap();
        let said = |seed: u32| {
            let opened = Ledger::open(dir.path(), &row(), &json!({ "seed": seed }));
            opened.err().unwrap().to_string()
        };
        assert!(said(2).contains("real-ones.jsonl") && said(2).contains("--scores"));
        std::fs::write(dir.path().join("real-ones.jsonl"), "{\"seed\":1}\n[]\n").unwrap();
        assert!(said(1).contains("something else"));
    }
}
