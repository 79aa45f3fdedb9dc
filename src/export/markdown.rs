//! A story as `story.md` beside a folder of its pictures.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::exporter::{Destination, Export, Exporter};
use super::own::{is_ours, marked_text};
use super::{
    Existing, ExportError, check_folder, check_target, failed, must_be_in_a_folder, write_file,
};
use crate::files::write_beside;
use crate::story::{ImageId, Images, Story, encode_png};

/// `story.md` and a folder of its pictures.
pub(super) struct Markdown;

impl Exporter for Markdown {
    fn id(&self) -> &'static str {
        "markdown"
    }

    fn label(&self) -> &'static str {
        "Markdown folder…"
    }

    fn place(&self) -> Destination {
        Destination::Folder
    }

    fn check(&self, export: &Export, target: &Path) -> Result<(), ExportError> {
        check_markdown(export.story, target, export.existing)
    }

    fn write(&self, export: &Export, target: &Path) -> Result<PathBuf, ExportError> {
        write_markdown_over(export.story, export.images, target, export.existing)?;
        Ok(target.join("story.md"))
    }
}

/// Writes `dir/story.md` and the pictures it shows to `dir/images/`, under the names they have
/// in a project folder, so that a project can hold its own Markdown. `dir` is made if the
/// folder it is in is there. Pictures first, `story.md` last, each in one piece. A picture that is
/// missing or damaged is left out, see [`super::left_out`].
///
/// # Errors
/// As of [`check_markdown`], and when a file can't be written.
pub fn write_markdown(story: &Story, images: &Images, dir: &Path) -> Result<(), ExportError> {
    write_markdown_over(story, images, dir, Existing::Stays)
}

/// As [`write_markdown`]; `existing` says what happens to a `story.md` of somebody else's.
///
/// # Errors
/// As of [`write_markdown`].
pub fn write_markdown_over(
    story: &Story,
    images: &Images,
    dir: &Path,
    existing: Existing,
) -> Result<(), ExportError> {
    check_markdown(story, dir, existing)?;
    let folder = dir.join("images");
    fs::create_dir_all(&folder).map_err(|source| failed(&folder, source))?;
    let mut shown = HashSet::new();
    for take in story.panels.iter().filter_map(|panel| panel.picture()) {
        let path = folder.join(take.image.file_name());
        let there = path.is_file();
        let Some(pixels) = images.get(&take.image) else {
            continue;
        };
        shown.insert(&take.image);
        if there {
            continue;
        }
        let png =
            encode_png(&pixels, take.record.as_ref()).map_err(|source| failed(&path, source))?;
        write_beside(&path, |file| file.write_all(&png)).map_err(|source| failed(&path, source))?;
    }
    let text = marked_text(&markdown(story, &shown));
    write_file(&dir.join("story.md"), text.as_bytes())
}

/// Whether [`write_markdown_over`] may write into `dir`.
///
/// # Errors
/// When there is a `story.md` that stays because its author wrote or changed it, or when pictures
/// would come into the folder of another story.
pub fn check_markdown(story: &Story, dir: &Path, existing: Existing) -> Result<(), ExportError> {
    must_be_in_a_folder(dir)?;
    check_folder(dir)?;
    let folder = dir.join("images");
    // A story's own folder has its own pictures.
    let own = || story.panels.iter().filter_map(|panel| panel.picture());
    let all_there = || own().all(|take| folder.join(take.image.file_name()).is_file());
    if !all_there() {
        check_folder(&folder)?;
    }
    let page = dir.join("story.md");
    let existing = match page.is_file() && is_ours(&page) {
        true => Existing::Goes,
        false => existing,
    };
    match dir.is_dir() {
        true => check_target(&page, existing),
        false => Ok(()),
    }
}

fn markdown(story: &Story, shown: &HashSet<&ImageId>) -> String {
    let title = one_line(&story.display_title());
    let mut blocks = vec![match title.is_empty() {
        true => "# Untitled story".to_string(),
        false => format!("# {}", escape_line(&title)),
    }];
    let style = one_line(&story.style);
    if !style.is_empty() {
        blocks.push(format!("*{}*", escape_line(&style)));
    }
    for (number, panel) in (1..).zip(&story.panels) {
        if let Some(take) = panel.picture().filter(|take| shown.contains(&take.image)) {
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
