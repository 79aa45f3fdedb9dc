//! Text measured and broken into lines, for SVG that resvg draws.

use std::collections::HashMap;

use resvg::usvg;
use unicode_segmentation::UnicodeSegmentation as _;

pub(super) use crate::typefaces::FAMILY;
use crate::typefaces::{self, is_right_to_left};

/// Words of more characters than this may be longer than a line, so that each letter is measured.
const LONG: usize = 12;

/// Words are measured at this size and scaled, since advances grow in proportion.
const MEASURED_AT: f32 = 100.0;

/// Parses with the bundled font, and with the fonts of the system where a text has letters that
/// it lacks.
pub(super) fn options(texts: &str) -> usvg::Options<'static> {
    usvg::Options {
        font_family: FAMILY.to_string(),
        fontdb: match texts.chars().all(is_in_bundled_font) {
            true => typefaces::bundled(),
            false => typefaces::with_system(),
        },
        font_resolver: typefaces::resolver(),
        ..usvg::Options::default()
    }
}

/// Western European Latin and the punctuation of sentences.
fn is_in_bundled_font(c: char) -> bool {
    matches!(c, '\0'..='\u{ff}' | '\u{152}' | '\u{153}' | '\u{2013}' | '\u{2014}' | '\u{2018}'..='\u{201e}'
        | '\u{2026}' | '\u{20ac}')
}

/// Text as XML content: escaped, without the control characters that XML cannot hold.
pub(super) fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' => out.push(' '),
            '\0'..='\u{1f}' | '\u{7f}' | '\u{fffe}' | '\u{ffff}' => {}
            c => out.push(c),
        }
    }
    out
}

/// A line as XML, each run of letters that the bundled font lacks in the family that draws it:
/// left to itself, a line in which two letters join (as in "finds") gets no other font.
pub(super) fn set(line: &str) -> String {
    let family = |c: char| match is_in_bundled_font(c) {
        true => None,
        false => typefaces::fallback(c).and_then(typefaces::family),
    };
    let mut out = String::new();
    let mut run = String::new();
    let mut of: Option<String> = None;
    let mut close = |run: &mut String, of: &Option<String>| {
        match of {
            Some(family) if !run.is_empty() => {
                out.push_str(&format!(
                    r#"<tspan font-family="{}" font-weight="400">{}</tspan>"#,
                    xml(family),
                    xml(run)
                ));
            }
            _ => out.push_str(&xml(run)),
        }
        run.clear();
    };
    let mut before = ' ';
    for c in line.chars() {
        // Marks and joiners stay with the letter before them, and so do spaces between words; those
        // of a font of emoji are as wide as its pictures.
        let between_words = c == ' ' && before.is_alphanumeric();
        let wanted = match joins(c) || (between_words && of.is_some()) {
            true => of.clone(),
            false => family(c),
        };
        before = c;
        if wanted != of {
            close(&mut run, &of);
            of = wanted;
        }
        run.push(c);
    }
    close(&mut run, &of);
    out
}

/// Widths of pieces of text in the regular and the bold face.
#[derive(Default)]
pub(super) struct Widths {
    of: HashMap<(String, bool), f32>,
}

impl Widths {
    /// Measures every piece of the texts that [`Widths::wrap`] may be asked to place.
    pub(super) fn measure(texts: &[(&str, bool)]) -> Result<Widths, usvg::Error> {
        let mut widths = Widths::default();
        let mut pieces: Vec<(String, bool)> = Vec::new();
        let mut letters = String::new();
        for &(text, bold) in texts {
            letters.push_str(text);
            for piece in pieces_of(text) {
                // A piece that is longer than a line is broken between its letters.
                if piece.text.chars().count() > LONG {
                    let letters = piece.text.graphemes(true);
                    pieces.extend(letters.map(|letter| (letter.to_string(), bold)));
                }
                pieces.push((piece.text.to_string(), bold));
            }
        }
        pieces.sort();
        pieces.dedup();
        let mut svg =
            String::from(r#"<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">"#);
        for (index, (piece, bold)) in pieces.iter().enumerate() {
            svg += &format!(
                r#"<text id="w{index}" font-family="{FAMILY}" font-size="{MEASURED_AT}" font-weight="{}">{}</text>"#,
                weight(*bold),
                set(piece)
            );
        }
        svg += "</svg>";
        let tree = usvg::Tree::from_str(&svg, &options(&letters))?;
        for (index, piece) in pieces.into_iter().enumerate() {
            // A piece without a visible glyph leaves no node.
            let width = match tree.node_by_id(&format!("w{index}")) {
                Some(usvg::Node::Text(text)) => text.bounding_box().width(),
                _ => 0.0,
            };
            widths.of.insert(piece, width / MEASURED_AT);
        }
        Ok(widths)
    }

    fn width(&self, piece: &str, bold: bool) -> f32 {
        let known = self.of.get(&(piece.to_string(), bold));
        known.copied().unwrap_or(0.5 * piece.chars().count() as f32)
    }

    /// Lines no wider than `width` pixels at font size `size`; line breaks of the text stay.
    pub(super) fn wrap(&self, text: &str, bold: bool, size: f32, width: f32) -> Vec<String> {
        const SPACE: f32 = 0.26;
        let mut lines = Vec::new();
        for paragraph in text.lines().filter(|line| !line.trim().is_empty()) {
            let mut line = String::new();
            let mut used = 0.0;
            for piece in pieces_of(paragraph) {
                let own = self.width(piece.text, bold) * size;
                let space = if piece.after_space { SPACE * size } else { 0.0 };
                if !line.is_empty() && used + space + own > width {
                    lines.push(std::mem::take(&mut line));
                    used = 0.0;
                }
                if !line.is_empty() && piece.after_space {
                    line.push(' ');
                    used += space;
                }
                // A word longer than a line is broken where the line ends.
                if own > width {
                    let long = piece.text.chars().count() > LONG;
                    let average = own / piece.text.graphemes(true).count() as f32;
                    for letter in piece.text.graphemes(true) {
                        let own = match long {
                            true => self.width(letter, bold) * size,
                            false => average,
                        };
                        if used + own > width && !line.is_empty() {
                            lines.push(std::mem::take(&mut line));
                            used = 0.0;
                        }
                        line.push_str(letter);
                        used += own;
                    }
                } else {
                    line.push_str(piece.text);
                    used += own;
                }
            }
            lines.push(line);
        }
        lines
    }
}

/// A line as it is drawn, and whether it is set to the right: marks at the ends of a line that is
/// read from right to left belong to its words.
pub(super) fn directed(line: &str) -> (String, bool) {
    if is_right_to_left(line) {
        (format!("\u{200f}{line}\u{200f}"), true)
    } else {
        (line.to_owned(), false)
    }
}

pub(super) fn weight(bold: bool) -> u32 {
    if bold { 700 } else { 400 }
}

struct TextRun<'a> {
    text: &'a str,
    after_space: bool,
}

/// What a line may be broken between: words, and the letters of scripts without spaces.
fn pieces_of(text: &str) -> Vec<TextRun<'_>> {
    let mut pieces = Vec::new();
    for word in text.split_whitespace() {
        let mut start = 0;
        let mut after_space = true;
        let mut previous = None;
        for (at, c) in word.char_indices() {
            let breaks = previous.is_some_and(|p| is_ideograph(p) || is_ideograph(c));
            if breaks && !joins(c) && !closes(c) {
                pieces.push(TextRun {
                    text: &word[start..at],
                    after_space,
                });
                (start, after_space) = (at, false);
            }
            previous = Some(c);
        }
        pieces.push(TextRun {
            text: &word[start..],
            after_space,
        });
    }
    pieces
}

/// Chinese characters, kana and their full-width punctuation.
fn is_ideograph(c: char) -> bool {
    matches!(c, '\u{3000}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{ff00}'..='\u{ff60}' | '\u{20000}'..='\u{3ffff}')
}

/// Punctuation that does not begin a line.
fn closes(c: char) -> bool {
    "、。，．！？：；」』）】〉》ー".contains(c)
}

/// Marks that belong to the letter before them.
fn joins(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{1f3fb}'..='\u{1f3ff}' | '\u{20d0}'..='\u{20ff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_lose_nothing() {
        let text = "A small fox finds a glowing lantern in the snowy forest, \
                    Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft!";
        let widths = Widths::measure(&[(text, false)]).unwrap();
        let lines = widths.wrap(text, false, 20.0, 200.0);
        let squeeze = |s: &str| s.replace(' ', "");
        assert_eq!(squeeze(&lines.concat()), squeeze(text));
        let drawn: Vec<(&str, bool)> = lines.iter().map(|line| (line.as_str(), false)).collect();
        assert!(drawn.len() > 4);
        for line in lines.iter().take(3) {
            let own: f32 = pieces_of(line)
                .iter()
                .map(|p| widths.width(p.text, false) * 20.0)
                .sum();
            assert!(own > 60.0 && own <= 200.0, "{line}: {own}");
        }
    }

    #[test]
    fn chinese_breaks_between_characters_but_not_before_a_full_stop() {
        let text = "狐狸在雪林里发现了一盏灯。";
        let pieces: Vec<&str> = pieces_of(text).iter().map(|p| p.text).collect();
        assert_eq!(pieces.len(), 12);
        assert_eq!(pieces[11], "灯。");
    }

    #[test]
    fn control_characters_do_not_reach_the_xml() {
        assert_eq!(
            xml("a\u{0}<b>\u{8}&\t\"c\""),
            "a&lt;b&gt;&amp; &quot;c&quot;"
        );
    }
}
