//! One panel's picture with the record of its making.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbaImage;
use image::imageops::{FilterType, resize};

use super::exporter::{Destination, Export, Exporter};
use super::{ExportError, failed, write_file};
use crate::story::{Images, Panel, PictureTake, encode_png};

/// How large a picture is exported. Larger ones are resampled with a Lanczos filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// As it was drawn.
    #[default]
    Native,
    /// Twice the width and height.
    Double,
    /// Four times the width and height.
    Quadruple,
}

impl Scale {
    /// New sides over old.
    pub fn factor(self) -> u32 {
        match self {
            Scale::Native => 1,
            Scale::Double => 2,
            Scale::Quadruple => 4,
        }
    }
}

/// The picture of one panel, in full size.
pub(super) struct SinglePicture;

impl Exporter for SinglePicture {
    fn id(&self) -> &'static str {
        "panel"
    }

    fn label(&self) -> &'static str {
        "Selected picture as PNG…"
    }

    fn place(&self) -> Destination {
        Destination::File {
            ending: "png",
            kind: "PNG picture",
        }
    }

    fn of_panel(&self) -> bool {
        true
    }

    fn write(&self, export: &Export, target: &Path) -> Result<PathBuf, ExportError> {
        let panel = export.panel.and_then(|at| export.story.panels.get(at));
        let panel = panel.ok_or(ExportError::NoPicture)?;
        write_panel(panel, export.images, target, Scale::Native)?;
        Ok(target.to_path_buf())
    }
}

/// Writes the panel's active picture as a PNG whose record
/// [`crate::story::read_record`] reads back.
pub fn write_panel(
    panel: &Panel,
    images: &Images,
    path: &Path,
    scale: Scale,
) -> Result<(), ExportError> {
    let take = panel.picture().ok_or(ExportError::NoPicture)?;
    let mut image = pixels(take, images)?;
    if scale != Scale::Native {
        let (width, height) = image.dimensions();
        let by = scale.factor();
        let larger = resize(&*image, width * by, height * by, FilterType::Lanczos3);
        image = Arc::new(larger);
    }
    let png = encode_png(&image, take.record.as_ref()).map_err(|source| failed(path, source))?;
    write_file(path, &png)
}

fn pixels(take: &PictureTake, images: &Images) -> Result<Arc<RgbaImage>, ExportError> {
    images
        .get(&take.image)
        .ok_or_else(|| ExportError::NoPixels(take.image.file_name()))
}
