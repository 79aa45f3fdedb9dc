//! The comparison as Markdown and as JSON.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::StoryOptions;
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
    /// Whether the contrastive judge was there.
    pub similarity: bool,
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
    pub(super) fn new(options: &StoryOptions, similarity: bool) -> Self {
        Self {
            stories: options.stories,
            scenes: options.scenes,
            seed: options.seed,
            steps: options.settings.steps,
            guidance: options.settings.guidance,
            scheduler: options.settings.scheduler.to_string(),
            similarity,
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
        let frechet = [FRECHET.1];
        let titles = OF_PICTURES.iter().map(|m| m.title).chain(frechet);
        head(&mut text, "pictures", titles);
        for row in &self.rows {
            let cells = OF_PICTURES.iter().map(|m| m.unit).chain([Unit::Number]);
            let values = row.of_pictures.iter().chain([&row.frechet]);
            line(&mut text, &row.name, cells.zip(values));
        }
        let _ = writeln!(
            text,
            "\nThe Fréchet distance is between features of the recogniser, from {} real scenes.\n",
            self.scenes
        );
        if !self.similarity {
            text.push_str(
                "There is no text–picture similarity, since the built-in model has no contrastive judge; \
                 make one with `vokenboard train contrastive` and put it into its folder `contrastive`.\n\n",
            );
        }
        head(&mut text, "texts", OF_TEXTS.iter().map(|m| m.title));
        for row in self.rows.iter().filter(|row| row.texts > 0) {
            let units = OF_TEXTS.iter().map(|m| m.unit);
            line(&mut text, &row.name, units.zip(&row.of_texts));
        }
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
            "stories": self.stories, "seed": self.seed, "steps": self.steps,
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

fn head<'a>(text: &mut String, first: &str, titles: impl Iterator<Item = &'a str>) {
    let titles: Vec<&str> = titles.collect();
    let _ = writeln!(text, "| {first} | {} |", titles.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(titles.len()));
}

fn line<'a>(text: &mut String, name: &str, cells: impl Iterator<Item = (Unit, &'a Measured)>) {
    let cells: Vec<String> = cells.map(|(unit, measured)| cell(unit, measured)).collect();
    let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
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
}
