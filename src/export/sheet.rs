//! The whole board as one picture: title, and panels in a grid with captions under them.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use image::imageops::{FilterType, resize};
use image::{Rgba, RgbaImage};
use resvg::{tiny_skia, usvg};

use super::exporter::{Destination as Target, Export, Exporter};
use super::ink::{ACCENT, INK, LINE, MUTED, PixelRect, SvgBuilder};
use super::own::marked_png;
use super::typeset::{Widths, options};
use super::{ExportError, failed, write_file};
use crate::story::{Images, Story};

const PAPER: &str = "#fbf7ef";

/// The whole board as one PNG.
pub(super) struct SheetPng;

impl Exporter for SheetPng {
    fn id(&self) -> &'static str {
        "sheet"
    }

    fn label(&self) -> &'static str {
        "Sheet as PNG…"
    }

    fn place(&self) -> Target {
        Target::File {
            ending: "png",
            kind: "PNG picture",
        }
    }

    fn cuts_texts(&self) -> bool {
        true
    }

    fn write(&self, export: &Export, target: &Path) -> Result<PathBuf, ExportError> {
        write_sheet(export.story, export.images, target)?;
        Ok(target.to_path_buf())
    }
}

/// Writes [`draw_sheet`] as a PNG.
pub fn write_sheet(story: &Story, images: &Images, path: &Path) -> Result<(), ExportError> {
    let sheet = draw_sheet(story, images)?;
    let png = marked_png(&sheet).map_err(|source| failed(path, source))?;
    write_file(path, &png)
}

/// Draws the board at about two screens' width, however many panels it has. Panels without a
/// picture, or with one whose file is missing, show their text on a card in its place.
pub fn draw_sheet(story: &Story, images: &Images) -> Result<RgbaImage, ExportError> {
    let sheet = SheetLayout::lay_out(story, images).map_err(|e| ExportError::Sheet(e.into()))?;
    let too_large =
        || ExportError::Sheet(format!("{} by {} pixels", sheet.width, sheet.height).into());
    let tree = usvg::Tree::from_str(&sheet.svg, &options(&sheet.svg))
        .map_err(|e| ExportError::Sheet(e.into()))?;
    let mut pixmap = tiny_skia::Pixmap::new(sheet.width, sheet.height).ok_or_else(too_large)?;
    resvg::render(
        &tree,
        tiny_skia::Transform::identity(),
        &mut pixmap.as_mut(),
    );
    // The paper is opaque, so premultiplied pixels are plain ones.
    let mut out =
        RgbaImage::from_raw(sheet.width, sheet.height, pixmap.take()).ok_or_else(too_large)?;
    for (picture, place) in &sheet.pictures {
        paste(&mut out, picture, *place, sheet.radius);
    }
    Ok(out)
}

/// Letters of a panel's text that a sheet of so many panels has room for, and of a title: to
/// measure and draw more takes minutes and gigabytes.
pub(super) fn room_for_text(panels: usize) -> usize {
    (200_000 / panels.max(1)).clamp(100, 2000)
}

const ROOM_FOR_TITLE: usize = 400;

/// `text` cut to `room` letters.
pub(super) fn cut(text: &str, room: usize) -> Cow<'_, str> {
    match text.char_indices().nth(room) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", text[..end].trim_end())),
    }
}

struct SheetLayout {
    width: u32,
    height: u32,
    radius: f32,
    svg: String,
    pictures: Vec<(std::sync::Arc<RgbaImage>, PixelRect)>,
}

/// Columns and the width of a picture for so many panels: rows about as many as columns while
/// there are few, wider sheets of smaller pictures later.
fn grid(panels: usize) -> (u32, u32) {
    match panels {
        0 | 1 => (1, 640),
        2 => (2, 520),
        4 => (2, 480),
        3 | 5 | 6 | 9 => (3, 440),
        7 | 8 | 10..=12 => (4, 400),
        13..=20 => (5, 360),
        21..=42 => (6, 320),
        43..=80 => (8, 288),
        _ => (10, 256),
    }
}

/// What stands in a panel's place: its picture, its text, or (where the text is too long) nothing.
enum CellContent {
    Picture(std::sync::Arc<RgbaImage>),
    Words(Vec<String>, f32),
    Blank,
}

impl SheetLayout {
    fn lay_out(story: &Story, images: &Images) -> Result<SheetLayout, usvg::Error> {
        let (columns, slot) = grid(story.panels.len());
        let faces: Vec<Option<std::sync::Arc<RgbaImage>>> = story
            .panels
            .iter()
            .map(|panel| panel.picture().and_then(|take| images.shown(&take.image)))
            .collect();
        let slot_height = match faces.iter().flatten().next() {
            Some(first) => {
                let ratio = first.height() as f32 / first.width().max(1) as f32;
                (slot as f32 * ratio.clamp(0.4, 1.8)).round() as u32
            }
            None => slot,
        };
        let (margin, gap) = (64u32, 40u32);
        let inner = columns * slot + (columns - 1) * gap;
        let width = inner + 2 * margin;
        let size = (slot as f32 * 0.05).clamp(15.0, 24.0);
        let called = story.display_title();
        let title = match called.as_str() {
            "" => "Untitled story",
            title => title,
        };
        let title = &*cut(title, ROOM_FOR_TITLE);
        let style = cut(&story.style, ROOM_FOR_TITLE);
        let room = room_for_text(story.panels.len());
        let captions: Vec<Cow<str>> = story.panels.iter().map(|p| cut(&p.text, room)).collect();
        let mut texts = vec![(title, true), (&*style, false)];
        texts.extend(captions.iter().map(|caption| (&**caption, false)));
        let widths = Widths::measure(&texts)?;
        let mut ink = SvgBuilder::default();
        let mut y = margin as f32;

        let title_size = 46.0;
        for line in widths.wrap(title, true, title_size, inner as f32) {
            y += title_size * 1.15;
            ink.text(
                margin as f32,
                y - title_size * 0.25,
                title_size,
                true,
                INK,
                "start",
                inner as f32,
                &line,
            );
        }
        let style_size = 22.0;
        for line in widths.wrap(&style, false, style_size, inner as f32) {
            y += style_size * LINE;
            ink.text(
                margin as f32,
                y - 4.0,
                style_size,
                false,
                MUTED,
                "start",
                inner as f32,
                &line,
            );
        }
        y += 12.0;
        ink.rect(margin as f32, y, 72.0, 5.0, 2.5, ACCENT);
        y += 5.0 + 36.0;

        let radius = slot as f32 * 0.035;
        let mut pictures = Vec::new();
        let rows = captions.chunks(columns as usize);
        for (row, (texts, faces)) in rows.zip(faces.chunks(columns as usize)).enumerate() {
            let top = y.round() as u32;
            let mut tallest = 0usize;
            for (column, (text, face)) in texts.iter().zip(faces).enumerate() {
                let number = row * columns as usize + column + 1;
                let x = margin + column as u32 * (slot + gap);
                let place = PixelRect {
                    x,
                    y: top,
                    width: slot,
                    height: slot_height,
                };
                let face = face_of(text, face.clone(), &widths, place, size);
                ink.card(place, radius);
                let label = number.to_string();
                let indent = size * (0.62 * label.len() as f32 + 0.55);
                let caption = match &face {
                    CellContent::Words(..) => Vec::new(),
                    _ => widths.wrap(text, false, size, slot as f32 - indent),
                };
                let mut baseline = (top + slot_height) as f32 + size * 1.65;
                ink.text(x as f32, baseline, size, true, ACCENT, "start", 0.0, &label);
                tallest = tallest.max(caption.len().max(1));
                for line in caption {
                    ink.text(
                        x as f32 + indent,
                        baseline,
                        size,
                        false,
                        INK,
                        "start",
                        slot as f32 - indent,
                        &line,
                    );
                    baseline += size * LINE;
                }
                match face {
                    CellContent::Picture(picture) => pictures.push((picture, place)),
                    CellContent::Words(lines, size) => ink.words(place, &lines, size),
                    CellContent::Blank => {}
                }
            }
            y = (top + slot_height) as f32 + size * (0.65 + LINE * tallest as f32) + gap as f32;
        }
        let height = (y + margin as f32 - gap as f32 + 8.0).ceil() as u32;
        let svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\">\
             <rect width=\"100%\" height=\"100%\" fill=\"{PAPER}\"/>{}</svg>",
            ink.svg
        );
        Ok(SheetLayout {
            width,
            height,
            radius,
            svg,
            pictures,
        })
    }
}

fn face_of(
    text: &str,
    picture: Option<std::sync::Arc<RgbaImage>>,
    widths: &Widths,
    place: PixelRect,
    caption: f32,
) -> CellContent {
    if let Some(picture) = picture {
        return CellContent::Picture(picture);
    }
    if text.trim().is_empty() {
        return CellContent::Blank;
    }
    let padding = place.width as f32 * 0.1;
    for factor in [1.4, 1.2, 1.0] {
        let size = caption * factor;
        let lines = widths.wrap(text, false, size, place.width as f32 - 2.0 * padding);
        if lines.len() as f32 * size * LINE <= place.height as f32 - 2.0 * padding {
            return CellContent::Words(lines, size);
        }
    }
    CellContent::Blank
}

/// Draws a picture whole, as large as its place allows, with rounded corners.
fn paste(sheet: &mut RgbaImage, picture: &RgbaImage, place: PixelRect, radius: f32) {
    let (width, height) = picture.dimensions();
    if width == 0 || height == 0 {
        return;
    }
    let scale = (place.width as f32 / width as f32).min(place.height as f32 / height as f32);
    let fit = |side: u32, most: u32| ((side as f32 * scale).round() as u32).clamp(1, most);
    let (w, h) = (fit(width, place.width), fit(height, place.height));
    let scaled = resize(picture, w, h, FilterType::Lanczos3);
    let (left, top) = (
        place.x + (place.width - w) / 2,
        place.y + (place.height - h) / 2,
    );
    for (x, y, pixel) in scaled.enumerate_pixels() {
        let cover = corner(x, y, w, h, radius) * f32::from(pixel[3]) / 255.0;
        let under = sheet.get_pixel_mut(left + x, top + y);
        let mix = |channel: usize| {
            let (over, below) = (f32::from(pixel[channel]), f32::from(under[channel]));
            (below + (over - below) * cover).round() as u8
        };
        *under = Rgba([mix(0), mix(1), mix(2), 255]);
    }
}

/// How much of a pixel lies inside a rectangle with rounded corners, 0 to 1.
fn corner(x: u32, y: u32, width: u32, height: u32, radius: f32) -> f32 {
    let (px, py) = (x as f32 + 0.5, y as f32 + 0.5);
    let dx = (radius - px).max(px - (width as f32 - radius)).max(0.0);
    let dy = (radius - py).max(py - (height as f32 - radius)).max(0.0);
    (radius + 0.5 - dx.hypot(dy)).clamp(0.0, 1.0)
}
