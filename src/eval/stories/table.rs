//! The comparison as Markdown and as JSON.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::StoryOptions;
use super::World;
use super::score::{Metric, OF_PICTURES, OF_TEXTS, Unit};
use crate::eval::bootstrap::Interval;

/// Key and title of the Fréchet distance, which needs the real scenes too.
pub const FRECHET: (&str, &str) = ("frechet", "Fréchet distance");

type Measured = Option<(f64, Option<Interval>)>;

/// One row of the comparison; metrics are in the order of [`OF_PICTURES`] and [`OF_TEXTS`].
#[derive(Clone, Debug, PartialEq)]
pub struct StoryRow {
    /// Name of the row.
    pub name: String,
    /// Pictures that were judged.
    pub pictures: usize,
    /// Texts that were judged.
    pub texts: usize,
    /// Metrics of pictures.
    pub of_pictures: Vec<Measured>,
    /// Fréchet distance between the row's pictures and the real scenes.
    pub frechet: Measured,
    /// Metrics of texts.
    pub of_texts: Vec<Measured>,
}

/// The whole comparison.
#[derive(Clone, Debug, PartialEq)]
pub struct StoriesReport {
    /// Held-out stories that were continued.
    pub stories: usize,
    /// Whose stories.
    pub world: World,
    /// Real scenes for the Fréchet distance.
    pub scenes: usize,
    /// Seed of the stories.
    pub seed: u64,
    /// Denoising steps.
    pub steps: u32,
    /// Guidance scale where a row says nothing else.
    pub guidance: f32,
    /// Scheduler of the denoising.
    pub scheduler: String,
    /// What should be known of the judges, a sentence each.
    pub notes: Vec<String>,
    /// Of the characters that the stories' own texts name, the share that was named before.
    pub met_before: Option<f64>,
    /// One row for each model or baseline.
    pub rows: Vec<StoryRow>,
    /// Rows that could not begin, and why.
    pub left_out: Vec<(String, String)>,
}

/// What people preferred in the paper: of MiniGPT-5, of the two-stage baseline, in per cent.
const PAPER: [(&str, f64, f64); 3] = [
    ("language continuity", 55.0, 35.0),
    ("image quality", 52.0, 38.0),
    ("multimodal coherence", 57.0, 29.0),
];
const PAPER_SAYS: &str = "For reference, on another data set and not comparable with the rows above: in the MiniGPT-5 paper \
(arXiv 2310.02239) people compared stories continued on VIST with those of a two-stage baseline and preferred, to the nearest per cent";
const PAPER_TOO: &str = "The paper's automatic figures for VIST and MMDialog are left out: they could not be checked against the paper here.";

impl StoriesReport {
    pub(super) fn new(options: &StoryOptions, notes: Vec<String>) -> Self {
        Self {
            world: options.world,
            stories: options.stories,
            scenes: options.scenes,
            seed: options.seed,
            steps: options.settings.steps,
            guidance: options.settings.guidance,
            scheduler: options.settings.scheduler.to_string(),
            notes,
            met_before: None,
            rows: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Two tables, and what should be known about them.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "{} held-out stories, seed {}; {} steps of {}, guidance {} where a row says nothing else. \
             In brackets: 95 % intervals from resampling stories. Shares are in per cent.\n\n",
            self.stories, self.seed, self.steps, self.scheduler, self.guidance
        );
        let frechet = (FRECHET.1, Unit::Number);
        let columns: Vec<_> = titles(&OF_PICTURES).chain([frechet]).collect();
        let all = self.rows.iter().map(|row| {
            let cells = row.of_pictures.iter().chain([&row.frechet]);
            (row.name.as_str(), cells.collect())
        });
        table(&mut text, "pictures", &columns, &all.collect::<Vec<_>>());
        text.push('\n');
        for note in &self.notes {
            let _ = writeln!(text, "{note}\n");
        }
        let columns: Vec<_> = titles(&OF_TEXTS).collect();
        let writing = self.rows.iter().filter(|row| row.texts > 0);
        let all = writing.map(|row| (row.name.as_str(), row.of_texts.iter().collect()));
        table(&mut text, "texts", &columns, &all.collect::<Vec<_>>());
        text.push_str(
            "\nMETEOR matches words exactly, by Porter stem and by the storyworld's own synonyms.\n",
        );
        if let Some(share) = self.met_before {
            let _ = writeln!(
                text,
                "\nOf the characters that the stories' own texts name after the first panel, {:.1} % were named before; \
                 the others are met there.",
                100.0 * share
            );
        }
        for (row, why) in &self.left_out {
            let _ = writeln!(text, "\nThe row \"{row}\" is left out: {why}.");
        }
        let _ = writeln!(text, "\n{PAPER_SAYS}:\n");
        text.push_str("| | MiniGPT-5 | baseline | tie |\n|---|---|---|---|\n");
        for (what, own, other) in PAPER {
            let _ = writeln!(
                text,
                "| {what} | {own} | {other} | {} |",
                100.0 - own - other
            );
        }
        let _ = writeln!(text, "\n{PAPER_TOO}");
        text
    }

    /// The report as JSON.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let mut metrics = Map::new();
                let mut put = |key: &str, measured: &Measured| {
                    metrics.insert(key.to_owned(), value(measured));
                };
                let named =
                    |list: &[Metric]| -> Vec<&'static str> { list.iter().map(|m| m.key).collect() };
                for (key, measured) in named(&OF_PICTURES).into_iter().zip(&row.of_pictures) {
                    put(key, measured);
                }
                put(FRECHET.0, &row.frechet);
                for (key, measured) in named(&OF_TEXTS).into_iter().zip(&row.of_texts) {
                    put(key, measured);
                }
                json!({
                    "name": row.name, "pictures": row.pictures, "texts": row.texts,
                    "metrics": metrics,
                })
            })
            .collect();
        let left_out: Vec<Value> = self
            .left_out
            .iter()
            .map(|(name, why)| json!({ "name": name, "why": why }))
            .collect();
        let paper: Vec<Value> = PAPER
            .iter()
            .map(|(what, own, other)| {
                json!({ "criterion": what, "minigpt5": own / 100.0, "baseline": other / 100.0 })
            })
            .collect();
        json!({
            "world": self.world.key(), "stories": self.stories, "seed": self.seed, "steps": self.steps,
            "guidance": self.guidance, "scheduler": self.scheduler,
            "real_scenes": self.scenes, "met_before": self.met_before, "rows": rows, "left_out": left_out,
            "other_data_set": {
                "source": "arXiv 2310.02239, people's votes on VIST", "preferred": paper,
            },
        })
    }
}

fn value(measured: &Measured) -> Value {
    match measured {
        None => Value::Null,
        Some((value, None)) => json!({ "value": value }),
        Some((value, Some((low, high)))) => json!({ "value": value, "low": low, "high": high }),
    }
}

fn titles(metrics: &[Metric]) -> impl Iterator<Item = (&'static str, Unit)> {
    metrics.iter().map(|metric| (metric.title, metric.unit))
}

/// Titles and a line for each row. What no row has is no column: not every world has every judge.
fn table(
    text: &mut String,
    first: &str,
    columns: &[(&str, Unit)],
    rows: &[(&str, Vec<&Measured>)],
) {
    let is_measured =
        |at: &usize| rows.is_empty() || rows.iter().any(|(_, cells)| cells[*at].is_some());
    let kept: Vec<usize> = (0..columns.len()).filter(is_measured).collect();
    let titles: Vec<&str> = kept.iter().map(|&at| columns[at].0).collect();
    let _ = writeln!(text, "| {first} | {} |", titles.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(titles.len()));
    for (name, cells) in rows {
        let cells: Vec<String> = kept
            .iter()
            .map(|&at| cell(columns[at].1, cells[at]))
            .collect();
        let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
    }
}

fn cell(unit: Unit, measured: &Measured) -> String {
    let number = |value: f64| match unit {
        Unit::Share => format!("{:.1}", 100.0 * value),
        Unit::Number => format!("{value:.3}"),
    };
    match measured {
        None => "–".to_owned(),
        Some((value, None)) => number(*value),
        Some((value, Some((low, high)))) => {
            format!("{} ({}–{})", number(*value), number(*low), number(*high))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_hold_shares_in_per_cent_and_their_intervals() {
        assert_eq!(
            cell(Unit::Share, &Some((0.7512, Some((0.7, 0.8))))),
            "75.1 (70.0–80.0)"
        );
        assert_eq!(cell(Unit::Number, &Some((12.0, None))), "12.000");
        assert_eq!(cell(Unit::Share, &None), "–");
    }

    #[test]
    fn what_no_row_has_is_no_column() {
        let columns = [
            ("place", Unit::Share),
            ("distance", Unit::Number),
            ("time", Unit::Share),
        ];
        let (some, none) = (Some((0.5, None)), None);
        let rows = [
            ("a", vec![&some, &none, &none]),
            ("b", vec![&some, &none, &some]),
        ];
        let mut text = String::new();
        table(&mut text, "pictures", &columns, &rows);
        assert_eq!(
            text,
            "| pictures | place | time |\n|---|---|---|\n| a | 50.0 | – |\n| b | 50.0 | 50.0 |\n"
        );
    }
}
