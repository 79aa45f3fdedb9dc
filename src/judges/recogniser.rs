//! A small convolutional net that says what a picture shows: a map of where each subject's centre
//! is (CenterNet, arXiv 1904.07850), so that duplicates and sides can be counted, and one class
//! each for place, time and weather. About 70 MFLOP a picture.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{D, DType, Device, Tensor};
use image::RgbImage;
use image::imageops::{self, FilterType};
use serde::{Deserialize, Serialize};

use super::metrics::{Observation, Sighting};
use super::{JudgeError, write_file};
use crate::cause::Cause;
use crate::nn::{Conv2d, ConvOptions, GroupNorm, Linear, Padding, Params, Result as TensorResult};
use crate::storyworld::{Place, SUBJECTS, SubjectId, Time, Weather};

/// Pictures are judged at this many pixels a side.
pub const SIZE: usize = 128;
/// Pixels per cell of the map, along one side.
pub(crate) const CELL: usize = 16;
/// Cells of the map, along one side.
pub(crate) const CELLS: usize = SIZE / CELL;
const EPS: f64 = 1e-5;
/// A centre begins as unlikely as it is: the share of cells that hold one.
const RARE: f64 = -4.6;

/// The recogniser's `config.json`, beside its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecogniserConfig {
    /// Channels of the four halving convolutions.
    pub channels: [usize; 4],
    /// Groups of group norm.
    pub norm_groups: usize,
    /// Least confidence of a sighting.
    pub threshold: f32,
    /// Names of the classes of subjects: it judges only the cast that it has learnt.
    pub subjects: Vec<String>,
}

impl Default for RecogniserConfig {
    fn default() -> Self {
        Self {
            channels: [16, 32, 64, 128],
            norm_groups: 8,
            threshold: 0.4,
            subjects: names(),
        }
    }
}

fn names() -> Vec<String> {
    SubjectId::all().map(|s| s.name().to_owned()).collect()
}

struct Layer {
    conv: Conv2d,
    norm: GroupNorm,
}

impl Layer {
    fn new(p: Params, cin: usize, cout: usize, stride: usize, groups: usize) -> TensorResult<Self> {
        let options = ConvOptions {
            stride,
            padding: Padding::Zeros(1),
            upsample: false,
        };
        Ok(Self {
            conv: p.pp("conv").conv2d(cin, cout, 3, options)?,
            norm: p.pp("norm").group_norm(groups, cout, EPS)?,
        })
    }

    fn forward(&self, x: &Tensor) -> TensorResult<Tensor> {
        self.norm.forward_silu(&self.conv.forward(x)?)
    }
}

/// Scores before sigmoid and softmax.
pub(crate) struct Scores {
    /// `[B,8,8,subjects]`
    pub centres: Tensor,
    /// `[B,12]`
    pub place: Tensor,
    /// `[B,3]`
    pub time: Tensor,
    /// `[B,3]`
    pub weather: Tensor,
}

/// The convolutions: a picture becomes a map of 8 x 8 cells.
pub(crate) struct Trunk {
    down: Vec<Layer>,
    wide: Vec<Layer>,
}

impl Trunk {
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub(crate) fn new(channels: &[usize; 4], groups: usize, p: &Params) -> TensorResult<Self> {
        let mut cin = 3;
        let mut down = Vec::new();
        for (i, &cout) in channels.iter().enumerate() {
            down.push(Layer::new(p.pp("down").pp(i), cin, cout, 2, groups)?);
            cin = cout;
        }
        let wide = (0..2)
            .map(|i| Layer::new(p.pp("wide").pp(i), cin, cin, 1, groups))
            .collect::<TensorResult<_>>()?;
        Ok(Self { down, wide })
    }

    /// `x [B,128,128,3]` in -1..1 becomes `[B,8,8,C]`.
    pub(crate) fn forward(&self, x: &Tensor) -> TensorResult<Tensor> {
        let mut h = x.clone();
        for layer in &self.down {
            h = layer.forward(&h)?;
        }
        for layer in &self.wide {
            h = (&h + layer.forward(&h)?)?;
        }
        Ok(h)
    }
}

/// The recogniser: subjects with their centres, place, time of day and weather of a picture.
pub struct Recogniser {
    config: RecogniserConfig,
    trunk: Trunk,
    centres: Linear,
    rare: Tensor,
    place: Linear,
    time: Linear,
    weather: Linear,
    device: Device,
}

impl Recogniser {
    /// # Errors
    /// A tensor that is missing or has another shape than `config` says.
    pub fn new(config: RecogniserConfig, p: Params) -> TensorResult<Self> {
        let cin = config.channels[3];
        Ok(Self {
            trunk: Trunk::new(&config.channels, config.norm_groups, &p)?,
            centres: p.pp("centres").linear(cin, SUBJECTS, true)?,
            rare: Tensor::full(RARE as f32, (), p.device())?,
            place: p.pp("place").linear(cin, Place::COUNT, true)?,
            time: p.pp("time").linear(cin, Time::COUNT, true)?,
            weather: p.pp("weather").linear(cin, Weather::COUNT, true)?,
            device: p.device().clone(),
            config,
        })
    }

    /// Reads `config.json` and `model.safetensors` of a folder.
    ///
    /// # Errors
    /// A file that is missing or damaged, or a recogniser of another cast.
    pub fn load(dir: &Path, device: &Device) -> Result<Self, JudgeError> {
        let path = dir.join("config.json");
        let bad = |path: &Path, why: Cause| JudgeError::Recogniser {
            path: path.to_owned(),
            why,
        };
        let text = crate::files::read_text(&path).map_err(|e| bad(&path, e.into()))?;
        let config: RecogniserConfig =
            serde_json::from_str(&text).map_err(|e| bad(&path, e.into()))?;
        if config.subjects != names() {
            return Err(bad(&path, "it has learnt another cast".into()));
        }
        let path = dir.join("model.safetensors");
        let params = Params::from_safetensors(std::slice::from_ref(&path), device)
            .map_err(|e| bad(&path, e.into()))?;
        Self::new(config, params).map_err(|e| bad(&path, e.into()))
    }

    /// Writes the folder that [`Recogniser::load`] reads; `tensors` are in the file layout.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub fn save(
        dir: &Path,
        config: &RecogniserConfig,
        tensors: &HashMap<String, Tensor>,
    ) -> Result<(), JudgeError> {
        let path: PathBuf = dir.join("model.safetensors");
        let bytes = safetensors::serialize(tensors, None).map_err(|e| JudgeError::Write {
            path: path.clone(),
            why: e.into(),
        })?;
        let text = serde_json::to_string_pretty(config).map_err(|e| JudgeError::Write {
            path: dir.join("config.json"),
            why: e.into(),
        })?;
        write_file(&path, &bytes)?;
        write_file(&dir.join("config.json"), format!("{text}\n").as_bytes())
    }

    /// `x [B,128,128,3]` in -1..1.
    pub(crate) fn forward(&self, x: &Tensor) -> TensorResult<Scores> {
        let h = self.trunk.forward(x)?;
        let pooled = h.mean(1)?.mean(1)?;
        Ok(Scores {
            centres: self.centres.forward(&h)?.broadcast_add(&self.rare)?,
            place: self.place.forward(&pooled)?,
            time: self.time.forward(&pooled)?,
            weather: self.weather.forward(&pooled)?,
        })
    }

    /// The pooled features of each picture, as many as the last of `channels`: what place, time
    /// and weather are read from, and what the Fréchet distance compares.
    pub fn features(&self, pictures: &[RgbImage]) -> Result<Vec<Vec<f32>>, JudgeError> {
        let mut all = Vec::with_capacity(pictures.len());
        for batch in pictures.chunks(32) {
            let h = self.trunk.forward(&inputs(batch, &self.device)?)?;
            all.extend(h.mean(1)?.mean(1)?.to_vec2()?);
        }
        Ok(all)
    }

    /// Subjects, place, time and weather of each picture. Pictures of other sizes are resampled to
    /// 128 x 128.
    pub fn recognise(&self, pictures: &[RgbImage]) -> Result<Vec<Observation>, JudgeError> {
        let mut all = Vec::with_capacity(pictures.len());
        for batch in pictures.chunks(32) {
            let scores = self.forward(&inputs(batch, &self.device)?)?;
            let centres = centre_probability(&scores.centres)?.to_dtype(DType::F32)?;
            let places = classes(&scores.place)?;
            let times = classes(&scores.time)?;
            let weathers = classes(&scores.weather)?;
            for i in 0..batch.len() {
                let map = centres.get(i)?.flatten_all()?.to_vec1::<f32>()?;
                all.push(Observation {
                    subjects: sightings(&map, self.config.threshold),
                    place: Place::ALL[places[i]],
                    time: Time::ALL[times[i]],
                    weather: Weather::ALL[weathers[i]],
                });
            }
        }
        Ok(all)
    }
}

/// Sigmoid by way of tanh, whose gradient stays finite everywhere.
pub(crate) fn centre_probability(scores: &Tensor) -> TensorResult<Tensor> {
    ((scores * 0.5)?.tanh()? + 1.0)? * 0.5
}

fn classes(scores: &Tensor) -> TensorResult<Vec<usize>> {
    let best = scores.argmax(D::Minus1)?.to_vec1::<u32>()?;
    Ok(best.into_iter().map(|c| c as usize).collect())
}

/// Pictures as `[B,128,128,3]`.
pub(crate) fn inputs(pictures: &[RgbImage], device: &Device) -> TensorResult<Tensor> {
    let values: Vec<f32> = pictures.iter().flat_map(input).collect();
    Tensor::from_vec(values, (pictures.len(), SIZE, SIZE, 3), device)
}

/// A picture's values in -1..1 at the judge's size.
fn input(picture: &RgbImage) -> Vec<f32> {
    let side = SIZE as u32;
    let (w, h) = picture.dimensions();
    let signed = |p: &RgbImage| p.iter().map(|&v| f32::from(v) / 127.5 - 1.0).collect();
    match (w, h) {
        (SIZE_U32, SIZE_U32) => signed(picture),
        _ if w >= side && h >= side => signed(&imageops::thumbnail(picture, side, side)),
        _ => signed(&imageops::resize(picture, side, side, FilterType::Triangle)),
    }
}

const SIZE_U32: u32 = SIZE as u32;

/// Peaks of a map `[8,8,subjects]` of probabilities. Of peaks in neighbouring cells only the
/// surest counts: subjects stand at least two and a half cells apart.
fn sightings(map: &[f32], threshold: f32) -> Vec<Sighting> {
    let mut peaks: Vec<(f32, usize, usize, SubjectId)> = Vec::new();
    for (cell, values) in map.chunks_exact(SUBJECTS).enumerate() {
        for (subject, &confidence) in SubjectId::all().zip(values) {
            if confidence >= threshold {
                peaks.push((confidence, cell % CELLS, cell / CELLS, subject));
            }
        }
    }
    peaks.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut kept: Vec<(f32, usize, usize, SubjectId)> = Vec::new();
    for peak in peaks {
        if kept
            .iter()
            .all(|k| k.1.abs_diff(peak.1) > 1 || k.2.abs_diff(peak.2) > 1)
        {
            kept.push(peak);
        }
    }
    let at = |cell: usize| (cell as f32 + 0.5) / CELLS as f32;
    kept.iter()
        .map(|&(confidence, x, y, subject)| Sighting {
            subject,
            x: at(x),
            y: at(y),
            confidence,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(peaks: &[(usize, usize, usize, f32)]) -> Vec<f32> {
        let mut map = vec![0.01; CELLS * CELLS * SUBJECTS];
        for &(x, y, subject, value) in peaks {
            map[(y * CELLS + x) * SUBJECTS + subject] = value;
        }
        map
    }

    #[test]
    fn twins_are_two_sightings_and_neighbouring_cells_are_one() {
        let seen = sightings(
            &map(&[
                (1, 5, 7, 0.9),
                (2, 5, 7, 0.6),
                (6, 5, 7, 0.8),
                (4, 1, 3, 0.3),
            ]),
            0.4,
        );
        let cells: Vec<_> = seen.iter().map(|s| (s.subject.index(), s.x, s.y)).collect();
        assert_eq!(
            cells,
            [(7, 1.5 / 8.0, 5.5 / 8.0), (7, 6.5 / 8.0, 5.5 / 8.0)]
        );
    }

    #[test]
    fn one_figure_is_the_likelier_of_two_kinds() {
        let seen = sightings(&map(&[(3, 5, 1, 0.6), (3, 5, 2, 0.7), (4, 4, 1, 0.5)]), 0.4);
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].subject.index(), 2);
    }

    #[test]
    fn a_saved_recogniser_sees_the_same_and_damage_is_one_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let params = Params::init(3, &Device::Cpu);
        let config = RecogniserConfig {
            threshold: 0.001,
            ..Default::default()
        };
        let net = Recogniser::new(config.clone(), params.clone()).unwrap();
        Recogniser::save(dir.path(), &config, &params.to_file_layout(None).unwrap()).unwrap();
        let again = Recogniser::load(dir.path(), &Device::Cpu).unwrap();
        let picture = RgbImage::from_fn(256, 256, |x, y| image::Rgb([x as u8, y as u8, 90]));
        let seen = net.recognise(std::slice::from_ref(&picture)).unwrap();
        assert!(!seen[0].subjects.is_empty());
        assert_eq!(seen, again.recognise(&[picture]).unwrap());

        let path = dir.path().join("config.json");
        let other = std::fs::read_to_string(&path)
            .unwrap()
            .replace("fox", "yak");
        std::fs::write(&path, other).unwrap();
        let error = Recogniser::load(dir.path(), &Device::Cpu).err().unwrap();
        assert!(error.to_string().contains("another cast"), "{error}");
        std::fs::remove_file(&path).unwrap();
        let error = Recogniser::load(dir.path(), &Device::Cpu).err().unwrap();
        assert!(error.to_string().contains("config.json"), "{error}");
    }
}
