//! Draws held-out captions and asks the recogniser what it sees.

use std::ops::ControlFlow;
use std::path::Path;

use candle_core::Tensor;
use image::{RgbImage, RgbaImage, buffer::ConvertBuffer};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::EvalError;
use crate::diffusion::{DenoisingOptions, TextToImageModel, to_picture};
use crate::judges::{
    Expected, FaithfulnessReport, FaithfulnessRow, Recogniser, mean_square_error, psnr,
};
use crate::storyworld::{
    MAX_SUBJECTS, Renderer, Scene, SceneOptions, Split, caption_held_out, sheet,
};

/// Guidance scales that are judged.
pub const GUIDANCES: [f32; 5] = [1.0, 1.5, 2.5, 4.0, 7.5];
/// Pictures drawn at once: more would not be faster on a CPU, and take more memory.
const BATCH: usize = 8;
/// Pictures of a grid, and of a row in it.
const GRID: usize = 64;
const GRID_COLUMNS: u32 = 8;

/// Settings of [`judge`].
#[derive(Clone, Debug)]
pub struct FaithfulnessOptions {
    /// Scenes in all; a third each of one, two and three subjects.
    pub samples: usize,
    /// The same seed judges the same scenes.
    pub seed: u64,
    /// Guidance scales that are compared.
    pub guidances: Vec<f32>,
    /// Steps and scheduler; its guidance is replaced by each of `guidances`.
    pub how: DenoisingOptions,
}

struct JudgedPicture {
    scene: Scene,
    caption: String,
    expected: Expected,
}

/// Scenes of held-out combinations, in sentence shapes that training never used.
fn cases(samples: usize, seed: u64) -> Vec<JudgedPicture> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..samples)
        .map(|i| {
            let count = 1 + i % MAX_SUBJECTS;
            let options = SceneOptions {
                subjects: count..=count,
                split: Split::HeldOut,
                ..SceneOptions::default()
            };
            let scene = Scene::random(&mut rng, &options);
            let caption = caption_held_out(&scene, &mut rng);
            JudgedPicture {
                expected: Expected::new(&scene, &caption),
                scene,
                caption,
            }
        })
        .collect()
}

/// Judges real scenes, the autoencoder's round trip and generated pictures. `said` hears what is
/// being done; `grid` is a PNG file for pictures generated at the scale nearest to 2.5, with
/// their captions.
///
/// # Errors
/// Too few samples, settings out of range, or a grid that can't be written.
pub fn judge(
    model: &TextToImageModel,
    recogniser: &Recogniser,
    options: &FaithfulnessOptions,
    grid: Option<&Path>,
    progress: &mut dyn FnMut(&str),
) -> Result<FaithfulnessReport, EvalError> {
    if options.samples < MAX_SUBJECTS {
        return Err(EvalError::TooFew(options.samples));
    }
    let cases = cases(options.samples, options.seed);
    let (size, _) = model.picture_size();
    let mut report = FaithfulnessReport::default();

    progress("real scenes");
    let real = draw(&cases, size);
    report
        .rows
        .push(row("real", None, recogniser, &cases, &real)?);

    progress("the autoencoder's round trip");
    let read_size = (model.unet.config().sample_size * model.vae.config().encoder_scale()) as u32;
    let read = draw(&cases, read_size);
    let back = round_trip(model, &read)?;
    report
        .rows
        .push(row("round trip", None, recogniser, &cases, &back)?);
    if read_size != size {
        let shrunk: Vec<RgbImage> = back
            .iter()
            .map(|p| image::imageops::thumbnail(p, read_size, read_size))
            .collect();
        report.psnr.push((read_size, mean_psnr(&read, &shrunk)));
    }
    report.psnr.push((size, mean_psnr(&real, &back)));

    let shown = options
        .guidances
        .iter()
        .copied()
        .min_by(|a, b| (a - 2.5).abs().total_cmp(&(b - 2.5).abs()));
    for &guidance in &options.guidances {
        let how = DenoisingOptions {
            guidance: f64::from(guidance),
            ..options.how
        };
        let pictures = generate(model, &cases, options.seed, how, progress)?;
        report.rows.push(row(
            "generated",
            Some(guidance),
            recogniser,
            &cases,
            &pictures,
        )?);
        if let Some(path) = grid
            && shown == Some(guidance)
        {
            let cells: Vec<_> = pictures
                .into_iter()
                .zip(cases.iter().map(|c| c.caption.clone()))
                .take(GRID)
                .collect();
            sheet::write_pictures(&cells, GRID_COLUMNS, path)?;
        }
    }
    Ok(report)
}

fn row(
    source: &str,
    guidance: Option<f32>,
    recogniser: &Recogniser,
    cases: &[JudgedPicture],
    pictures: &[RgbImage],
) -> Result<FaithfulnessRow, EvalError> {
    let mut row = FaithfulnessRow {
        source: source.to_owned(),
        guidance,
        ..FaithfulnessRow::default()
    };
    for (case, seen) in cases.iter().zip(recogniser.recognise(pictures)?) {
        let count = case.scene.subjects.len().clamp(1, MAX_SUBJECTS);
        row.by_subjects[count - 1].add(&case.expected, &seen);
    }
    Ok(row)
}

/// The scenes at `size` pixels; the storyworld draws from 64 to 512, so others are resampled.
fn draw(cases: &[JudgedPicture], size: u32) -> Vec<RgbImage> {
    let renderer = Renderer::new(size);
    cases
        .iter()
        .map(|case| {
            let side = renderer.size();
            let mut picture = RgbImage::new(side, side);
            renderer.draw(&case.scene, &mut picture);
            if side == size {
                picture
            } else {
                image::imageops::thumbnail(&picture, size, size)
            }
        })
        .collect()
}

fn round_trip(model: &TextToImageModel, pictures: &[RgbImage]) -> Result<Vec<RgbImage>, EvalError> {
    pictures
        .iter()
        .map(|picture| {
            let (w, h) = picture.dimensions();
            let values: Vec<f32> = picture
                .iter()
                .map(|&v| f32::from(v) / 127.5 - 1.0)
                .collect();
            let x = Tensor::from_vec(values, (1, h as usize, w as usize, 3), model.device())?;
            let z = model.vae.encode(&x)?.mean;
            let back: RgbaImage = to_picture(&model.vae.decode(&z)?)?;
            Ok(back.convert())
        })
        .collect()
}

fn mean_psnr(a: &[RgbImage], b: &[RgbImage]) -> Option<f64> {
    let errors: Vec<f64> = a
        .iter()
        .zip(b)
        .filter_map(|(a, b)| mean_square_error(a, b))
        .collect();
    if errors.is_empty() {
        return None;
    }
    psnr(errors.iter().sum::<f64>() / errors.len() as f64)
}

fn generate(
    model: &TextToImageModel,
    cases: &[JudgedPicture],
    seed: u64,
    how: DenoisingOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Vec<RgbImage>, EvalError> {
    let mut pictures: Vec<RgbImage> = Vec::with_capacity(cases.len());
    for batch in cases.chunks(BATCH) {
        progress(&format!(
            "guidance {}: {} of {} pictures",
            how.guidance,
            pictures.len(),
            cases.len()
        ));
        let texts: Vec<&str> = batch.iter().map(|c| c.caption.as_str()).collect();
        let seeds: Vec<u64> = (0..batch.len())
            .map(|i| seed.wrapping_add((pictures.len() + i) as u64))
            .collect();
        let drawn = model.sample_batch(&texts, &seeds, how, &mut |_| ControlFlow::Continue(()))?;
        pictures.extend(
            drawn
                .unwrap_or_default()
                .iter()
                .map(image::buffer::ConvertBuffer::convert),
        );
    }
    Ok(pictures)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storyworld::held_out;

    #[test]
    fn cases_are_held_out_and_repeat_by_seed() {
        let first = cases(30, 5);
        assert!(first.iter().all(|c| held_out(&c.scene)));
        for (i, case) in first.iter().enumerate() {
            assert_eq!(case.expected.subjects.len(), 1 + i % 3);
            assert!(case.expected.place.is_none_or(|p| p == case.scene.place));
            assert!(case.expected.time.is_none_or(|t| t == case.scene.time));
        }
        let again = cases(30, 5);
        assert!(
            first
                .iter()
                .zip(&again)
                .all(|(a, b)| a.caption == b.caption)
        );
        assert!(
            first
                .iter()
                .zip(cases(30, 6))
                .any(|(a, b)| a.caption != b.caption)
        );
    }
}
