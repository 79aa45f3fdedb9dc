//! Stories that a row told, as project folders: to be looked at, and voted on.

use std::path::Path;

use image::buffer::ConvertBuffer;

use super::method::Continuation;
use crate::eval::EvalError;
use crate::pipeline::ContextPanel;
use crate::story::{Document, Edit, Images, Panel, PictureTake, Project, Story};

/// Writes the panels before and the last one, told by the row, as `DIR/row/story-001`.
pub(super) fn write(
    dir: &Path,
    row: &str,
    number: usize,
    before: &[ContextPanel],
    last: Continuation,
) -> Result<(), EvalError> {
    let folder = dir.join(slug(row)).join(format!("story-{:03}", number + 1));
    let mut project = Project::create(folder)?;
    let images = Images::new();
    let mut document = Document::new(Story {
        title: format!("Story {}", number + 1),
        ..Story::default()
    });
    let panels_before = before
        .iter()
        .map(|panel| (panel.text.clone(), panel.picture.clone()));
    let last = (last.text, Some(std::sync::Arc::new(last.picture.convert())));
    for (text, picture) in panels_before.chain([last]) {
        let id = document.fresh_id();
        document.apply(Edit::InsertPanel {
            at: usize::MAX,
            panel: Panel::with_text(id, text),
        })?;
        if let Some(picture) = picture {
            let (width, height) = picture.dimensions();
            let image = images.put(picture);
            document.apply(Edit::AddPicture {
                panel: id,
                take: PictureTake::new(image, width, height, None),
            })?;
        }
    }
    Ok(project.save(&document, &images)?)
}

/// A row's name as a folder's: "1 voken, both stages" is `1-voken-both-stages`.
pub(super) fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_alphanumeric());
    let words: Vec<String> = words
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect();
    words.join("-")
}
