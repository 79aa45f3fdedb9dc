//! Pictures made larger: by an upscaler or by resampling, and drawn over in tiles.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use candle_core::Device;
use image::{DynamicImage, Rgb, RgbImage, RgbaImage, imageops};

use super::{Sink, outer, refuse, rgb};
use crate::pipeline::painter::{
    Brief, Capabilities, GivenControl, Hashes, PaintedPicture, Painter,
};
use crate::pipeline::record::record;
use crate::pipeline::{Description, Output, PipelineError, Progress, Request};
use crate::resample::{Filter, resize};
use crate::story::{Settings, Size, Upscale};
use crate::upscale::Upscaler;

/// Longest side of a picture, in pixels.
const MOST: u32 = 16_384;
/// Most by which a picture is enlarged.
const MOST_SCALE: f32 = 8.0;
/// The share of a tile, one in so many, that the next one covers as well.
const OVERLAP: u32 = 8;
/// Longest side of a preview, in pixels.
const PREVIEW: u32 = 128;

/// Whether these settings ask for a larger picture that is not drawn over, for which no painter is
/// needed.
pub(crate) fn needs_no_painter(settings: &Settings) -> bool {
    let strength = settings.init.as_ref().map_or(0.0, |init| init.strength);
    settings.upscale.is_some() && strength <= 0.0
}

/// The larger picture of a request that [`needs_no_painter`]; `None` is cancelled.
///
/// # Errors
/// As [`complete`], or an upscaler that can't be read.
pub(crate) fn enlarged(
    description: &Description,
    device: &Device,
    request: &Request,
    sink: &mut Sink,
) -> Result<Option<Output>, PipelineError> {
    let started = Instant::now();
    let (settings, usual) = (&request.settings, description.takes.size);
    let prompt = request.prompt.clone().unwrap_or_default();
    let brief = Brief::new(prompt, request.negative(), settings, &request.images, usual)?;
    let brief = checked(brief)?;
    let Some(large) = larger(&brief, device, sink)? else {
        return Ok(None);
    };
    let mut record = record(description, request, brief.prompt.clone(), started);
    brief.write_into(&mut record);
    record.text.clone_from(&request.text);
    Ok(Some(Output {
        picture: Some((opaque(large), record)),
        ..Output::default()
    }))
}

/// As [`super::complete`].
pub(super) fn complete(
    painter: &mut dyn Painter,
    brief: Brief,
    chosen: Option<Size>,
) -> Result<Brief, PipelineError> {
    let brief = checked(brief)?;
    let (picture, strength) = begun(&brief)?;
    if strength <= 0.0 {
        return Ok(brief);
    }
    let tiles = Tiles::of(sides(picture, &brief), chosen, &painter.describe().takes);
    // The first tile stands for all: they are of one size.
    let picture = RgbImage::new(tiles.drawn.width, tiles.drawn.height);
    let filled = painter.complete(tiles.brief(&brief, picture, 0, strength))?;
    Ok(outer(brief, filled))
}

/// As [`super::draw`].
pub(super) fn draw(
    painter: &mut dyn Painter,
    brief: &Brief,
    chosen: Option<Size>,
    sink: &mut Sink,
) -> Result<Option<PaintedPicture>, PipelineError> {
    let (_, strength) = begun(brief)?;
    let Some(large) = larger(brief, &painter.computes_on(), sink)? else {
        return Ok(None);
    };
    if strength <= 0.0 {
        return Ok(Some(opaque(large).into()));
    }
    let tiles = Tiles::of(large.dimensions(), chosen, &painter.describe().takes);
    let mut sum = Sum::new(large.dimensions());
    let (mut graph, mut by) = (None, None);
    let count = tiles.places.len() as u32;
    for (number, &(x, y)) in tiles.places.iter().enumerate() {
        let (wide, high) = tiles.cut;
        let cut = imageops::crop_imm(&large, x, y, wide, high).to_image();
        let Size { width, height } = tiles.drawn;
        let fitting = resize(&cut, width, height, Filter::Lanczos);
        let one = tiles.brief(brief, fitting, number, strength);
        let mut within = |progress| {
            sink(match progress {
                Progress::Step {
                    step,
                    steps,
                    preview,
                } => Progress::Step {
                    step: number as u32 * steps + step,
                    steps: count * steps,
                    preview,
                },
                other => other,
            })
        };
        let Some(drawn) = painter.draw(&one, &mut within)? else {
            return Ok(None);
        };
        graph = drawn.graph.or(graph);
        by = drawn.by.or(by);
        let drawn = resize(&rgb(&drawn.picture), wide, high, Filter::Lanczos);
        sum.add(&drawn, (x, y), tiles.overlap);
    }
    Ok(Some(PaintedPicture {
        picture: opaque(sum.picture()),
        graph,
        by,
    }))
}

/// The brief with the upscaler's hash, where its settings go together.
fn checked(mut brief: Brief) -> Result<Brief, PipelineError> {
    let (picture, _) = begun(&brief)?;
    if brief.mask.is_some() || brief.region.is_some() || brief.outpaint.is_some() {
        return refuse(
            "a picture is made larger as a whole; leave mask and margins out, or do the one after the other",
        );
    }
    let scale = brief.upscale.as_ref().map_or(1.0, |upscale| upscale.scale);
    if !(scale > 1.0 && scale <= MOST_SCALE) {
        return Err(PipelineError::Request(format!(
            "a picture can't be made {scale} times as large; choose more than 1 and at most {MOST_SCALE} times"
        )));
    }
    let (width, height) = sides(picture, &brief);
    if width > MOST || height > MOST {
        return Err(PipelineError::Request(format!(
            "a picture of {width}x{height} pixels is larger than {MOST} pixels a side; enlarge it less"
        )));
    }
    if let Some(file) = brief
        .upscale
        .as_mut()
        .and_then(|upscale| upscale.file.as_mut())
    {
        Hashes::default().fill("upscaler", &file.file, &mut file.hash)?;
    }
    Ok(brief)
}

/// The picture that is begun from, and how much of it is drawn anew.
fn begun(brief: &Brief) -> Result<(&RgbaImage, f32), PipelineError> {
    match &brief.init {
        Some((picture, strength)) => Ok((picture, *strength)),
        None => refuse("there is no picture to make larger; say which one to begin from"),
    }
}

/// Width and height of the larger picture.
fn sides(picture: &RgbaImage, brief: &Brief) -> (u32, u32) {
    let scale = brief.upscale.as_ref().map_or(1.0, |upscale| upscale.scale);
    let side = |side: u32| (f64::from(side) * f64::from(scale)).round().max(1.0) as u32;
    (side(picture.width()), side(picture.height()))
}

/// The picture of a brief in its larger size, before anything is drawn over it.
fn larger(
    brief: &Brief,
    device: &Device,
    sink: &mut Sink,
) -> Result<Option<RgbImage>, PipelineError> {
    let (picture, _) = begun(brief)?;
    let (width, height) = sides(picture, brief);
    let picture = rgb(picture);
    let file = brief
        .upscale
        .as_ref()
        .and_then(|Upscale { file, .. }| file.as_ref());
    let grown = match file {
        Some(file) => {
            let upscaler = Upscaler::open(Path::new(&file.file), device)?;
            let preview = Arc::new(small(&picture));
            let mut each = |step, steps| {
                sink(Progress::Step {
                    step,
                    steps,
                    preview: preview.clone(),
                })
            };
            let Some(grown) = upscaler.enlarge(&picture, &mut each)? else {
                return Ok(None);
            };
            grown
        }
        None => picture,
    };
    Ok(Some(resize(&grown, width, height, Filter::Lanczos)))
}

fn small(picture: &RgbImage) -> RgbaImage {
    let (width, height) = picture.dimensions();
    let share = f64::from(PREVIEW) / f64::from(width.max(height).max(PREVIEW));
    let to = |side: u32| ((f64::from(side) * share) as u32).max(1);
    opaque(imageops::thumbnail(picture, to(width), to(height)))
}

fn opaque(picture: RgbImage) -> RgbaImage {
    DynamicImage::ImageRgb8(picture).to_rgba8()
}

/// Tiles of one size that cover a picture, each over the edge of the one before.
struct Tiles {
    /// Left and top of each, in rows.
    places: Vec<(u32, u32)>,
    /// Width and height of what is cut out, and the size at which it is drawn.
    cut: (u32, u32),
    drawn: Size,
    /// The least that two share.
    overlap: u32,
    whole: (u32, u32),
}

impl Tiles {
    fn of(whole: (u32, u32), chosen: Option<Size>, takes: &Capabilities) -> Tiles {
        let best = takes.sizes.as_ref().map(|range| range.in_shape(1, 1));
        let drawn = chosen.or(best).unwrap_or(takes.size);
        let cut = (drawn.width.min(whole.0), drawn.height.min(whole.1));
        let overlap = (cut.0.min(cut.1) / OVERLAP).max(1);
        let columns = along(whole.0, cut.0, overlap);
        let rows = along(whole.1, cut.1, overlap);
        let row = |y: &u32| columns.iter().map(|&x| (x, *y)).collect::<Vec<_>>();
        Tiles {
            places: rows.iter().flat_map(row).collect(),
            cut,
            drawn,
            overlap,
            whole,
        }
    }

    /// What is drawn over tile `number`, which shows `picture`: each from noise of its own.
    fn brief(&self, brief: &Brief, picture: RgbImage, number: usize, strength: f32) -> Brief {
        let (x, y) = self.places[number];
        let control = brief.control.iter().map(|given| {
            // A picture to follow may have another size than the one that is drawn over.
            let (w, h) = given.picture.dimensions();
            let at = |at: u32, of: u32, whole: u32| {
                (u64::from(at) * u64::from(of) / u64::from(whole)) as u32
            };
            let left = at(x, w, self.whole.0);
            let top = at(y, h, self.whole.1);
            let wide = at(self.cut.0, w, self.whole.0).max(1);
            let high = at(self.cut.1, h, self.whole.1).max(1);
            let cut = imageops::crop_imm(given.picture.as_ref(), left, top, wide, high);
            GivenControl {
                picture: Arc::new(cut.to_image()),
                ..given.clone()
            }
        });
        Brief {
            size: self.drawn,
            seed: brief.seed.wrapping_add(number as u64),
            init: Some((Arc::new(opaque(picture)), strength)),
            control: control.collect(),
            upscale: None,
            ..brief.clone()
        }
    }
}

/// Where pieces of `length` begin that cover `whole`, evenly, each over at least so much of the
/// one before.
fn along(whole: u32, length: u32, overlap: u32) -> Vec<u32> {
    if length >= whole {
        return vec![0];
    }
    let step = (length - overlap.min(length - 1)).max(1);
    let count = (whole - length).div_ceil(step) + 1;
    let last = u64::from(whole - length);
    (0..count)
        .map(|i| (u64::from(i) * last / u64::from(count - 1)) as u32)
        .collect()
}

/// Tiles laid over one another, each fading at its edges.
struct Sum {
    width: u32,
    height: u32,
    /// Colours times weight, and weight.
    values: Vec<[f32; 4]>,
}

impl Sum {
    fn new((width, height): (u32, u32)) -> Sum {
        Sum {
            width,
            height,
            values: vec![[0.0; 4]; width as usize * height as usize],
        }
    }

    fn add(&mut self, tile: &RgbImage, (left, top): (u32, u32), overlap: u32) {
        let (wide, high) = tile.dimensions();
        let fade = |at: u32, length: u32| {
            let edge = (at + 1).min(length - at).min(overlap);
            edge as f32 / overlap as f32
        };
        for (x, y, pixel) in tile.enumerate_pixels() {
            let weight = fade(x, wide) * fade(y, high);
            let place = (top + y) as usize * self.width as usize + (left + x) as usize;
            let sum = &mut self.values[place];
            for (sum, byte) in sum.iter_mut().zip(pixel.0) {
                *sum += weight * f32::from(byte);
            }
            sum[3] += weight;
        }
    }

    fn picture(&self) -> RgbImage {
        RgbImage::from_fn(self.width, self.height, |x, y| {
            let place = y as usize * self.width as usize + x as usize;
            let [r, g, b, weight] = self.values[place];
            Rgb([r, g, b].map(|colour| (colour / weight).round() as u8))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::pipeline::painter::{PainterDescription, SizeRange};
    use crate::story::FileUse;

    /// Gives back what it begins from, and remembers what it was asked.
    struct Mirror(PainterDescription, Vec<Brief>);

    impl Painter for Mirror {
        fn describe(&self) -> &PainterDescription {
            &self.0
        }

        fn draw(
            &mut self,
            brief: &Brief,
            sink: &mut Sink,
        ) -> Result<Option<PaintedPicture>, PipelineError> {
            self.1.push(brief.clone());
            let (picture, _) = brief.init.as_ref().unwrap();
            let done = Progress::Step {
                step: 2,
                steps: 2,
                preview: picture.clone(),
            };
            let drawn = picture.as_ref().clone();
            Ok(sink(done).is_continue().then(|| drawn.into()))
        }
    }

    fn mirror() -> Mirror {
        let takes = Capabilities {
            init: true,
            sizes: Some(SizeRange {
                step: 8,
                least: 16,
                most: 512,
                budget: 64 * 64,
            }),
            ..Capabilities::default()
        };
        let about = PainterDescription {
            takes,
            ..PainterDescription::default()
        };
        Mirror(about, Vec::new())
    }

    fn brief(strength: f32) -> Brief {
        let picture = RgbaImage::from_fn(60, 40, |x, y| {
            image::Rgba([(4 * x) as u8, (6 * y) as u8, 90, 255])
        });
        Brief {
            seed: 5,
            init: Some((Arc::new(picture), strength)),
            upscale: Some(Upscale {
                scale: 2.5,
                file: None,
            }),
            ..Brief::default()
        }
    }

    #[test]
    fn tiles_cover_the_larger_picture_and_come_together_again() {
        let mut painter = mirror();
        let brief = complete(&mut painter, brief(0.3), None).unwrap();
        let mut steps = Vec::new();
        let drawn = draw(&mut painter, &brief, None, &mut |progress| {
            if let Progress::Step {
                step, steps: of, ..
            } = progress
            {
                steps.push((step, of));
            }
            ControlFlow::Continue(())
        });
        let drawn = drawn.unwrap().unwrap().picture;
        assert_eq!(drawn.dimensions(), (150, 100));
        let plain = larger(&brief, &Device::Cpu, &mut |_| ControlFlow::Continue(())).unwrap();
        let plain = opaque(plain.unwrap());
        for (a, b) in drawn.pixels().zip(plain.pixels()) {
            let near = (0..3).all(|c| a.0[c].abs_diff(b.0[c]) <= 1);
            assert!(near, "{a:?} is not {b:?}");
        }
        let asked = &painter.1;
        assert_eq!((asked.len(), steps[5]), (6, (12, 12)));
        let seeds: Vec<u64> = asked.iter().map(|brief| brief.seed).collect();
        assert_eq!(seeds, [5, 6, 7, 8, 9, 10]);
        assert!(
            asked
                .iter()
                .all(|brief| brief.size.width == 64 && brief.upscale.is_none())
        );
        let stop = &mut |_: Progress| ControlFlow::Break(());
        assert!(draw(&mut painter, &brief, None, stop).unwrap().is_none());
    }

    #[test]
    fn without_strength_nothing_is_drawn() {
        let mut painter = mirror();
        let brief = complete(&mut painter, brief(0.0), None).unwrap();
        let go_on = &mut |_: Progress| ControlFlow::Continue(());
        let drawn = draw(&mut painter, &brief, None, go_on).unwrap().unwrap();
        assert_eq!(drawn.picture.dimensions(), (150, 100));
        assert!(painter.1.is_empty());
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        let said = |change: &dyn Fn(&mut Brief)| {
            let mut brief = brief(0.3);
            change(&mut brief);
            complete(&mut mirror(), brief, None)
                .unwrap_err()
                .to_string()
        };
        assert!(said(&|brief| brief.init = None).contains("no picture to make larger"));
        for scale in [1.0, 9.0, f32::NAN] {
            let file = None;
            let wrong = said(&|brief| {
                brief.upscale = Some(Upscale {
                    scale,
                    file: file.clone(),
                });
            });
            assert!(wrong.contains("at most 8 times"), "{wrong}");
        }
        let gone = said(&|brief| {
            brief.upscale.as_mut().unwrap().file = Some(FileUse {
                file: "/nowhere/x4.pth".into(),
                ..FileUse::default()
            });
        });
        assert!(
            gone.contains("the upscaler /nowhere/x4.pth is not there"),
            "{gone}"
        );
        let mut plain = mirror();
        plain.0.takes.init = false;
        let why = complete(&mut plain, brief(0.3), None)
            .unwrap_err()
            .to_string();
        assert!(why.contains("a picture to begin from"), "{why}");
    }

    #[test]
    fn pieces_cover_a_length_evenly() {
        assert_eq!(along(64, 64, 8), [0]);
        assert_eq!(along(150, 64, 8), [0, 43, 86]);
        assert_eq!(along(100, 64, 8), [0, 36]);
        assert_eq!(along(5, 1, 1).len(), 5);
    }
}
