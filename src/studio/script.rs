//! Text in every direction. egui shapes each word as its script wants it, but sets words from
//! left to right; here a text with words that are read from right to left is broken into lines,
//! and the words of each line are put in the order in which they are seen.
//!
//! What this cannot do: while the cursor is in a field, its words stand in the order in which they
//! were typed, since egui's cursor knows no other.

use std::sync::Arc;

use egui::text::LayoutJob;
use egui::{Align, Color32, FontId, Galley, Ui};
use unicode_bidi::{BidiInfo, Level};

use crate::typefaces::{has_right_to_left, is_right_to_left};

/// Lays out a text that is only read, at most `width` points wide.
pub(super) fn layout(ui: &Ui, text: &str, font: &FontId, ink: Color32, width: f32) -> Arc<Galley> {
    if !has_right_to_left(text) {
        return ui
            .painter()
            .layout(text.to_owned(), font.clone(), ink, width);
    }
    let measure = |words: &str| {
        let galley = ui
            .painter()
            .layout_no_wrap(words.to_owned(), font.clone(), ink);
        galley.size().x
    };
    let seen = visual(text, width, measure);
    let mut job = LayoutJob::simple(seen, font.clone(), ink, f32::INFINITY);
    if is_right_to_left(text) {
        job.halign = Align::RIGHT;
    }
    ui.painter().layout_job(job)
}

/// Where a galley of [`layout`] is painted so that it lies between `left` and `left + width`.
pub(super) fn origin(text: &str, left: f32, width: f32) -> f32 {
    // A galley that is aligned to the right lies to the left of where it is painted.
    if has_right_to_left(text) && is_right_to_left(text) {
        left + width
    } else {
        left
    }
}

/// The text in lines that fit, each with its words in the order in which they are seen.
fn visual(text: &str, width: f32, measure: impl Fn(&str) -> f32) -> String {
    let base = match is_right_to_left(text) {
        true => Level::rtl(),
        false => Level::ltr(),
    };
    let mut lines = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let longer = match line.is_empty() {
                true => word.to_owned(),
                false => format!("{line} {word}"),
            };
            if !line.is_empty() && measure(&longer) > width {
                lines.push(reordered(&line, base));
                line = word.to_owned();
            } else {
                line = longer;
            }
        }
        lines.push(reordered(&line, base));
    }
    lines.join("\n")
}

/// The words of a line as they are seen from left to right. Letters of a word stay in the order of
/// reading: egui turns them itself.
fn reordered(line: &str, base: Level) -> String {
    let info = BidiInfo::new(line, Some(base));
    let Some(paragraph) = info.paragraphs.first() else {
        return line.to_owned();
    };
    let (levels, runs) = info.visual_runs(paragraph, paragraph.range.clone());
    let mut seen = String::new();
    for run in runs {
        let words = &line[run.clone()];
        if levels[run.start].is_rtl() {
            // Spaces and marks between the words change places with them.
            let pieces: Vec<&str> = pieces(words);
            seen.extend(pieces.into_iter().rev());
        } else {
            seen.push_str(words);
        }
    }
    seen
}

/// A run cut into words and what stands between them, each piece set as one by egui.
fn pieces(run: &str) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut letters = None;
    for (at, c) in run.char_indices() {
        let is = is_letter(c);
        // Marks and spaces stand each for itself.
        if letters.is_some_and(|were| were != is || !is) {
            pieces.push(&run[start..at]);
            start = at;
        }
        letters = Some(is);
    }
    if start < run.len() {
        pieces.push(&run[start..]);
    }
    pieces
}

fn is_letter(c: char) -> bool {
    use unicode_bidi::BidiClass::{AL, NSM, R};
    matches!(unicode_bidi::bidi_class(c), R | AL | NSM) || c == '\u{200d}' || c == '\u{200c}'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> String {
        visual(text, f32::INFINITY, |_| 0.0)
    }

    #[test]
    fn words_stand_in_the_order_in_which_they_are_seen() {
        // "The fox found a lantern." in Hebrew: its first word is seen at the right.
        assert_eq!(line("השועל מצא עששית."), ".עששית מצא השועל");
        assert_eq!(line("وجد الثعلب فانوسا"), "فانوسا الثعلب وجد");
        assert_eq!(line("A fox says שלום לך now."), "A fox says לך שלום now.");
        assert_eq!(line("A fox finds 3 lanterns."), "A fox finds 3 lanterns.");
        assert_eq!(line("שועל 12 ינשוף"), "ינשוף 12 שועל");
    }

    #[test]
    fn lines_are_broken_before_their_words_change_places() {
        let per_letter = |words: &str| words.chars().count() as f32;
        assert_eq!(visual("אחת שתיים שלוש", 9.0, per_letter), "שתיים אחת\nשלוש");
    }
}
