//! The frame of a picture: only a region of it drawn, more drawn around it, or all of it made
//! larger, with any painter that draws from a picture and a mask.

mod canvas;
mod edges;
mod enlarge;

use image::RgbImage;

pub use edges::edges;
pub(super) use enlarge::{enlarged, needs_no_painter};

use super::painter::{Brief, PaintedPicture, Painter};
use super::{PipelineError, Progress, Sink};
use crate::story::Size;
use canvas::FrameCanvas;

/// As [`Painter::complete`], for all that a brief may ask of the frame. `chosen` is the size where
/// one was chosen.
///
/// # Errors
/// As [`Painter::complete`]; a mask with nothing white, or settings that don't go together.
pub fn complete(
    painter: &mut dyn Painter,
    brief: Brief,
    chosen: Option<Size>,
) -> Result<Brief, PipelineError> {
    if brief.upscale.is_some() {
        return enlarge::complete(painter, brief, chosen);
    }
    let Some(canvas) = FrameCanvas::of(&brief, chosen, &painter.describe().takes)? else {
        return painter.complete(brief);
    };
    let inner = painter.complete(canvas.inner(&brief))?;
    Ok(outer(brief, inner))
}

/// As [`Painter::draw`], for a brief of [`complete`].
///
/// # Errors
/// As [`Painter::draw`].
pub fn draw(
    painter: &mut dyn Painter,
    brief: &Brief,
    chosen: Option<Size>,
    sink: &mut Sink,
) -> Result<Option<PaintedPicture>, PipelineError> {
    if brief.upscale.is_some() {
        return enlarge::draw(painter, brief, chosen, sink);
    }
    let Some(canvas) = FrameCanvas::of(brief, chosen, &painter.describe().takes)? else {
        return painter.draw(brief, sink);
    };
    let mut within = |progress| {
        sink(match progress {
            Progress::Step {
                step,
                steps,
                preview,
            } => Progress::Step {
                step,
                steps,
                preview: canvas.preview(&preview),
            },
            other => other,
        })
    };
    let drawn = painter.draw(&canvas.inner(brief), &mut within)?;
    Ok(drawn.map(|drawn| PaintedPicture {
        picture: canvas.put_back(&drawn.picture),
        graph: drawn.graph,
        by: drawn.by,
    }))
}

/// `brief` with what the painter filled in for a part of it.
fn outer(brief: Brief, filled: Brief) -> Brief {
    let mut references = brief.references;
    for (own, filled) in references.iter_mut().zip(filled.references) {
        own.how = filled.how;
    }
    let mut control = brief.control;
    for (own, filled) in control.iter_mut().zip(filled.control) {
        own.how = filled.how;
    }
    Brief {
        size: brief.size,
        init: brief.init,
        mask: brief.mask,
        region: brief.region,
        outpaint: brief.outpaint,
        upscale: brief.upscale,
        references,
        control,
        ..filled
    }
}

fn refuse<T>(sentence: &str) -> Result<T, PipelineError> {
    Err(PipelineError::Request(sentence.to_owned()))
}

/// The picture without its alpha, which is opaque where pictures are drawn from.
fn rgb(picture: &image::RgbaImage) -> RgbImage {
    image::DynamicImage::ImageRgba8(picture.clone()).to_rgb8()
}
