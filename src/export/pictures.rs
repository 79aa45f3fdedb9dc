//! The board's pictures as numbered files, each with the record of its making.

use std::fs;
use std::path::{Path, PathBuf};

use super::exporter::{Destination, Export, Exporter};
use super::{ExportError, check_folder, check_target, failed, must_be_in_a_folder, write_file};
use crate::story::{ImageId, PictureTake, Story, encode_png};

/// `01.png`, `02.png`, ...: numbered as their panels are, in full size.
pub(super) struct Pictures;

impl Exporter for Pictures {
    fn id(&self) -> &'static str {
        "pictures"
    }

    fn label(&self) -> &'static str {
        "Pictures as PNG…"
    }

    fn place(&self) -> Destination {
        Destination::Folder
    }

    fn check(&self, export: &Export, target: &Path) -> Result<(), ExportError> {
        must_be_in_a_folder(target)?;
        check_folder(target)?;
        if !target.is_dir() {
            return Ok(());
        }
        let mut all = files(export.story);
        all.try_for_each(|(name, _)| check_target(&target.join(name), export.existing))
    }

    fn write(&self, export: &Export, target: &Path) -> Result<PathBuf, ExportError> {
        // One that is missing or damaged is left out, see [`super::left_out`].
        let at_hand = |id: &ImageId| export.images.get(id);
        let first = files(export.story).find(|(_, take)| at_hand(&take.image).is_some());
        if first.is_none() {
            let named = files(export.story).next();
            return Err(named.map_or(ExportError::NoPictures, |(_, take)| {
                ExportError::NoPixels(take.image.file_name())
            }));
        }
        fs::create_dir_all(target).map_err(|source| failed(target, source))?;
        for (name, take) in files(export.story) {
            let path = target.join(name);
            let Some(picture) = at_hand(&take.image) else {
                continue;
            };
            let png = encode_png(&picture, take.record.as_ref());
            write_file(&path, &png.map_err(|source| failed(&path, source))?)?;
        }
        Ok(target.to_path_buf())
    }
}

/// The pictures that the board shows, under their names.
fn files(story: &Story) -> impl Iterator<Item = (String, &PictureTake)> {
    let digits = story.panels.len().to_string().len().max(2);
    let numbered = (1..).zip(&story.panels);
    numbered.filter_map(move |(number, panel)| {
        Some((format!("{number:0digits$}.png"), panel.picture()?))
    })
}
