//! A board laid out on pages: pictures in a grid with captions under them.

use std::sync::Arc;

use image::RgbaImage;
use resvg::usvg;

use super::ink::{ACCENT, INK, LINE, MUTED, PixelRect, SvgBuilder};
use super::sheet::{cut, room_for_text};
use super::typeset::Widths;
use crate::story::{Images, Story};

/// A page in points, and how many panels are put on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paper {
    pub width: f32,
    pub height: f32,
    /// 1 to 12.
    pub per_page: usize,
}

/// One page: shapes and texts as SVG, and pictures with left, top, width and height, in points.
pub(super) struct PdfPage {
    pub svg: String,
    pub pictures: Vec<(Arc<RgbaImage>, [f32; 4])>,
}

const MARGIN: f32 = 36.0;
const GAP: f32 = 14.0;
/// Of a caption, from the size it has where there is room to the smallest that can be read.
const LARGEST: f32 = 11.0;
const SMALLEST: f32 = 6.5;
/// Share of a cell's height that its caption takes at most.
const MOST_CAPTION: f32 = 0.45;
/// Share of the largest pictures with which a grid that fills the page better is taken.
const NEARLY: f32 = 0.93;
/// Width to height of a picture where there is none to go by.
const USUAL_SHAPE: f32 = 4.0 / 3.0;

struct Cell<'a> {
    number: usize,
    text: &'a str,
    picture: Option<Arc<RgbaImage>>,
}

/// Text that its cell has no room for: the panel's number and the rest of its lines.
type Overflow = (usize, String);

/// Lays the board out. A text that is too long for its cell goes on after the last panel.
///
/// # Errors
/// When the texts can't be measured.
pub(super) fn lay_out(
    story: &Story,
    images: &Images,
    paper: Paper,
) -> Result<Vec<PdfPage>, usvg::Error> {
    let room = room_for_text(story.panels.len());
    let texts: Vec<_> = story
        .panels
        .iter()
        .map(|panel| cut(&panel.text, room))
        .collect();
    let title = match story.title.trim() {
        "" => "Untitled story".into(),
        title => cut(title, room),
    };
    let style = cut(story.style.trim(), room);
    let mut measured = vec![(&*title, true), (&*style, false)];
    measured.extend(texts.iter().map(|text| (&**text, false)));
    let widths = Widths::measure(&measured)?;
    let cells: Vec<Cell> = (1..)
        .zip(story.panels.iter().zip(&texts))
        .map(|(number, (panel, text))| Cell {
            number,
            text,
            picture: panel.picture().and_then(|take| images.shown(&take.image)),
        })
        .collect();
    let shapes = cells.iter().filter_map(|cell| cell.picture.as_ref());
    let shapes: Vec<f32> = shapes
        .map(|picture| picture.width() as f32 / picture.height().max(1) as f32)
        .collect();
    let shape = match shapes.len() {
        0 => USUAL_SHAPE,
        count => (shapes.iter().sum::<f32>() / count as f32).clamp(0.5, 2.5),
    };
    let mut pages = Vec::new();
    let mut rest = Vec::new();
    let mut chunks = cells.chunks(paper.per_page.max(1));
    let mut next = chunks.next();
    let mut grid = None;
    // A board without panels is a page with its title.
    loop {
        let mut sheet = PageBuilder::new(&widths, paper);
        if pages.is_empty() {
            sheet.head(&title, &style);
        }
        // That of the first page, where the title leaves the least room, so that all are alike.
        let grid = *grid.get_or_insert_with(|| sheet.grid(shape));
        sheet.cells(next.unwrap_or_default(), grid, &mut rest);
        pages.push(sheet.finish(pages.len() + 1));
        next = chunks.next();
        if next.is_none() {
            break;
        }
    }
    for (number, text) in rest {
        let mut lines = widths.wrap(&text, false, LARGEST, paper.width - 2.0 * MARGIN);
        while !lines.is_empty() {
            let mut sheet = PageBuilder::new(&widths, paper);
            let fits = sheet.rest(number, &lines);
            lines.drain(..fits.min(lines.len()));
            pages.push(sheet.finish(pages.len() + 1));
        }
    }
    Ok(pages)
}

/// A page as it is put together, from the top.
struct PageBuilder<'a> {
    widths: &'a Widths,
    paper: Paper,
    ink: SvgBuilder,
    pictures: Vec<(Arc<RgbaImage>, [f32; 4])>,
    y: f32,
}

impl<'a> PageBuilder<'a> {
    fn new(widths: &'a Widths, paper: Paper) -> PageBuilder<'a> {
        PageBuilder {
            widths,
            paper,
            ink: SvgBuilder::default(),
            pictures: Vec::new(),
            y: MARGIN,
        }
    }

    fn inner(&self) -> f32 {
        self.paper.width - 2.0 * MARGIN
    }

    fn line(&mut self, text: &str, size: f32, bold: bool, fill: &str) {
        self.y += size * LINE;
        let (baseline, across) = (self.y - size * 0.3, self.inner());
        self.ink
            .text(MARGIN, baseline, size, bold, fill, "start", across, text);
    }

    /// Title and style line, no more than half a page of them.
    fn head(&mut self, title: &str, style: &str) {
        let most = self.paper.height / 2.0;
        for (text, size, bold, fill) in [(title, 22.0, true, INK), (style, 11.0, false, MUTED)] {
            for line in self.widths.wrap(text, bold, size, self.inner()) {
                if self.y < most {
                    self.line(&line, size, bold, fill);
                }
            }
        }
        self.y += GAP;
    }

    /// The panels of this page in a grid of columns and rows.
    fn cells(&mut self, cells: &[Cell], (columns, rows): (usize, usize), rest: &mut Vec<Overflow>) {
        let height = self.paper.height - MARGIN - self.y;
        let width = (self.inner() - GAP * (columns - 1) as f32) / columns as f32;
        let height = (height - GAP * (rows - 1) as f32) / rows as f32;
        let top = self.y;
        for (at, cell) in cells.iter().enumerate() {
            let x = MARGIN + (at % columns) as f32 * (width + GAP);
            let y = top + (at / columns) as f32 * (height + GAP);
            rest.extend(self.cell(cell, [x, y, width, height]));
        }
    }

    /// Columns and rows for as many panels as a page takes: of those that make pictures about as
    /// large as can be, the one that fills the page downwards.
    fn grid(&self, shape: f32) -> (usize, usize) {
        let height = self.paper.height - MARGIN - self.y;
        let panels = self.paper.per_page.max(1);
        let picture = |columns: usize| {
            let rows = panels.div_ceil(columns);
            let width = (self.inner() - GAP * (columns - 1) as f32) / columns as f32;
            let height = (height - GAP * (rows - 1) as f32) / rows as f32;
            width.min(height * (1.0 - MOST_CAPTION / 2.0) * shape)
        };
        let largest = (1..=panels).map(picture).fold(0.0, f32::max);
        let columns = (1..=panels).find(|&columns| picture(columns) >= largest * NEARLY);
        let columns = columns.unwrap_or(1);
        (columns, panels.div_ceil(columns))
    }

    /// One panel: its picture whole, or its text in the picture's place, and the caption under it.
    fn cell(&mut self, cell: &Cell, [x, y, width, height]: [f32; 4]) -> Option<Overflow> {
        let label = cell.number.to_string();
        let (size, lines) = self.caption(cell, width, height);
        let indent = indent(&label, size);
        let line = size * LINE;
        // The caption, and what is left for the picture above it.
        let room = (height * MOST_CAPTION / line).floor().max(1.0) as usize;
        let room = match cell.picture {
            Some(_) => room,
            None => ((height / line).floor() as usize).saturating_sub(1).max(1),
        };
        let shown = lines.len().min(room);
        let caption = shown.max(1) as f32 * line + 4.0;
        let above = height - caption;
        let mut baseline = y + size * 1.1;
        if let Some(picture) = &cell.picture {
            let (w, h) = (picture.width() as f32, picture.height().max(1) as f32);
            let scale = (width / w).min(above / h);
            let (w, h) = (w * scale, h * scale);
            let left = x + (width - w) / 2.0;
            self.pictures.push((picture.clone(), [left, y, w, h]));
            baseline = y + h + size * 1.3;
        } else {
            let place = PixelRect {
                x: x as u32,
                y: y as u32,
                width: width as u32,
                height: (caption + size).min(height) as u32,
            };
            self.ink.card(place, 4.0);
            baseline += size * 0.4;
        }
        self.ink
            .text(x + 2.0, baseline, size, true, ACCENT, "start", 0.0, &label);
        for text in &lines[..shown] {
            let (left, across) = (x + 2.0 + indent, width - indent - 4.0);
            self.ink
                .text(left, baseline, size, false, INK, "start", across, text);
            baseline += line;
        }
        let more = lines[shown..].join(" ");
        (!more.is_empty()).then_some((cell.number, more))
    }

    /// The largest letters in which the text fits, else the smallest, and its lines.
    fn caption(&self, cell: &Cell, width: f32, height: f32) -> (f32, Vec<String>) {
        let label = cell.number.to_string();
        let share = match cell.picture {
            Some(_) => MOST_CAPTION,
            None => 0.9,
        };
        let mut size = LARGEST;
        loop {
            let across = width - indent(&label, size) - 4.0;
            let lines = self.widths.wrap(cell.text, false, size, across);
            let fits = lines.len() as f32 * size * LINE <= height * share;
            if fits || size <= SMALLEST {
                return (size, lines);
            }
            size -= 0.5;
        }
    }

    /// As many `lines` of panel `number` as the page takes, which is returned.
    fn rest(&mut self, number: usize, lines: &[String]) -> usize {
        self.line(&format!("Panel {number}, continued"), LARGEST, true, ACCENT);
        let room = (self.paper.height - MARGIN - self.y) / (LARGEST * LINE);
        let fits = (room.floor() as usize).max(1);
        for text in lines.iter().take(fits) {
            self.line(text, LARGEST, false, INK);
        }
        fits
    }

    fn finish(mut self, number: usize) -> PdfPage {
        let Paper { width, height, .. } = self.paper;
        let foot = number.to_string();
        let (x, y) = (width - MARGIN, height - MARGIN / 2.0);
        self.ink.text(x, y, 8.0, false, MUTED, "end", 0.0, &foot);
        PdfPage {
            svg: format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\">{}</svg>",
                self.ink.svg
            ),
            pictures: self.pictures,
        }
    }
}

/// How far a caption stands from its number.
fn indent(label: &str, size: f32) -> f32 {
    size * (0.62 * label.len() as f32 + 0.55)
}
