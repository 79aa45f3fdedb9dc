//! The board as pages of a PDF: pictures with their texts under them, which can be selected and
//! searched, in fonts that are part of the file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::RgbaImage;
use krilla::color::rgb;
use krilla::geom::{self, Point};
use krilla::image::Image;
use krilla::metadata::Metadata;
use krilla::num::NormalizedF32;
use krilla::page::PageSettings;
use krilla::paint::Fill;
use krilla::surface::Surface;
use krilla::text::{Font, GlyphId, KrillaGlyph};
use krilla::{Document, SerializeSettings};
use resvg::usvg::{self, fontdb, tiny_skia_path};

use super::exporter::{Destination, Export, ExportOptions, Exporter, OptionSpec};
use super::pages::{Paper, PdfPage, lay_out};
use super::typeset::options as svg_options;
use super::{ExportError, write_file};
use crate::cause::Cause;
use crate::story::{Images, Story};

const PAGE: OptionSpec = OptionSpec {
    id: "page",
    label: "Page",
    help: "Size of a page",
    values: &[("a4", "A4"), ("letter", "Letter"), ("16:9", "16:9")],
};

const ORIENTATION: OptionSpec = OptionSpec {
    id: "orientation",
    label: "Orientation",
    help: "How a page lies",
    values: &[("landscape", "Landscape"), ("portrait", "Portrait")],
};

const PER_PAGE: OptionSpec = OptionSpec {
    id: "per-page",
    label: "Panels a page",
    help: "Panels on a page",
    values: &[
        ("6", "6"),
        ("1", "1"),
        ("2", "2"),
        ("3", "3"),
        ("4", "4"),
        ("5", "5"),
        ("7", "7"),
        ("8", "8"),
        ("9", "9"),
        ("10", "10"),
        ("11", "11"),
        ("12", "12"),
    ],
};

static CHOICES: [OptionSpec; 3] = [PAGE, ORIENTATION, PER_PAGE];

/// Pages of 1 to 12 panels.
pub(super) struct Pdf;

impl Exporter for Pdf {
    fn id(&self) -> &'static str {
        "pdf"
    }

    fn label(&self) -> &'static str {
        "PDF"
    }

    fn place(&self) -> Destination {
        Destination::File {
            ending: "pdf",
            kind: "PDF document",
        }
    }

    fn choices(&self) -> &'static [OptionSpec] {
        &CHOICES
    }

    fn cuts_texts(&self) -> bool {
        true
    }

    fn write(&self, export: &Export, target: &Path) -> Result<PathBuf, ExportError> {
        let paper = paper(export.options);
        let pdf = document(
            export.story,
            export.images,
            paper,
            SerializeSettings::default(),
        )?;
        write_file(target, &pdf)?;
        Ok(target.to_path_buf())
    }
}

/// Sizes in points, 72 of which are an inch.
fn paper(options: &ExportOptions) -> Paper {
    let (long, short) = match options.get(&PAGE) {
        "letter" => (792.0, 612.0),
        "16:9" => (960.0, 540.0),
        _ => (841.89, 595.28),
    };
    let (width, height) = match options.get(&ORIENTATION) {
        "portrait" => (short, long),
        _ => (long, short),
    };
    Paper {
        width,
        height,
        per_page: options.get(&PER_PAGE).parse().unwrap_or(6),
    }
}

fn unmade(why: impl Into<Cause>) -> ExportError {
    ExportError::Pages(why.into())
}

fn document(
    story: &Story,
    images: &Images,
    paper: Paper,
    settings: SerializeSettings,
) -> Result<Vec<u8>, ExportError> {
    let pages = lay_out(story, images, paper).map_err(unmade)?;
    let mut document = Document::new_with(settings);
    let title = story.title.trim();
    if !title.is_empty() {
        document.set_metadata(Metadata::new().title(title.to_string()));
    }
    let mut fonts = Fonts::default();
    for page in &pages {
        let size = PageSettings::from_wh(paper.width, paper.height);
        let size = size.ok_or_else(|| unmade("a page without a size"))?;
        let mut sheet = document.start_page_with(size);
        let mut surface = sheet.surface();
        draw(page, &mut surface, &mut fonts)?;
        surface.finish();
        sheet.finish();
    }
    document
        .finish()
        .map_err(|error| unmade(format!("{error:?}")))
}

fn draw(page: &PdfPage, surface: &mut Surface, fonts: &mut Fonts) -> Result<(), ExportError> {
    let tree = usvg::Tree::from_str(&page.svg, &svg_options(&page.svg)).map_err(unmade)?;
    draw_group(tree.root(), tree.fontdb(), surface, fonts);
    for (picture, [x, y, width, height]) in &page.pictures {
        draw_picture(picture, [*x, *y, *width, *height], surface);
    }
    Ok(())
}

fn draw_group(
    group: &usvg::Group,
    database: &fontdb::Database,
    surface: &mut Surface,
    fonts: &mut Fonts,
) {
    for node in group.children() {
        match node {
            usvg::Node::Group(group) => draw_group(group, database, surface, fonts),
            usvg::Node::Path(path) => draw_path(path, surface),
            usvg::Node::Text(text) => draw_text(text, database, surface, fonts),
            usvg::Node::Image(_) => {}
        }
    }
}

fn fill_of(fill: Option<&usvg::Fill>) -> Option<Fill> {
    match fill?.paint() {
        usvg::Paint::Color(color) => Some(Fill {
            paint: rgb::Color::new(color.red, color.green, color.blue).into(),
            opacity: NormalizedF32::ONE,
            rule: Default::default(),
        }),
        _ => None,
    }
}

fn draw_path(path: &usvg::Path, surface: &mut Surface) {
    use tiny_skia_path::PathSegment;
    let mut builder = geom::PathBuilder::new();
    for segment in path.data().segments() {
        match segment {
            PathSegment::MoveTo(p) => builder.move_to(p.x, p.y),
            PathSegment::LineTo(p) => builder.line_to(p.x, p.y),
            PathSegment::QuadTo(a, p) => builder.quad_to(a.x, a.y, p.x, p.y),
            PathSegment::CubicTo(a, b, p) => builder.cubic_to(a.x, a.y, b.x, b.y, p.x, p.y),
            PathSegment::Close => builder.close(),
        }
    }
    let Some(outline) = builder.finish() else {
        return;
    };
    surface.set_fill(fill_of(path.fill()));
    surface.draw_path(&outline);
}

/// Every glyph where usvg has put it, as text: shaping and fonts for other scripts are usvg's.
fn draw_text(
    text: &usvg::Text,
    database: &fontdb::Database,
    surface: &mut Surface,
    fonts: &mut Fonts,
) {
    for span in text.layouted() {
        let size = span.font_size.get();
        surface.set_fill(fill_of(span.fill.as_ref()));
        for glyph in &span.positioned_glyphs {
            let Some(font) = fonts.get(glyph.font, database) else {
                continue;
            };
            // The transform scales from units of the font, which krilla does by itself.
            let scale = font.units_per_em() / size;
            let at = glyph.transform().pre_scale(scale, scale);
            let at = geom::Transform::from_row(at.sx, at.ky, at.kx, at.sy, at.tx, at.ty);
            surface.push_transform(&at);
            let id = GlyphId::new(glyph.id.0);
            let one = KrillaGlyph::new(id, 0.0, 0.0, 0.0, 0.0, 0..glyph.text.len(), None);
            let start = Point::from_xy(0.0, 0.0);
            surface.draw_glyphs(start, &[one], font, &glyph.text, size, false);
            surface.pop();
        }
    }
}

fn draw_picture(picture: &RgbaImage, [x, y, width, height]: [f32; 4], surface: &mut Surface) {
    let (across, down) = picture.dimensions();
    let Some(size) = geom::Size::from_wh(width, height) else {
        return;
    };
    let image = Image::from_rgba8(picture.as_raw().clone(), across, down);
    surface.push_transform(&geom::Transform::from_translate(x, y));
    surface.draw_image(image, size);
    surface.pop();
}

/// Fonts that the document holds, each once.
#[derive(Default)]
struct Fonts(HashMap<(*const fontdb::Database, fontdb::ID), Option<Font>>);

impl Fonts {
    fn get(&mut self, id: fontdb::ID, database: &fontdb::Database) -> Option<Font> {
        // Databases live as long as the program (`typeset::fonts`), so their places name them.
        let font = self.0.entry((std::ptr::from_ref(database), id));
        let font = font.or_insert_with(|| {
            let read = |data: &[u8], index: u32| {
                let data: Arc<dyn AsRef<[u8]> + Send + Sync> = Arc::new(data.to_vec());
                Font::new(data.into(), index)
            };
            database.with_face_data(id, read).flatten()
        });
        font.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Edit, Panel, PanelId, PictureTake};

    fn board(panels: u64, text: impl Fn(u64) -> String) -> (Story, Images) {
        let images = Images::new();
        let story = Story {
            title: "The lantern".into(),
            panels: (1..=panels)
                .map(|id| Panel::with_text(PanelId(id), text(id)))
                .collect(),
            ..Story::default()
        };
        let mut document = crate::story::Document::new(story);
        for id in (1..=panels).filter(|id| id % 3 != 0) {
            let picture = RgbaImage::from_pixel(30, 20, image::Rgba([id as u8, 90, 9, 255]));
            let edit = Edit::AddPicture {
                panel: PanelId(id),
                take: PictureTake::of(picture, None, &images),
            };
            document.apply(edit).unwrap();
        }
        (document.story().clone(), images)
    }

    fn pdf(story: &Story, images: &Images, options: &ExportOptions) -> String {
        let settings = SerializeSettings {
            compress_content_streams: false,
            pretty: true,
            ..SerializeSettings::default()
        };
        let bytes = document(story, images, paper(options), settings).unwrap();
        assert!(bytes.starts_with(b"%PDF-"));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn chosen(values: &[(&str, &str)]) -> ExportOptions {
        let mut options = ExportOptions::default();
        for (id, value) in values {
            options.set(&Pdf, id, value).unwrap();
        }
        options
    }

    fn pages(pdf: &str) -> usize {
        pdf.matches("/Type /Page\n").count()
    }

    #[test]
    fn a_board_of_a_hundred_panels_fills_its_pages_on_every_paper() {
        let (story, images) = board(100, |id| format!("Panel number {id} says something."));
        for page in ["a4", "letter", "16:9"] {
            for orientation in ["landscape", "portrait"] {
                let options = chosen(&[
                    ("page", page),
                    ("orientation", orientation),
                    ("per-page", "12"),
                ]);
                let made = pdf(&story, &images, &options);
                assert_eq!(pages(&made), 9, "{page} {orientation}");
            }
        }
        let options = chosen(&[("per-page", "1")]);
        assert_eq!(pages(&pdf(&story, &images, &options)), 100);
    }

    #[test]
    fn letters_are_text_in_fonts_that_are_embedded() {
        let (story, images) = board(2, |_| "A fox, d\u{e9}j\u{e0} vu".into());
        let made = pdf(&story, &images, &ExportOptions::default());
        assert!(made.contains("/ToUnicode"));
        assert!(made.contains("/FontFile2") || made.contains("/FontFile3"));
        assert!(made.contains("Nunito"));
        // The map from glyphs to letters names them all.
        for letter in "foxdjvu\u{e9}\u{e0}".chars() {
            let code = format!("<{:04X}>", u32::from(letter));
            let lower = code.to_lowercase();
            assert!(made.contains(&code) || made.contains(&lower), "{letter}");
        }
    }

    #[test]
    fn what_does_not_fit_under_its_picture_goes_on_after_the_last_page() {
        let long = "The fox told the owl a very long story about the sea. ".repeat(35);
        let (story, images) = board(12, |_| long.clone());
        let made = pdf(&story, &images, &chosen(&[("per-page", "12")]));
        assert!(pages(&made) > 1);
    }

    #[test]
    fn the_same_board_gives_the_same_bytes() {
        let (story, images) = board(4, |id| format!("Panel {id}"));
        let once = pdf(&story, &images, &ExportOptions::default());
        assert_eq!(once, pdf(&story, &images, &ExportOptions::default()));
        let empty = pdf(&Story::default(), &images, &ExportOptions::default());
        assert_eq!(pages(&empty), 1);
    }
}
