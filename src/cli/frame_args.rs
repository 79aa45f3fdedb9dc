//! Flags that draw a picture from another one.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use clap::Args;

use super::board::Board;
use super::picture_args::file_use;
use crate::pipeline::frame::edges;
use crate::pipeline::new_seed;
use crate::pipeline::painter::Capabilities;
use crate::story::{
    Control, FileUse, InitImage, Margins, Reference, Region, Settings, Upscale, Variation,
    read_picture_file,
};

/// Pixels around a mask that the model sees, and those over which its edge fades.
const PADDING: u32 = 64;
const FEATHER: u32 = 8;

/// From which picture the new one is drawn, and where.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct FrameArgs {
    /// The picture to begin from: current (the panel's own), a picture file, or none (what the take before began from is left out)
    #[arg(long, value_name = "current|none|FILE")]
    from: Option<String>,
    /// How much is drawn anew, 0 (nothing) to 1 (all) [default: 0.6, with --mask 1]
    #[arg(long, value_name = "X", value_parser = share)]
    strength: Option<f32>,
    /// A picture of the panel's shape: what is white is drawn anew, what is black stays; begins from the panel's own picture where --from is left out
    #[arg(long, value_name = "FILE")]
    mask: Option<PathBuf>,
    /// With --mask: so many pixels around it are drawn as well, at the size that the model draws best, and put back; whole draws the whole picture at once [default: 64]
    #[arg(long, value_name = "N|whole", requires = "mask", value_parser = around)]
    region: Option<Around>,
    /// Pixels inside the mask's edge over which the new picture fades in, 0 to 128 [default: 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=128))]
    feather: Option<u32>,
    /// Pixels to draw around the picture, such as left=64,right=64; begins from the panel's own picture where --from is left out
    #[arg(long, value_name = "SIDE=N,...", value_parser = margins)]
    outpaint: Option<Margins>,
    /// The picture so many times as large, drawn over in tiles at --strength [default: 0.3, with --upscaler 0]; begins from the panel's own picture where --from is left out
    #[arg(long, value_name = "X", value_parser = scale, conflicts_with_all = ["mask", "outpaint"])]
    upscale: Option<f32>,
    /// The upscaler that enlarges it, by its file (Real-ESRGAN) [default: resampling]
    #[arg(long, value_name = "FILE", requires = "upscale")]
    upscaler: Option<String>,
    /// A picture whose shapes are followed, such as scribble:sketch.png, lineart:FILE, depth:FILE, or canny:FILE, of which the edges are followed; with --controlnet
    #[arg(long, value_name = "KIND:FILE", requires = "controlnet")]
    control: Option<String>,
    /// The ControlNet that follows it, by its file, folder or id
    #[arg(long, value_name = "FILE|ID", requires = "control")]
    controlnet: Option<String>,
    /// How strictly it is followed, 0 to 2
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    control_scale: f32,
    /// A picture whose looks are kept: panel:K, cast:NAME, a picture file, or none (without those of the take before); may be given several times
    #[arg(long, value_name = "panel:K|cast:NAME|FILE|none")]
    reference: Vec<String>,
    /// The IP-Adapter that reads it, by its file or id [default: the model itself does]
    #[arg(long, value_name = "FILE|ID", requires_all = ["reference", "image_encoder"])]
    ip_adapter: Option<String>,
    /// The image encoder that the IP-Adapter was made with, by its file, folder or id
    #[arg(long, value_name = "FILE|ID", requires = "ip_adapter")]
    image_encoder: Option<String>,
    /// How much of its looks is kept, 0 to 1 [default: 0.5, with --ip-adapter 0.6]
    #[arg(long, value_name = "X", value_parser = share, requires = "reference")]
    reference_scale: Option<f32>,
    /// The share of the steps, 0 to 1, at which it begins to work
    #[arg(long, value_name = "X", value_parser = share, requires = "reference", default_value_t = 0.0)]
    reference_start: f32,
    /// The share of the steps at which it ends
    #[arg(long, value_name = "X", value_parser = share, requires = "reference", default_value_t = 1.0)]
    reference_end: f32,
    /// So many pictures like the panel's own, from noise near its seed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub variations: Option<u8>,
    /// How far from it they are, 0 to 1
    #[arg(long, value_name = "X", value_parser = share, default_value_t = 0.2)]
    variation_strength: f32,
}

impl FrameArgs {
    /// `settings` for the panel at `at` with what was given; pictures go to the board's, and ids
    /// are those of the folder `models`.
    ///
    /// # Errors
    /// A file that is no picture, or a panel without one.
    pub(super) fn apply_to(
        &self,
        board: &Board,
        at: usize,
        takes: &Capabilities,
        models: Option<&Path>,
        mut settings: Settings,
    ) -> anyhow::Result<Settings> {
        let current = || {
            let shown = board.picture(at);
            shown.ok_or_else(|| anyhow!("panel {} has no picture yet; draw one first", at + 1))
        };
        let changes = self.mask.is_some() || self.outpaint.is_some() || self.upscale.is_some();
        if changes {
            // What was changed in the take before is changed no more.
            settings.mask = None;
            settings.region = None;
            settings.outpaint = None;
            settings.upscale = None;
        }
        let init = match self.from.as_deref() {
            None if self.outpaint.is_some() || self.upscale.is_some() => Some(current()?),
            None if self.mask.is_some() && settings.init.is_none() => Some(current()?),
            None => None,
            Some("none") => {
                settings.init = None;
                settings.mask = None;
                settings.region = None;
                settings.outpaint = None;
                settings.upscale = None;
                None
            }
            Some("current") => Some(current()?),
            Some(file) => Some(board.put(read_picture_file(Path::new(file))?.0)),
        };
        if self.mask.is_some() {
            settings.region = match self.region {
                Some(Around::Whole) => None,
                Some(Around::Pixels(padding)) => Some(self.region(padding)),
                None => Some(self.region(PADDING)),
            };
        }
        if let Some((image, size)) = init {
            let drawn_whole = settings.region.is_none() && self.outpaint.is_none();
            if drawn_whole && self.upscale.is_none() {
                let range = takes.sizes.as_ref();
                settings.size = settings.size.or_else(|| Some(range?.like(size)));
            }
            let strength = match (self.upscale, &self.upscaler) {
                (Some(_), Some(_)) => 0.0,
                (Some(_), None) => 0.3,
                _ if changes => 1.0,
                _ => 0.6,
            };
            settings.init = Some(InitImage { image, strength });
        }
        match (&mut settings.init, self.strength) {
            (Some(init), Some(strength)) => init.strength = strength,
            (None, Some(_)) => {
                bail!("--strength says how much of a picture is drawn anew; say which with --from")
            }
            _ => {}
        }
        if let Some(file) = &self.mask {
            settings.mask = Some(board.put(read_picture_file(file)?.0).0);
        }
        if let Some(margins) = self.outpaint {
            settings.outpaint = Some(margins);
            let faded = self.feather.is_some() && self.mask.is_none();
            if faded {
                let most = [margins.left, margins.top, margins.right, margins.bottom];
                // All of the old picture is seen, as without a region.
                settings.region = Some(self.region(most.into_iter().sum::<u32>().max(PADDING)));
            }
        }
        if let Some(scale) = self.upscale {
            let file = self.upscaler.as_deref();
            settings.upscale = Some(Upscale {
                scale,
                file: file.map(|file| file_use(file, models)).transpose()?,
            });
        }
        if let (Some(argument), Some(net)) = (&self.control, &self.controlnet) {
            settings.control = vec![self.control(board, argument, file_use(net, models)?)?];
        }
        if !self.reference.is_empty() {
            let argument = self.reference.iter().filter(|argument| *argument != "none");
            let references =
                argument.map(|argument| self.reference(board, argument, takes, models));
            settings.references = references.collect::<Result<_, _>>()?;
        }
        Ok(settings)
    }

    fn region(&self, padding: u32) -> Region {
        Region {
            padding,
            feather: self.feather.unwrap_or(FEATHER),
        }
    }

    fn reference(
        &self,
        board: &Board,
        argument: &str,
        takes: &Capabilities,
        models: Option<&Path>,
    ) -> anyhow::Result<Reference> {
        let (image, prompt) = board.named_picture(argument)?;
        let file = |argument: &Option<String>| {
            let argument = argument.as_deref();
            argument
                .map(|argument| file_use(argument, models))
                .transpose()
        };
        let usual = match &self.ip_adapter {
            Some(_) => 0.6,
            None if takes.sees => 1.0,
            None => 0.5,
        };
        Ok(Reference {
            image,
            strength: self.reference_scale.unwrap_or(usual),
            start: self.reference_start,
            end: self.reference_end,
            prompt,
            adapter: file(&self.ip_adapter)?,
            encoder: file(&self.image_encoder)?,
            member: None,
        })
    }

    fn control(&self, board: &Board, argument: &str, net: FileUse) -> anyhow::Result<Control> {
        let Some((kind, file)) = argument.split_once(':') else {
            bail!(
                "\"{argument}\" does not say what the picture is; give one such as scribble:sketch.png"
            );
        };
        let picture = read_picture_file(Path::new(file))?.0;
        let picture = match kind {
            "canny" => edges(&picture),
            _ => picture,
        };
        Ok(Control {
            kind: kind.to_owned(),
            image: board.put(picture).0,
            strength: self.control_scale,
            start: 0.0,
            end: 1.0,
            file: Some(net),
        })
    }

    /// The settings of every picture that is wanted: one, or as many variations, each towards the
    /// noise of a seed of its own.
    pub(super) fn all(&self, settings: Settings) -> Vec<Settings> {
        let Some(count) = self.variations else {
            return vec![settings];
        };
        let first = new_seed();
        (0..u64::from(count))
            .map(|number| Settings {
                variation: Some(Variation {
                    seed: first.wrapping_add(number),
                    strength: self.variation_strength,
                }),
                ..settings.clone()
            })
            .collect()
    }

    /// Whether what is drawn has another size than the whole picture: that of the take before is
    /// none to go by.
    pub(super) fn reshapes(&self) -> bool {
        let part = self.mask.is_some() && self.region != Some(Around::Whole);
        part || self.outpaint.is_some() || self.upscale.is_some()
    }

    /// Whether anything was given that changes the picture.
    pub(super) fn is_given(&self) -> bool {
        self.from.is_some()
            || self.strength.is_some()
            || self.mask.is_some()
            || self.control.is_some()
            || self.outpaint.is_some()
            || self.upscale.is_some()
            || !self.reference.is_empty()
            || self.variations.is_some()
    }
}

/// How much of a picture is drawn around its mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Around {
    Pixels(u32),
    Whole,
}

/// `64`, or `whole`.
fn around(text: &str) -> Result<Around, String> {
    match text {
        "whole" => Ok(Around::Whole),
        number => match number.parse() {
            Ok(number) => Ok(Around::Pixels(number)),
            Err(_) => Err("give so many pixels, or whole".to_owned()),
        },
    }
}

/// `left=64,bottom=32`.
fn margins(text: &str) -> Result<Margins, String> {
    let mut margins = Margins::default();
    for side in text.split(',') {
        let pixels = side.split_once('=').and_then(|(name, pixels)| {
            let pixels = pixels.trim().parse::<u32>().ok()?;
            let side = match name.trim() {
                "left" => &mut margins.left,
                "top" => &mut margins.top,
                "right" => &mut margins.right,
                "bottom" => &mut margins.bottom,
                _ => return None,
            };
            *side = pixels;
            Some(pixels)
        });
        if pixels.is_none() {
            return Err(
                "give sides and pixels, such as left=64,right=64 (left, top, right, bottom)"
                    .to_owned(),
            );
        }
    }
    Ok(margins)
}

fn scale(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|&x: &f32| x > 1.0 && x <= 8.0);
    number.ok_or_else(|| "give a number above 1 and at most 8".to_owned())
}

fn share(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|x| (0.0..=1.0).contains(x));
    number.ok_or_else(|| "give a number from 0 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_and_scales_are_read() {
        let all = margins("left=64, bottom=32").unwrap();
        assert_eq!((all.left, all.top, all.right, all.bottom), (64, 0, 0, 32));
        for bad in ["", "64", "left", "left=x", "up=3", "left=-1"] {
            assert!(margins(bad).unwrap_err().contains("left=64"), "{bad}");
        }
        assert_eq!(around("12"), Ok(Around::Pixels(12)));
        assert_eq!(around("whole"), Ok(Around::Whole));
        assert!(around("much").is_err());
        assert_eq!(scale("2.5"), Ok(2.5));
        assert!(scale("1").is_err() && scale("9").is_err() && scale("NaN").is_err());
    }
}
