//! The networks of a voken model in memory: all of them where they fit together, else one after
//! the other, each leaving when another is needed.

use candle_core::Device;

use super::{LoadProgress, PipelineError};
use crate::diffusion::Painter;
use crate::llm::LlamaTokenizer;
use crate::published::{
    Hear, Language, Parts, Plan, Published, PublishedError, Seat, Task, check, followed,
    free_memory, plan,
};
use crate::vision::{VisionConfig, VisionTower};
use crate::voken::{FeatureMapper, FloatReader, Reader, Vocabulary};

/// What is loaded: the names that authors are told.
const SPEAKER: &str = "language model";
const TOWER: &str = "vision tower";
const PAINTER: &str = "picture model";
/// How many there are.
const PARTS: u32 = 3;
/// Of the memory that is free, what the rest of the machine is left.
const SPARE: u64 = 10;

/// A language model with the text that it reads, and what maps its states.
pub(super) struct Speaker {
    pub reader: FloatReader,
    pub mapper: FeatureMapper,
}

/// What is known of the language model whether or not it is loaded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Speech {
    pub vocabulary: Vocabulary,
    /// The first id of a sequence and the one that ends it.
    pub ends: (u32, Option<u32>),
    /// Most tokens that are read.
    pub limit: usize,
}

/// Hears how far loading is.
pub(super) type Progress<'a> = dyn FnMut(LoadProgress) + 'a;

/// The three networks.
pub(super) struct Networks {
    published: Published,
    see: Seat,
    write: Seat,
    draw: Seat,
    /// Whether all stay loaded.
    stays: bool,
    speaker: Option<Speaker>,
    tower: Option<VisionTower>,
    painter: Option<Painter>,
}

impl Networks {
    /// Loads all that fits: everything, or the language model, which comes first in a panel.
    ///
    /// # Errors
    /// When a part is missing or broken, or needs more memory than there is.
    pub fn load(
        parts: Parts,
        device: &Device,
        progress: &mut Progress,
    ) -> Result<(Networks, Speech), PipelineError> {
        let plan = planned(&parts, device)?;
        let seat = |task| Seat::of(&plan, task, device);
        let published = Published::open(parts)?;
        let write = seat(Task::Write);
        let read = |hear: Hear| published.read_language(&write, &hear);
        let language = follow(progress, SPEAKER, 0, read)?;
        let speech = Speech {
            vocabulary: language.vocabulary,
            ends: language.ends,
            limit: language.llama.config().max_position_embeddings,
        };
        let mut networks = Networks {
            see: seat(Task::See),
            draw: seat(Task::Draw),
            speaker: Some(Speaker::new(language)),
            stays: plan.stays,
            tower: None,
            painter: None,
            published,
            write,
        };
        if networks.stays {
            networks.tower(progress)?;
            networks.painter(progress)?;
        }
        progress(LoadProgress {
            what: PAINTER.to_string(),
            done: PARTS,
            of: PARTS,
        });
        Ok((networks, speech))
    }

    pub fn tokenizer(&self) -> &LlamaTokenizer {
        &self.published.tokenizer
    }

    pub fn vision(&self) -> &VisionConfig {
        &self.published.sizes.vision
    }

    /// Width and height of the pictures that are drawn.
    pub fn picture_size(&self) -> Result<(u32, u32), PipelineError> {
        Ok(self.published.picture_size()?)
    }

    /// The language model, read again if it had to leave. Where not all stay the others leave; so
    /// for each of the three.
    ///
    /// # Errors
    /// When a file was changed meanwhile or memory does not suffice.
    pub fn speaker(&mut self, progress: &mut Progress) -> Result<&mut Speaker, PipelineError> {
        Ok(self.speaking(progress)?.0)
    }

    /// The language model with its tokenizer.
    pub fn speaking(
        &mut self,
        progress: &mut Progress,
    ) -> Result<(&mut Speaker, &LlamaTokenizer), PipelineError> {
        if !self.stays {
            (self.tower, self.painter) = (None, None);
        }
        let speaker = match self.speaker.take() {
            Some(speaker) => speaker,
            None => {
                let read = |hear: Hear| self.published.read_language(&self.write, &hear);
                Speaker::new(follow(progress, SPEAKER, 0, read)?)
            }
        };
        Ok((self.speaker.insert(speaker), &self.published.tokenizer))
    }

    /// What pictures are read with, and its device.
    pub fn tower(
        &mut self,
        progress: &mut Progress,
    ) -> Result<(&VisionTower, &Device), PipelineError> {
        if !self.stays {
            (self.speaker, self.painter) = (None, None);
        }
        let tower = match self.tower.take() {
            Some(tower) => tower,
            None => {
                let read = |hear: Hear| self.published.read_tower(&self.see, &hear);
                follow(progress, TOWER, 1, read)?
            }
        };
        Ok((self.tower.insert(tower), &self.see.device))
    }

    /// What pictures are drawn with.
    pub fn painter(&mut self, progress: &mut Progress) -> Result<&Painter, PipelineError> {
        if !self.stays {
            (self.speaker, self.tower) = (None, None);
        }
        let painter = match self.painter.take() {
            Some(painter) => painter,
            None => {
                let read = |hear: Hear| self.published.read_painter(&self.draw, &hear);
                follow(progress, PAINTER, 2, read)?
            }
        };
        Ok(self.painter.insert(painter))
    }
}

impl Speaker {
    fn new(language: Language) -> Self {
        Self {
            reader: FloatReader::new(language.llama),
            mapper: language.mapper,
        }
    }

    pub fn device(&self) -> &Device {
        self.reader.device()
    }
}

/// What lies where, in what memory `vokenboard.toml` allows or is free.
fn planned(parts: &Parts, device: &Device) -> Result<Plan, PublishedError> {
    let report = check(parts)?;
    let free = || free_memory(device).map(|free| free - free / SPARE);
    let limit = parts.memory().or_else(free);
    if let Some(misfit) = report.misfits.first() {
        return Err(PublishedError::Unusable {
            path: parts.stable_diffusion.clone(),
            reason: misfit.clone(),
        });
    }
    Ok(plan(&report, crate::weights::kind_of(device), limit)?)
}

/// Reads a part, telling which and which of its layers.
fn follow<T: Send>(
    progress: &mut Progress,
    what: &str,
    done: u32,
    read: impl FnOnce(Hear) -> Result<T, PublishedError> + Send,
) -> Result<T, PipelineError> {
    let mut tell = |what: String| {
        let of = PARTS;
        progress(LoadProgress { what, done, of });
    };
    tell(what.to_string());
    Ok(followed(
        &mut |layer| tell(format!("{what}, {layer}")),
        read,
    )?)
}
