//! Shapes and texts of a board as SVG.

use std::fmt::Write as _;

use super::typeset::{FAMILY, directed, set, weight};

const CARD: &str = "#f1e9da";
pub(super) const INK: &str = "#2d2a32";
pub(super) const MUTED: &str = "#8b8172";
pub(super) const ACCENT: &str = "#c4552d";
pub(super) const LINE: f32 = 1.42;

/// In whole pixels, so that pictures are not blurred.
#[derive(Clone, Copy)]
pub(super) struct PixelRect {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// SVG as it is put together.
#[derive(Default)]
pub(super) struct SvgBuilder {
    pub svg: String,
}

impl SvgBuilder {
    #[allow(
        clippy::too_many_arguments,
        reason = "the attributes of one SVG element"
    )]
    pub(super) fn text(
        &mut self,
        x: f32,
        y: f32,
        size: f32,
        bold: bool,
        fill: &str,
        anchor: &str,
        width: f32,
        line: &str,
    ) {
        let weight = weight(bold);
        let (line, to_the_right) = directed(line);
        let (x, anchor) = match (anchor, to_the_right) {
            ("start", true) => (x + width, "end"),
            _ => (x, anchor),
        };
        // Writing to a String cannot fail.
        let _ = write!(
            self.svg,
            r#"<text x="{x}" y="{y}" font-family="{FAMILY}" font-size="{size}" font-weight="{weight}" fill="{fill}" text-anchor="{anchor}">{}</text>"#,
            set(&line)
        );
    }

    pub(super) fn rect(
        &mut self,
        x: f32,
        y: f32,
        width: f32,
        height: f32,
        radius: f32,
        fill: &str,
    ) {
        let _ = write!(
            self.svg,
            r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" fill="{fill}"/>"#
        );
    }

    /// What a picture lies on: a sheet with a soft edge below it.
    pub(super) fn card(&mut self, place: PixelRect, radius: f32) {
        let (x, y) = (place.x as f32, place.y as f32);
        let (width, height) = (place.width as f32, place.height as f32);
        for (spread, fill) in [(3.0, "#f5efe3"), (2.0, "#eee6d6"), (1.0, "#e6dcc9")] {
            let (w, h) = (width + 2.0 * spread, height + 2.0 * spread);
            self.rect(x - spread, y - spread + 2.0, w, h, radius + spread, fill);
        }
        self.rect(x, y, width, height, radius, CARD);
    }

    pub(super) fn words(&mut self, place: PixelRect, lines: &[String], size: f32) {
        let x = place.x as f32 + place.width as f32 / 2.0;
        let block = lines.len() as f32 * size * LINE;
        let mut y = place.y as f32 + (place.height as f32 - block) / 2.0 + size * 1.05;
        for line in lines {
            self.text(x, y, size, false, INK, "middle", 0.0, line);
            y += size * LINE;
        }
    }
}
