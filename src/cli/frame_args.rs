//! Flags that draw a picture from another one.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use clap::Args;

use super::board::Board;
use super::picture_args::file_use;
use crate::pipeline::new_seed;
use crate::pipeline::painter::Capabilities;
use crate::story::{Control, InitImage, Reference, Settings, Size, Variation, read_picture_file};

/// From which picture the new one is drawn, and where.
#[derive(Clone, Debug, Default, Args)]
pub struct FrameArgs {
    /// The picture to begin from: current (the panel's own), a picture file, or none (what the take before began from is left out)
    #[arg(long, value_name = "current|none|FILE")]
    from: Option<String>,
    /// How much is drawn anew, 0 (nothing) to 1 (all) [default: 0.6, with --mask 1]
    #[arg(long, value_name = "X", value_parser = share)]
    strength: Option<f32>,
    /// A picture of the panel's shape: what is white is drawn anew, what is black stays; begins from the panel's own picture where --from is left out
    #[arg(long, value_name = "FILE")]
    mask: Option<PathBuf>,
    /// A picture whose shapes are followed, such as scribble:sketch.png; with --controlnet
    #[arg(long, value_name = "KIND:FILE", requires = "controlnet")]
    control: Option<String>,
    /// The ControlNet that follows it
    #[arg(long, value_name = "FILE|DIR", requires = "control")]
    controlnet: Option<PathBuf>,
    /// How strictly it is followed, 0 to 2
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    control_scale: f32,
    /// A picture whose looks are kept: panel:K, cast:NAME or a picture file; with --ip-adapter
    #[arg(long, value_name = "panel:K|cast:NAME|FILE", requires = "ip_adapter")]
    reference: Option<String>,
    /// The IP-Adapter that reads it
    #[arg(long, value_name = "FILE", requires_all = ["reference", "image_encoder"])]
    ip_adapter: Option<PathBuf>,
    /// The image encoder that the IP-Adapter was made with
    #[arg(long, value_name = "FILE|DIR", requires = "ip_adapter")]
    image_encoder: Option<PathBuf>,
    /// How much of its looks is kept, 0 to 1
    #[arg(long, value_name = "X", value_parser = share, default_value_t = 0.6)]
    reference_scale: f32,
    /// So many pictures like the panel's own, from noise near its seed
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    pub variations: Option<u8>,
    /// How far from it they are, 0 to 1
    #[arg(long, value_name = "X", value_parser = share, default_value_t = 0.2)]
    variation_strength: f32,
}

impl FrameArgs {
    /// `settings` for the panel at `at` with what was given; pictures go to the board's.
    ///
    /// # Errors
    /// A file that is no picture, or a panel without one.
    pub fn over(
        &self,
        board: &Board,
        at: usize,
        takes: &Capabilities,
        mut settings: Settings,
    ) -> anyhow::Result<Settings> {
        let current = || {
            let shown = board.picture(at);
            shown.ok_or_else(|| anyhow!("panel {} has no picture yet; draw one first", at + 1))
        };
        let init = match self.from.as_deref() {
            None if self.mask.is_some() && settings.init.is_none() => Some(current()?),
            None => None,
            Some("none") => {
                settings.init = None;
                settings.mask = None;
                None
            }
            Some("current") => Some(current()?),
            Some(file) => Some(board.put(read_picture_file(Path::new(file))?.0)),
        };
        if let Some((image, size)) = init {
            settings.size = settings.size.or_else(|| like(size, takes));
            settings.init = Some(InitImage {
                image,
                strength: match self.mask {
                    Some(_) => 1.0,
                    None => 0.6,
                },
            });
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
        if let (Some(said), Some(net)) = (&self.control, &self.controlnet) {
            settings.control = vec![self.control(board, said, net)?];
        }
        if let (Some(said), Some(adapter), Some(encoder)) =
            (&self.reference, &self.ip_adapter, &self.image_encoder)
        {
            settings.references = vec![Reference {
                image: board.named_picture(said)?,
                strength: self.reference_scale,
                start: 0.0,
                end: 1.0,
                prompt: String::new(),
                adapter: Some(file_use(adapter)?),
                encoder: Some(file_use(encoder)?),
                member: None,
            }];
        }
        Ok(settings)
    }

    fn control(&self, board: &Board, said: &str, net: &Path) -> anyhow::Result<Control> {
        let Some((kind, file)) = said.split_once(':') else {
            bail!(
                "\"{said}\" does not say what the picture is; give one such as scribble:sketch.png"
            );
        };
        Ok(Control {
            kind: kind.to_owned(),
            image: board.put(read_picture_file(Path::new(file))?.0).0,
            strength: self.control_scale,
            start: 0.0,
            end: 1.0,
            file: Some(file_use(net)?),
        })
    }

    /// The settings of every picture that is wanted: one, or as many variations, each towards the
    /// noise of a seed of its own.
    pub fn all(&self, settings: Settings) -> Vec<Settings> {
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

    /// Whether anything was given that changes the picture.
    pub fn is_given(&self) -> bool {
        self.from.is_some()
            || self.strength.is_some()
            || self.mask.is_some()
            || self.control.is_some()
            || self.reference.is_some()
            || self.variations.is_some()
    }
}

/// The size for a picture that begins from one of `size`: the same where the model draws it, else
/// its shape.
fn like(size: Size, takes: &Capabilities) -> Option<Size> {
    let range = takes.sizes.as_ref()?;
    let fits =
        |side: u32| side.is_multiple_of(range.step) && (range.least..=range.most).contains(&side);
    let large = u64::from(size.width) * u64::from(size.height) > 2 * u64::from(range.budget);
    match fits(size.width) && fits(size.height) && !large {
        true => Some(size),
        false => Some(range.in_shape(size.width, size.height)),
    }
}

fn share(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|x| (0.0..=1.0).contains(x));
    number.ok_or_else(|| "give a number from 0 to 1".to_owned())
}
