//! Contact sheets: pictures in a grid, each with its caption below.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use image::RgbImage;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use resvg::{tiny_skia, usvg};

use super::caption::caption;
use super::render::Renderer;
use super::scene::{Scene, SceneOptions};
use super::tale::Tale;
use crate::files::write_beside;

const NUNITO: &[u8] = include_bytes!("../../assets/fonts/Nunito-Regular.ttf");

const MARGIN: u32 = 16;
const FONT: f32 = 15.0;
const LINE: f32 = 19.0;
const LINES: usize = 5;

/// Why a sheet could not be written.
#[derive(Debug, thiserror::Error)]
pub enum SheetError {
    /// A file cannot be written.
    #[error(
        "cannot write {path}: {source}; choose a file in a folder that exists and can be written to"
    )]
    Write {
        /// The file.
        path: String,
        /// Why the system refused.
        source: std::io::Error,
    },
    /// The sheet cannot be encoded.
    #[error("cannot encode the sheet as PNG: {0}")]
    Encode(#[from] image::ImageError),
}

/// Draws 24 scenes by `seed`, eight each of one, two and three subjects, and writes them to
/// `path` as PNG.
pub fn write_sheet(seed: u64, path: &Path) -> Result<(), SheetError> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let cells: Vec<_> = (0..24)
        .map(|i| {
            let count = 1 + i / 8;
            let scene = Scene::random(
                &mut rng,
                &SceneOptions {
                    subjects: count..=count,
                    ..SceneOptions::default()
                },
            );
            let text = caption(&scene, &mut rng);
            (scene, text)
        })
        .collect();
    write(&cells, 6, 192, path)
}

/// Draws the story of `seed`, three panels to a row, and writes it to `path` as PNG.
pub fn write_story(seed: u64, path: &Path) -> Result<(), SheetError> {
    write(&Tale::random(seed).panels, 3, 300, path)
}

/// Writes scenes with their sentences, `columns` to a row, pictures `size` pixels wide. The file
/// is written beside `path` and renamed into place.
pub fn write(
    cells: &[(Scene, String)],
    columns: u32,
    size: u32,
    path: &Path,
) -> Result<(), SheetError> {
    let renderer = Renderer::new(size);
    let cells: Vec<_> = cells
        .iter()
        .map(|(scene, text)| {
            let mut picture = RgbImage::new(renderer.size(), renderer.size());
            renderer.draw(scene, &mut picture);
            (picture, text.clone())
        })
        .collect();
    write_pictures(&cells, columns, path)
}

/// Writes square pictures of one size with their sentences, `columns` to a row. The file is
/// written beside `path` and renamed into place.
pub fn write_pictures(
    cells: &[(RgbImage, String)],
    columns: u32,
    path: &Path,
) -> Result<(), SheetError> {
    let size = cells.first().map_or(0, |(picture, _)| picture.width());
    let columns = columns.clamp(1, cells.len().max(1) as u32);
    let rows = (cells.len() as u32).div_ceil(columns);
    let text_height = (LINE * LINES as f32) as u32 + 8;
    let (step_x, step_y) = (size + MARGIN, size + text_height);
    let (width, height) = (MARGIN + columns * step_x, MARGIN + rows * step_y);

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\"><rect width=\"100%\" height=\"100%\" fill=\"#fffdf8\"/>"
    );
    let origin = |i: usize| {
        (
            MARGIN + i as u32 % columns * step_x,
            MARGIN + i as u32 / columns * step_y,
        )
    };
    for (i, (_, text)) in cells.iter().enumerate() {
        let (x, y) = origin(i);
        for (line, words) in wrap(text, (size as f32 / (FONT * 0.5)) as usize)
            .iter()
            .take(LINES)
            .enumerate()
        {
            let words = words.replace('&', "&amp;").replace('<', "&lt;");
            let y = (y + size) as f32 + LINE * (line + 1) as f32;
            let _ = write!(
                svg,
                "<text x=\"{x}\" y=\"{y}\" font-family=\"Nunito\" font-size=\"{FONT}\" fill=\"#2b2a33\">{words}</text>"
            );
        }
    }
    svg.push_str("</svg>");

    let mut options = usvg::Options::default();
    Arc::make_mut(&mut options.fontdb).load_font_data(NUNITO.to_vec());
    // Built from escaped text above, and never empty.
    let tree = usvg::Tree::from_str(&svg, &options).expect("the sheet's SVG is well formed");
    let mut pixmap = tiny_skia::Pixmap::new(width, height).expect("the sheet has a size");
    resvg::render(&tree, tiny_skia::Transform::default(), &mut pixmap.as_mut());
    // The paper is opaque, so premultiplied equals plain.
    let mut sheet: Vec<u8> = pixmap
        .data()
        .chunks_exact(4)
        .flat_map(|p| [p[0], p[1], p[2]])
        .collect();

    let side = size as usize * 3;
    for (i, (picture, _)) in cells.iter().enumerate() {
        let (x, y) = origin(i);
        for (row, line) in picture.chunks_exact(side).take(size as usize).enumerate() {
            let at = ((y as usize + row) * width as usize + x as usize) * 3;
            sheet[at..at + side].copy_from_slice(line);
        }
    }
    save(&sheet, width, height, path)
}

fn save(rgb: &[u8], width: u32, height: u32, path: &Path) -> Result<(), SheetError> {
    let failed = |source| SheetError::Write {
        path: path.display().to_string(),
        source,
    };
    let mut png = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut png);
    image::ImageEncoder::write_image(encoder, rgb, width, height, image::ExtendedColorType::Rgb8)?;
    write_beside(path, |file| file.write_all(&png)).map_err(failed)
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
