//! The networks of a voken model in memory: all of them where they fit together, else one after
//! the other, each leaving when another is needed.

use std::sync::Arc;

use candle_core::Device;

use super::{LoadProgress, PipelineError};
use crate::diffusion::{LatentDiffusion, TextToImageModel};
use crate::llm::LlamaTokenizer;
use crate::llm::float::FloatLlama;
use crate::nn::gpu::Gpu;
use crate::published::{
    LoadListener, LoadTarget, MemoryPlan, PanelTask, PartPaths, Published, PublishedError,
    VokenLanguageWeights, check, free_memory, plan, read_with_listener,
};
use crate::vision::{VisionConfig, VisionTower};
use crate::voken::{
    CachedLm, CompositionHead, FeatureMapper, FloatCachedLm, PictureConditioning, VokenIds,
};
use crate::weights::{ComputeDevices, device_name};

/// What is loaded: the names that authors are told.
const SPEAKER: &str = "language model";
const TOWER: &str = "vision tower";
const PAINTER: &str = "picture model";
/// How many there are.
const PARTS: u32 = 3;
/// Of the memory that is free, what the rest of the machine is left.
const SPARE: u64 = 10;

/// The language model with its key-value cache, and the feature mapper.
pub(super) struct VokenLanguageModel {
    pub reader: FloatCachedLm,
    pub mapper: FeatureMapper,
    /// Says who is in a picture and where, of a model that draws from references.
    pub composition_head: Option<CompositionHead>,
}

/// Facts about the language model, loaded or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct LanguageInfo {
    pub vocabulary: VokenIds,
    /// The id that a sequence begins with.
    pub bos: u32,
    /// The id that ends one.
    pub eos: Option<u32>,
    /// Most tokens that are read.
    pub limit: usize,
}

impl LanguageInfo {
    pub(super) fn of(language: &VokenLanguageWeights) -> Self {
        Self {
            vocabulary: language.vocabulary,
            bos: language.bos,
            eos: language.eos,
            limit: language.llama.config().max_position_embeddings,
        }
    }
}

/// Callback for the progress of loading.
pub(super) type LoadSink<'a> = dyn FnMut(LoadProgress) + 'a;

/// The diffusion model.
pub(super) enum ImageModel {
    /// From conditions alone.
    Painter(Box<LatentDiffusion>),
    /// From conditions; with a text encoder that descriptions can be read with.
    Own(Box<TextToImageModel>, PictureConditioning),
}

impl ImageModel {
    pub(super) fn painter(&self) -> &LatentDiffusion {
        match self {
            ImageModel::Painter(painter) => painter,
            ImageModel::Own(diffusion, _) => &diffusion.painter,
        }
    }
}

/// Where networks that are dropped to save memory are loaded from again.
struct ReloadFiles {
    published: Published,
    see: LoadTarget,
    write: LoadTarget,
    draw: LoadTarget,
}

/// Language model, vision tower and diffusion model; those that do not fit in memory together take
/// turns.
pub(super) struct PipelineNetworks {
    /// None where all networks stay: those of a small model of our own, or of one in training.
    files: Option<ReloadFiles>,
    vision: VisionConfig,
    picture_size: (u32, u32),
    /// Where the vision tower works.
    seeing: Device,
    /// Whether all stay loaded.
    stays: bool,
    speaker: Option<VokenLanguageModel>,
    tower: Option<VisionTower>,
    artist: Option<ImageModel>,
}

impl PipelineNetworks {
    /// Loads all that fits: everything, or the language model, which comes first in a panel.
    ///
    /// # Errors
    /// When a part is missing or broken, or needs more memory than there is.
    pub(super) fn load(
        parts: PartPaths,
        place: &ComputeDevices,
        progress: &mut LoadSink,
    ) -> Result<(PipelineNetworks, LanguageInfo, Arc<LlamaTokenizer>), PipelineError> {
        let device = &place.device;
        let plan = planned(&parts, device)?;
        let target = |task| LoadTarget::of(&plan, task, device);
        let published = Published::open(parts)?;
        let tokenizer = published.tokenizer.clone();
        let write = target(PanelTask::Write);
        let read = |listener: LoadListener| published.read_language(&write, &listener);
        let language = follow(progress, SPEAKER, 0, read)?;
        let voice = LanguageInfo::of(&language);
        let see = LoadTarget {
            gpu: place.gpu.clone(),
            ..target(PanelTask::See)
        };
        let mut networks = PipelineNetworks {
            vision: published.sizes.vision.clone(),
            picture_size: published.picture_size()?,
            seeing: see.device.clone(),
            speaker: Some(VokenLanguageModel::new(
                language.llama,
                language.mapper,
                place.gpu.as_ref(),
            )?),
            stays: plan.stays,
            tower: None,
            artist: None,
            files: Some(ReloadFiles {
                draw: LoadTarget {
                    gpu: place.gpu.clone(),
                    ..target(PanelTask::Draw)
                },
                published,
                see,
                write,
            }),
        };
        if networks.stays {
            networks.vision_tower(progress)?;
            networks.image_model(progress)?;
        }
        progress(LoadProgress {
            what: PAINTER.to_string(),
            done: PARTS,
            of: PARTS,
        });
        Ok((networks, voice, tokenizer))
    }

    /// Networks that are in memory and stay, all on one device.
    pub(super) fn staying(
        speaker: VokenLanguageModel,
        tower: VisionTower,
        artist: ImageModel,
    ) -> Self {
        Self {
            files: None,
            vision: tower.config().clone(),
            picture_size: artist.painter().picture_size(),
            seeing: artist.painter().device().clone(),
            stays: true,
            speaker: Some(speaker),
            tower: Some(tower),
            artist: Some(artist),
        }
    }

    /// The same without a diffusion model, where another room draws.
    pub(super) fn writing(speaker: VokenLanguageModel, tower: VisionTower) -> Self {
        Self {
            files: None,
            vision: tower.config().clone(),
            picture_size: (0, 0),
            seeing: speaker.device().clone(),
            stays: true,
            speaker: Some(speaker),
            tower: Some(tower),
            artist: None,
        }
    }

    /// What all is computed on, for people.
    pub(super) fn computes_on(&self, place: &ComputeDevices) -> String {
        let speaker = self.speaker.as_ref();
        speaker.map_or_else(|| place.name(), |speaker| speaker.computes_on(place))
    }

    /// Whether vokens or a description condition the picture.
    pub(super) fn conditioning(&self) -> PictureConditioning {
        match &self.artist {
            Some(ImageModel::Own(_, speaks)) => *speaks,
            Some(ImageModel::Painter(_)) | None => PictureConditioning::Vokens,
        }
    }

    pub(super) fn vision(&self) -> &VisionConfig {
        &self.vision
    }

    /// Width and height of the pictures that are drawn.
    pub(super) fn picture_size(&self) -> (u32, u32) {
        self.picture_size
    }

    /// Where pictures are drawn.
    pub(super) fn drawing(&self) -> Device {
        let loaded = self.artist.as_ref().map(|artist| artist.painter().device());
        let loaded = loaded.or(self.files.as_ref().map(|files| &files.draw.device));
        loaded.cloned().unwrap_or(Device::Cpu)
    }

    /// The language model, loaded again if it was dropped. Where not all fit in memory the others
    /// are dropped; so for each of the three.
    ///
    /// # Errors
    /// When a file was changed meanwhile or memory does not suffice.
    pub(super) fn language_model(
        &mut self,
        progress: &mut LoadSink,
    ) -> Result<&mut VokenLanguageModel, PipelineError> {
        if !self.stays {
            (self.tower, self.artist) = (None, None);
        }
        let speaker = match self.speaker.take() {
            Some(speaker) => speaker,
            None => {
                let files = files(&self.files)?;
                let read =
                    |listener: LoadListener| files.published.read_language(&files.write, &listener);
                let language = follow(progress, SPEAKER, 0, read)?;
                let gpu = files.draw.gpu.as_ref();
                VokenLanguageModel::new(language.llama, language.mapper, gpu)?
            }
        };
        Ok(self.speaker.insert(speaker))
    }

    /// The vision tower and its device, loaded again if it was dropped.
    pub(super) fn vision_tower(
        &mut self,
        progress: &mut LoadSink,
    ) -> Result<(&VisionTower, &Device), PipelineError> {
        if !self.stays {
            (self.speaker, self.artist) = (None, None);
        }
        let tower = match self.tower.take() {
            Some(tower) => tower,
            None => {
                let files = files(&self.files)?;
                let read =
                    |listener: LoadListener| files.published.read_tower(&files.see, &listener);
                follow(progress, TOWER, 1, read)?
            }
        };
        Ok((self.tower.insert(tower), &self.seeing))
    }

    /// The diffusion model, loaded again if it was dropped.
    pub(super) fn image_model(
        &mut self,
        progress: &mut LoadSink,
    ) -> Result<&ImageModel, PipelineError> {
        if !self.stays {
            (self.speaker, self.tower) = (None, None);
        }
        let artist = match self.artist.take() {
            Some(artist) => artist,
            None => {
                let files = files(&self.files)?;
                let read =
                    |listener: LoadListener| files.published.read_diffusion(&files.draw, &listener);
                ImageModel::Painter(Box::new(follow(progress, PAINTER, 2, read)?))
            }
        };
        Ok(self.artist.insert(artist))
    }
}

/// Where to read again what had to leave.
fn files(files: &Option<ReloadFiles>) -> Result<&ReloadFiles, PipelineError> {
    let gone =
        "a network of this model has left the memory and can't be read again; open the model anew";
    files
        .as_ref()
        .ok_or_else(|| PipelineError::Request(gone.to_string()))
}

impl VokenLanguageModel {
    /// On the GPU of `place`, where it has one that takes it.
    ///
    /// # Errors
    /// A GPU that is lost or short of memory.
    pub(super) fn new(
        mut llama: FloatLlama,
        mut mapper: FeatureMapper,
        gpu: Option<&Gpu>,
    ) -> Result<Self, PipelineError> {
        if let Some(gpu) = gpu {
            match llama.move_to(gpu)? {
                None => mapper.move_to(gpu)?,
                Some(what) => tracing::warn!(
                    "the words are made on the processor: no GPU kernel for {what} yet"
                ),
            }
        }
        Ok(Self {
            reader: FloatCachedLm::new(llama),
            mapper,
            composition_head: None,
        })
    }

    /// What all is computed on, for people: where words are made elsewhere than pictures, both.
    pub(super) fn computes_on(&self, place: &ComputeDevices) -> String {
        match place.gpu.is_some() && !self.reader.is_on_gpu() {
            true => format!("{}, words on {}", place.name(), device_name(&place.device)),
            false => place.name(),
        }
    }

    pub(super) fn device(&self) -> &Device {
        self.reader.device()
    }
}

/// What lies where, in what memory `vokenboard.toml` allows or is free.
fn planned(parts: &PartPaths, device: &Device) -> Result<MemoryPlan, PublishedError> {
    let report = check(parts)?;
    let free = || free_memory(device).map(|free| free - free / SPARE);
    let limit = parts.memory().or_else(free);
    if let Some(misfit) = report.misfits.first() {
        return Err(PublishedError::Unusable {
            path: parts.stable_diffusion.clone(),
            reason: misfit.clone().into(),
        });
    }
    Ok(plan(&report, crate::weights::kind_of(device), limit)?)
}

/// Reads a part, telling which and which of its layers.
fn follow<T: Send>(
    progress: &mut LoadSink,
    what: &str,
    done: u32,
    read: impl FnOnce(LoadListener) -> Result<T, PublishedError> + Send,
) -> Result<T, PipelineError> {
    let mut tell = |what: String| {
        let of = PARTS;
        progress(LoadProgress { what, done, of });
    };
    tell(what.to_string());
    Ok(read_with_listener(
        &mut |layer| tell(format!("{what}, {layer}")),
        read,
    )?)
}
