//! Which rows the comparison has: a TOML file with a table for each.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::world::World;
use crate::cause::Cause;
use crate::eval::EvalError;

/// The rows of the built-in comparison, and the file that they are in.
pub const BUILT_IN: (&str, &str) = (
    "models/sprout/train/compare/rows.toml",
    include_str!("../../../models/sprout/train/compare/rows.toml"),
);

/// How a row generates stories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MethodKind {
    /// A model with its own recipe writes and draws.
    Pipeline,
    /// GILL: a model draws, and its picture gives way to one of the training stories that fits the
    /// text better.
    Gill,
    /// One voken folder draws the sentence alone, another writes from texts alone.
    Unimodal,
    /// The pictures of the story itself: what the judges make of a perfect model.
    Real,
}

/// What of the story so far a row reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContextPart {
    /// Texts of the panels before.
    Texts,
    /// Pictures of the panels before.
    Pictures,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowConfig {
    /// Name of the row in the report.
    pub name: String,
    /// How the row goes on with a story.
    pub kind: MethodKind,
    /// Id or folder of the model.
    pub model: Option<String>,
    /// The recipe that the model must have, `voken` or `caption`.
    pub recipe: Option<String>,
    /// Voken folder in place of the model's own, relative to the file of rows.
    pub voken: Option<PathBuf>,
    /// With `unimodal`: the same for the model that writes.
    pub writer: Option<PathBuf>,
    /// What the model reads of the panels before.
    #[serde(default = "everything")]
    pub context: Vec<ContextPart>,
    /// Where it differs from the other rows'.
    pub guidance: Option<f32>,
    /// Whether it goes on with the story's texts, too: rows that differ from another only in how
    /// they draw would write the same again.
    #[serde(default = "yes")]
    pub writes: bool,
    /// In the world `library`: whether the painter is shown pictures of those whom it draws. Without
    /// them it draws the place, time and weather of the same prompt.
    #[serde(default = "yes")]
    pub references: bool,
}

/// A comparison: its world and its rows.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComparisonConfig {
    /// Whose stories are told.
    #[serde(default)]
    pub world: World,
    /// In the order of the report.
    #[serde(rename = "row")]
    pub rows: Vec<RowConfig>,
}

fn everything() -> Vec<ContextPart> {
    vec![ContextPart::Texts, ContextPart::Pictures]
}

fn yes() -> bool {
    true
}

/// Reads the comparison of `text`, which is in the file `path`.
///
/// # Errors
/// What is not TOML, an unknown setting, or a row that lacks what its kind needs or asks for what
/// its world has not.
pub fn read(path: &Path, text: &str) -> Result<ComparisonConfig, EvalError> {
    let bad = |why: Cause| EvalError::Rows {
        path: path.to_owned(),
        why,
    };
    let mut file: ComparisonConfig =
        toml::from_str(text).map_err(|e| bad(e.message().to_owned().into()))?;
    let base = path.parent().unwrap_or(Path::new("."));
    for row in &mut file.rows {
        for folder in [&mut row.voken, &mut row.writer].into_iter().flatten() {
            *folder = base.join(&*folder);
        }
    }
    for row in &file.rows {
        if row.kind != MethodKind::Real && row.model.is_none() {
            return Err(bad(format!("the row {:?} has no model", row.name).into()));
        }
        let library = file.world == World::Library;
        if library && row.kind == MethodKind::Gill {
            let why = "retrieves pictures, and there are none of the world library";
            return Err(bad(format!("the row {:?} {why}", row.name).into()));
        }
        let without = "is drawn without references, which only pipelines of the world library have";
        let draws = library && row.kind == MethodKind::Pipeline;
        if !row.references && !draws {
            return Err(bad(format!("the row {:?} {without}", row.name).into()));
        }
        let named = |other: &&RowConfig| other.name == row.name;
        if file.rows.iter().filter(named).count() > 1 {
            return Err(bad(format!("two rows are called {:?}", row.name).into()));
        }
    }
    if file.rows.is_empty() {
        return Err(bad("it has no rows; add a [[row]]".into()));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_rows_are_those_of_the_comparison() {
        let built_in = read(Path::new(BUILT_IN.0), BUILT_IN.1).unwrap();
        assert_eq!(built_in.world, World::Storyworld);
        let rows = built_in.rows;
        let kinds: Vec<MethodKind> = rows.iter().map(|row| row.kind).collect();
        assert_eq!(kinds.last(), Some(&MethodKind::Real));
        for kind in [MethodKind::Pipeline, MethodKind::Gill, MethodKind::Unimodal] {
            assert!(kinds.contains(&kind), "{kind:?}");
        }
        let contexts = |wanted: &[ContextPart]| rows.iter().any(|row| row.context == wanted);
        assert!(contexts(&[ContextPart::Texts, ContextPart::Pictures]));
        assert!(
            contexts(&[ContextPart::Texts]) && contexts(&[ContextPart::Pictures]) && contexts(&[])
        );
        assert!(rows.iter().any(|row| row.guidance == Some(1.0)));
    }

    #[test]
    fn folders_are_found_beside_the_file() {
        let row = "[[row]]\nname = \"a\"\nkind = \"pipeline\"\nmodel = \"m\"\nvoken = \"v\"";
        let rows = read(Path::new("there/my.toml"), row).unwrap().rows;
        assert_eq!(rows[0].voken.as_deref(), Some(Path::new("there/v")));
    }

    #[test]
    fn mistakes_name_the_file_and_the_row() {
        let said = |text: &str| read(Path::new("my.toml"), text).unwrap_err().to_string();
        assert!(said("row = 1").contains("my.toml"));
        assert!(said("[[row]]\nname = \"a\"\nkind = \"real\"\nstep = 1").contains("step"));
        let twice = "[[row]]\nname = \"a\"\nkind = \"real\"\n".repeat(2);
        assert!(said(&twice).contains("two rows"));
        assert!(said("[[row]]\nname = \"b\"\nkind = \"unimodal\"").contains("no model"));
        assert!(said("row = []").contains("no rows"));
        let real = "[[row]]\nname = \"a\"\nkind = \"real\"";
        let world = said(&format!("world = \"moon\"\n{real}"));
        assert!(
            world.contains("my.toml") && world.contains("moon"),
            "{world}"
        );
        assert!(said(&format!("{real}\nreferences = false")).contains("without references"));
        assert!(said(&format!("{real}\nreferences = 1")).contains("my.toml"));
        let gill = "world = \"library\"\n[[row]]\nname = \"g\"\nkind = \"gill\"\nmodel = \"m\"";
        assert!(said(gill).contains("\"g\" retrieves"));
    }

    #[test]
    fn the_rows_of_sprout_open_are_of_the_library() {
        let path = "models/sprout-open/train/compare/rows.toml";
        let text = include_str!("../../../models/sprout-open/train/compare/rows.toml");
        let ComparisonConfig { world, rows } = read(Path::new(path), text).unwrap();
        assert_eq!(world, World::Library);
        assert!(rows.iter().any(|row| !row.references));
        assert!(rows.iter().any(|row| row.kind == MethodKind::Real));
    }
}
