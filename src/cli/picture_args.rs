//! Flags that say how a picture is drawn.

use std::path::Path;

use anyhow::bail;
use clap::Args;

use crate::catalogue;
use crate::pipeline::painter::Capabilities;
use crate::story::{FileUse, Likeness, LoraUse, Settings, Size};
use crate::weights::models_dir;

/// What pictures are drawn with; what is left out comes from the model or from the take before.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct PictureArgs {
    /// Picture size in pixels such as 1024x768, or a shape such as 16:9 at the size that the model draws best
    #[arg(long, value_name = "WxH|W:H")]
    pub size: Option<String>,
    /// What is not to be in the picture
    #[arg(long, value_name = "TEXT")]
    pub negative: Option<String>,
    /// A LoRA, by its file or the id under which it was added, and how strongly it works [default: 1]; may be given several times
    #[arg(long, value_name = "FILE|ID[:WEIGHT]")]
    pub lora: Vec<String>,
    /// Without the LoRAs of the take before
    #[arg(long, conflicts_with = "lora")]
    pub no_lora: bool,
    /// An autoencoder in place of the model's own, by its file or id
    #[arg(long, value_name = "FILE|ID")]
    pub vae: Option<String>,
    /// Layers of the text encoder to leave out at its end, as A1111 counts them: 1 is none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=12))]
    pub clip_skip: Option<u32>,
    /// What the model predicts where its file does not tell
    #[arg(long, value_name = "NAME", value_parser = ["epsilon", "v_prediction"])]
    pub prediction: Option<String>,
    /// Whether the UNet's matrices are multiplied in bf16: quicker on processors that do it (AVX-512 BF16), and a little rounded [default: off]
    #[arg(long, value_name = "on|off", value_parser = on_off)]
    pub bf16: Option<bool>,
    /// How closely the pictures of whoever of the cast is in the panel are kept to, 0 (not at all) to 1 [default: 0.5]
    #[arg(long, value_name = "X", value_parser = share)]
    pub likeness: Option<f32>,
    /// The share of the steps, 0 to 1, at which they begin to work [default: 0]
    #[arg(long, value_name = "X", value_parser = share)]
    pub likeness_start: Option<f32>,
    /// The share of the steps at which they end [default: 1]
    #[arg(long, value_name = "X", value_parser = share)]
    pub likeness_end: Option<f32>,
}

fn share(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|x| (0.0..=1.0).contains(x));
    number.ok_or_else(|| "give a number from 0 to 1".to_owned())
}

fn on_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("give on or off".to_owned()),
    }
}

impl PictureArgs {
    /// `base` with what was given on the command line, for a model that takes `takes`; ids are
    /// those of the folder `models`.
    ///
    /// # Errors
    /// A size or a LoRA that is none.
    pub(super) fn apply_to(
        &self,
        base: Settings,
        takes: &Capabilities,
        models: Option<&Path>,
    ) -> anyhow::Result<Settings> {
        let size = match &self.size {
            Some(text) => Some(size(text, takes)?),
            None => base.size,
        };
        let loras = match (self.no_lora, self.lora.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => base.loras,
            (false, false) => self
                .lora
                .iter()
                .map(|text| lora(text, models))
                .collect::<Result<_, _>>()?,
        };
        let vae = match &self.vae {
            Some(file) => Some(file_use(file, models)?),
            None => base.vae,
        };
        let likeness = match self.keeps_likeness() {
            true if takes.references == 0 => {
                bail!(
                    "this model takes no pictures of the cast; leave --likeness out or choose another model"
                )
            }
            true if takes.sees && self.weighs_likeness() => {
                bail!(
                    "this model reads the pictures of the cast whole, in all steps; give --likeness 0 or 1 alone"
                )
            }
            true => {
                let was = base.likeness.clone().unwrap_or_default();
                Some(Likeness {
                    strength: self.likeness.unwrap_or(was.strength),
                    start: self.likeness_start.unwrap_or(was.start),
                    end: self.likeness_end.unwrap_or(was.end),
                    ..was
                })
            }
            false => base.likeness.clone(),
        };
        Ok(Settings {
            likeness,
            size,
            loras,
            vae,
            negative: self.negative.clone().unwrap_or(base.negative),
            clip_skip: self.clip_skip.or(base.clip_skip),
            prediction: self.prediction.clone().or(base.prediction),
            bf16: self.bf16.unwrap_or(base.bf16),
            ..base
        })
    }

    /// Whether anything was given.
    pub(super) fn is_given(&self) -> bool {
        self.size.is_some()
            || self.negative.is_some()
            || !self.lora.is_empty()
            || self.no_lora
            || self.vae.is_some()
            || self.clip_skip.is_some()
            || self.prediction.is_some()
            || self.bf16.is_some()
            || self.keeps_likeness()
    }

    /// Whether it says that pictures are kept to in part.
    fn weighs_likeness(&self) -> bool {
        let part = |strength: f32| strength > 0.0 && strength < 1.0;
        self.likeness.is_some_and(part)
            || self.likeness_start.is_some()
            || self.likeness_end.is_some()
    }

    fn keeps_likeness(&self) -> bool {
        let given = [self.likeness, self.likeness_start, self.likeness_end];
        given.iter().any(Option::is_some)
    }
}

/// `1024x768`, or a shape such as `16:9`.
fn size(text: &str, takes: &Capabilities) -> anyhow::Result<Size> {
    let two = |by: &[char]| {
        let (a, b) = text.split_once(by)?;
        let number = |side: &str| side.trim().parse::<u32>().ok().filter(|n| *n > 0);
        Some((number(a)?, number(b)?))
    };
    if let Some((width, height)) = two(&['x', 'X', '\u{d7}']) {
        return Ok(Size { width, height });
    }
    let Some((wide, high)) = two(&[':']) else {
        bail!("\"{text}\" is no picture size; give one such as 1024x768 or 16:9");
    };
    match &takes.sizes {
        Some(sizes) => Ok(sizes.in_shape(wide, high)),
        None if wide * takes.size.height == high * takes.size.width => Ok(takes.size),
        None => bail!(
            "this model draws pictures of {}x{} pixels only; leave --size out or choose another model",
            takes.size.width,
            takes.size.height
        ),
    }
}

/// `FILE` or `FILE:0.8`; a colon in the file's own name stays.
fn lora(text: &str, models: Option<&Path>) -> anyhow::Result<LoraUse> {
    let (file, weight) = match text.rsplit_once(':') {
        Some((file, weight)) if !Path::new(text).exists() => match weight.trim().parse::<f32>() {
            Ok(weight) if weight.is_finite() => (file, weight),
            _ => bail!("\"{weight}\" in --lora {text} is no weight; give one such as 0.8"),
        },
        _ => (text, 1.0),
    };
    let FileUse { file, hash } = file_use(file, models)?;
    Ok(LoraUse {
        file,
        hash,
        weight,
        member: None,
    })
}

/// A file by its whole path, so that the record finds it from anywhere; `said` is its path, or the
/// id under which it was added.
pub(super) fn file_use(said: &str, models: Option<&Path>) -> anyhow::Result<FileUse> {
    let whole = catalogue::file_of(&models_dir(models)?, said)?;
    Ok(FileUse {
        file: whole.to_string_lossy().into_owned(),
        hash: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::painter::SizeRange;

    #[test]
    fn sizes_are_pixels_or_shapes() {
        let mut takes = Capabilities::default();
        let said = |text: &str, takes: &Capabilities| {
            size(text, takes)
                .map(|s| (s.width, s.height))
                .map_err(|e| e.to_string())
        };
        assert_eq!(said("1024x768", &takes), Ok((1024, 768)));
        assert_eq!(said("1:1", &takes), Ok((512, 512)));
        assert!(
            said("16:9", &takes)
                .unwrap_err()
                .contains("512x512 pixels only")
        );
        takes.sizes = Some(SizeRange {
            step: 8,
            least: 64,
            most: 2048,
            budget: 1024 * 1024,
        });
        assert_eq!(said("16:9", &takes), Ok((1344, 768)));
        for bad in ["large", "0x9", "10x", ":"] {
            assert!(said(bad, &takes).unwrap_err().contains("no picture size"));
        }
    }

    #[test]
    fn loras_have_weights() {
        let ink = lora("ink.safetensors:-0.5", None).unwrap();
        assert!(ink.file.ends_with("ink.safetensors") && ink.weight == -0.5);
        assert!(Path::new(&ink.file).is_absolute());
        assert_eq!(lora("ink.safetensors", None).unwrap().weight, 1.0);
        assert!(lora("ink.safetensors:much", None).is_err());
    }

    #[test]
    fn what_is_left_out_stays() {
        let base = Settings {
            negative: "blurry".into(),
            clip_skip: Some(2),
            ..Settings::default()
        };
        let none = PictureArgs::default();
        let takes = Capabilities::default();
        assert_eq!(none.apply_to(base.clone(), &takes, None).unwrap(), base);
        assert!(!none.is_given());
        let some = PictureArgs {
            negative: Some("text".into()),
            ..PictureArgs::default()
        };
        assert_eq!(some.apply_to(base, &takes, None).unwrap().negative, "text");
        assert!(some.is_given());
    }
}
