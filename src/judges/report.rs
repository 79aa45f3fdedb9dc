//! The report as a table and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::metrics::{Accuracy, FaithfulnessCounts};
use crate::storyworld::MAX_SUBJECTS;

/// Pictures from one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaithfulnessRow {
    /// Where the pictures come from, such as `generated`.
    pub source: String,
    /// None for pictures that were not generated.
    pub guidance: Option<f32>,
    /// Counts of scenes with one, two and three subjects.
    pub by_subjects: [FaithfulnessCounts; MAX_SUBJECTS],
}

/// Faithfulness of pictures from several sources.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FaithfulnessReport {
    /// One row for each source and guidance scale.
    pub rows: Vec<FaithfulnessRow>,
    /// Pixels a side, and the autoencoder's PSNR there in dB.
    pub psnr: Vec<(u32, Option<f64>)>,
}

const COLUMNS: [&str; 7] = [
    "recall",
    "precision",
    "sides",
    "place",
    "time",
    "weather",
    "all right",
];

fn shares(t: &FaithfulnessCounts) -> [Accuracy; 7] {
    [
        t.recall,
        t.precision,
        t.sides,
        t.place,
        t.time,
        t.weather,
        t.all_correct,
    ]
}

impl FaithfulnessReport {
    /// A table for people, in per cent; `-` where nothing was judged.
    pub fn table(&self) -> String {
        let mut text = format!("{:<24} {:>8} {:>8}", "pictures", "subjects", "count");
        for column in COLUMNS {
            let _ = write!(text, " {column:>9}");
        }
        text.push('\n');
        for row in &self.rows {
            let source = match row.guidance {
                Some(scale) => format!("{} at {scale}", row.source),
                None => row.source.clone(),
            };
            for (i, tally) in row.by_subjects.iter().enumerate() {
                if tally.pictures == 0 {
                    continue;
                }
                let _ = write!(text, "{source:<24} {:>8} {:>8}", i + 1, tally.pictures);
                for share in shares(tally) {
                    match share.rate() {
                        Some(rate) => {
                            let _ = write!(text, " {:>9.1}", 100.0 * rate);
                        }
                        None => {
                            let _ = write!(text, " {:>9}", "-");
                        }
                    }
                }
                text.push('\n');
            }
        }
        for (size, psnr) in &self.psnr {
            let _ = match psnr {
                Some(db) => writeln!(text, "autoencoder at {size} pixels: {db:.2} dB"),
                None => writeln!(text, "autoencoder at {size} pixels: no error"),
            };
        }
        text
    }

    /// The report as JSON, with the counts that the shares rest on.
    pub fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let by_subjects: Vec<Value> = row
                    .by_subjects
                    .iter()
                    .enumerate()
                    .filter(|(_, t)| t.pictures > 0)
                    .map(|(i, t)| {
                        json!({
                            "subjects": i + 1, "pictures": t.pictures,
                            "recall": t.recall.json(), "precision": t.precision.json(),
                            "sides": t.sides.json(), "place": t.place.json(),
                            "time": t.time.json(), "weather": t.weather.json(),
                            "all_correct": t.all_correct.json(),
                        })
                    })
                    .collect();
                json!({ "source": row.source, "guidance": row.guidance, "by_subjects": by_subjects })
            })
            .collect();
        let psnr: Vec<Value> = self
            .psnr
            .iter()
            .map(|(size, db)| json!({ "pixels": size, "db": db }))
            .collect();
        json!({ "rows": rows, "autoencoder_psnr": psnr })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_number_of_subjects_judged() {
        let mut row = FaithfulnessRow {
            source: "generated".into(),
            guidance: Some(2.5),
            ..FaithfulnessRow::default()
        };
        row.by_subjects[1] = FaithfulnessCounts {
            pictures: 4,
            recall: Accuracy { right: 7, of: 8 },
            ..FaithfulnessCounts::default()
        };
        let report = FaithfulnessReport {
            rows: vec![row],
            psnr: vec![(128, Some(31.257))],
        };
        let table = report.table();
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines.len(), 3, "{table}");
        let cells: Vec<_> = lines[1].split_whitespace().collect();
        assert_eq!(
            cells,
            [
                "generated",
                "at",
                "2.5",
                "2",
                "4",
                "87.5",
                "-",
                "-",
                "-",
                "-",
                "-",
                "-"
            ]
        );
        assert_eq!(lines[2], "autoencoder at 128 pixels: 31.26 dB");
        let json = report.json();
        assert_eq!(json["rows"][0]["by_subjects"][0]["recall"]["rate"], 0.875);
        assert!(json["rows"][0]["by_subjects"][0]["place"]["rate"].is_null());
    }
}
