//! A story as `story.md` beside a folder of its pictures.

use std::fs;
use std::path::Path;

use super::panel::pixels;
use super::{ExportError, failed, must_be_in_a_folder, write_file};
use crate::story::{Images, Story, encode_png};

/// Writes `dir/story.md` and the pictures it shows to `dir/images/`, under the names they have
/// in a project folder, so that a project can hold its own Markdown. `dir` is made if the
/// folder it is in is there. Pictures first, `story.md` last, each in one piece.
pub fn write_markdown(story: &Story, images: &Images, dir: &Path) -> Result<(), ExportError> {
    must_be_in_a_folder(dir)?;
    let folder = dir.join("images");
    for takes in story.panels.iter().filter_map(|panel| panel.picture()) {
        pixels(takes, images)?;
    }
    fs::create_dir_all(&folder).map_err(|source| failed(&folder, source))?;
    for take in story.panels.iter().filter_map(|panel| panel.picture()) {
        let path = folder.join(take.image.file_name());
        if path.is_file() {
            continue;
        }
        let png = encode_png(&*pixels(take, images)?, take.record.as_ref())
            .map_err(|source| failed(&path, source))?;
        write_file(&path, &png)?;
    }
    write_file(&dir.join("story.md"), markdown(story).as_bytes())
}

fn markdown(story: &Story) -> String {
    let title = one_line(&story.title);
    let mut blocks = vec![match title.is_empty() {
        true => "# Untitled story".to_string(),
        false => format!("# {}", escape_line(&title)),
    }];
    let style = one_line(&story.style);
    if !style.is_empty() {
        blocks.push(format!("*{}*", escape_line(&style)));
    }
    for (number, panel) in (1..).zip(&story.panels) {
        if let Some(take) = panel.picture() {
            let file = take.image.file_name();
            blocks.push(format!("![Panel {number}](images/{file})"));
        }
        let text = escape(&panel.text);
        if !text.is_empty() {
            blocks.push(text);
        }
    }
    blocks.join("\n\n") + "\n"
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Text that Markdown shows as it is written: line breaks stay line breaks, blank lines part
/// paragraphs, and no character is taken for markup.
fn escape(text: &str) -> String {
    let mut out = String::new();
    let mut blank = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() {
            blank = true;
            continue;
        }
        if !out.is_empty() {
            out.push_str(if blank { "\n\n" } else { "\\\n" });
        }
        out.push_str(&escape_line(line));
        blank = false;
    }
    out
}

fn escape_line(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for character in line.chars() {
        if "\\`*_[]<>&|~$".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    // Headings, lists, and rules under a heading are markup at the start of a line only.
    let digits = out.chars().take_while(char::is_ascii_digit).count();
    if out.starts_with(['#', '+', '-', '=']) {
        out.insert(0, '\\');
    } else if digits > 0 && out[digits..].starts_with(['.', ')']) {
        out.insert(digits, '\\');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_text_is_escaped() {
        assert_eq!(escape("# no *heading*"), "\\# no \\*heading\\*");
        assert_eq!(escape("1. not a list"), "1\\. not a list");
        assert_eq!(escape("a <b> & [c](d)"), "a \\<b\\> \\& \\[c\\](d)");
        assert_eq!(escape("A fox - red. 3.5 tall!"), "A fox - red. 3.5 tall!");
    }

    #[test]
    fn lines_and_paragraphs_stay() {
        assert_eq!(escape("  one\ntwo\n\n\nthree \n"), "one\\\ntwo\n\nthree");
        assert_eq!(escape(" \n "), "");
    }
}
