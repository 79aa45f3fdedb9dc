//! The parts of a voken model, read and joined.

use std::sync::Arc;

use super::{MAX_NEW_TOKENS, VOKEN, VokenPipeline};
use crate::diffusion::{LatentDiffusion, TextToImageModel};
use crate::llm::LlamaTokenizer;
use crate::llm::float::GgufLlama;
use crate::pipeline::load::ResolvedModels;
use crate::pipeline::networks::{ImageModel, LanguageInfo, PipelineNetworks, VokenLanguageModel};
use crate::pipeline::record::description;
use crate::pipeline::speech::TextFormat;
use crate::pipeline::{LoadProgress, PipelineError};
use crate::published::{PartPaths, VokenLanguageWeights};
use crate::story::{SchedulerName, Settings};
use crate::vision::VisionTower;
use crate::voken::{FloatCachedLm, FolderConfig};
use crate::weights::{Manifest, device_name};

/// Most tokens of a story that a model of our own reads, whatever it could: some twenty to forty of
/// its own panels. Reading eight times as much took 22 s when a long story was opened again.
const MOST_READ: usize = 1024;

impl VokenPipeline {
    /// Loads a model of our own: the language model that its manifest names, what its voken
    /// folder adds to that, and its diffusion model.
    ///
    /// # Errors
    /// When a part is missing or broken, or does not fit the others.
    pub(in crate::pipeline) fn load_own(
        chosen: &ResolvedModels,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<VokenPipeline, PipelineError> {
        let mut tell = |what: &str, done| {
            progress(LoadProgress {
                what: what.to_string(),
                done,
                of: 3,
            });
        };
        let (model, manifest) = (&chosen.model, &chosen.model.manifest);
        tell("language model", 0);
        let own = OwnLanguage::load(chosen)?;
        tell("vision tower", 1);
        let tower = own.tower(chosen)?;
        tell("picture model", 2);
        let diffusion = TextToImageModel::load_at(&model.dir, &chosen.place)?;
        let (made, wanted) = (own.speaker.mapper.config(), diffusion.unet.config());
        if made.d_model != wanted.cross_attention_dim
            || (wanted.class_embed_type.is_some() && !made.pooled)
        {
            return Err(PipelineError::Request(format!(
                "the mapper of {} does not make the conditions that its UNet reads; train it with this UNet",
                manifest.id
            )));
        }
        tell("picture model", 3);
        let size = diffusion.picture_size();
        let computes_on = own.speaker.computes_on(&chosen.place);
        let image = ImageModel::Own(Box::new(diffusion), own.config.speaks);
        Ok(VokenPipeline {
            voice: own.voice,
            description: description(
                &[manifest, &own.writer],
                VOKEN,
                computes_on,
                size,
                Settings::default(),
            ),
            speech: own.speech,
            networks: PipelineNetworks::staying(own.speaker, tower, image),
            seen: Vec::new(),
        })
    }

    /// The language model and what it sees with, of a model whose pictures a painter draws.
    ///
    /// # Errors
    /// As [`VokenPipeline::load_own`].
    pub(super) fn load_words(chosen: &ResolvedModels) -> Result<VokenPipeline, PipelineError> {
        let manifest = &chosen.model.manifest;
        let own = OwnLanguage::load(chosen)?;
        let tower = own.tower(chosen)?;
        Ok(VokenPipeline {
            voice: own.voice,
            description: description(
                &[manifest, &own.writer],
                VOKEN,
                own.speaker.computes_on(&chosen.place),
                (0, 0),
                Settings::default(),
            ),
            speech: own.speech,
            networks: PipelineNetworks::writing(own.speaker, tower),
            seen: Vec::new(),
        })
    }

    /// Loads the parts that the folder's `vokenboard.toml` names.
    ///
    /// # Errors
    /// When a part is missing or broken, or does not fit the others.
    pub(in crate::pipeline) fn load(
        chosen: &ResolvedModels,
        progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<VokenPipeline, PipelineError> {
        let (model, place) = (&chosen.model, &chosen.place);
        model.verify_sizes()?;
        let parts = PartPaths::read(&model.dir)?;
        let (networks, voice, tokenizer) = PipelineNetworks::load(parts, place, progress)?;
        let size = networks.picture_size();
        let computes_on = networks.computes_on(place);
        Ok(VokenPipeline {
            networks,
            voice,
            speech: TextFormat::Published(tokenizer),
            description: description(
                &[&model.manifest],
                VOKEN,
                computes_on,
                size,
                reference_settings(),
            ),
            seen: Vec::new(),
        })
    }

    /// A published model whose networks are in memory already, as while it is trained.
    pub(crate) fn of(
        language: VokenLanguageWeights,
        tokenizer: Arc<LlamaTokenizer>,
        tower: VisionTower,
        painter: LatentDiffusion,
    ) -> VokenPipeline {
        let voice = LanguageInfo::of(&language);
        let (device, size) = (painter.device().clone(), painter.picture_size());
        let artist = ImageModel::Painter(Box::new(painter));
        let speaker = VokenLanguageModel {
            reader: FloatCachedLm::new(language.llama),
            composition_head: None,
            mapper: language.mapper,
        };
        let manifest = Manifest::default();
        VokenPipeline {
            networks: PipelineNetworks::staying(speaker, tower, artist),
            voice,
            speech: TextFormat::Published(tokenizer),
            description: description(
                &[&manifest],
                VOKEN,
                device_name(&device),
                size,
                reference_settings(),
            ),
            seen: Vec::new(),
        }
    }
}

/// The language model of a model of our own.
struct OwnLanguage {
    speaker: VokenLanguageModel,
    voice: LanguageInfo,
    speech: TextFormat,
    config: FolderConfig,
    width: usize,
    /// What the language model's own folder says of it.
    writer: Manifest,
}

impl OwnLanguage {
    fn load(chosen: &ResolvedModels) -> Result<Self, PipelineError> {
        let device = &chosen.place.device;
        let writer = chosen.writer()?;
        let folder = &chosen.voken;
        let file = GgufLlama::find(&writer.dir)?;
        let language_model = folder.read_model(&file, device)?;
        let tokenizer = file.tokenizer()?;
        let line_end = match tokenizer.encode("\n").as_slice() {
            [id] => *id,
            _ => {
                return Err(PipelineError::Request(format!(
                    "the tokenizer of {} has no token for the end of a line; use the language model that {} was trained with",
                    writer.manifest.id, chosen.model.manifest.id
                )));
            }
        };
        let config = language_model.llama.config();
        let width = config.hidden_size;
        let written = MAX_NEW_TOKENS + language_model.vocabulary.vokens as usize;
        let voice = LanguageInfo {
            bos: language_model.vocabulary.bos,
            eos: config.eos(),
            vocabulary: language_model.vocabulary,
            limit: config.max_position_embeddings.min(MOST_READ + written),
        };
        let gpu = chosen.place.gpu.as_ref();
        Ok(Self {
            speaker: VokenLanguageModel {
                composition_head: language_model.composition_head,
                ..VokenLanguageModel::new(language_model.llama, language_model.mapper, gpu)?
            },
            voice,
            speech: TextFormat::Own {
                tokenizer: Box::new(tokenizer),
                line_end,
            },
            config: folder.read_config()?,
            width,
            writer: writer.manifest,
        })
    }

    fn tower(&self, chosen: &ResolvedModels) -> Result<VisionTower, PipelineError> {
        Ok(chosen.voken.read_tower_at(self.width, &chosen.place)?)
    }
}

/// The reference's own: 50 steps of PNDM at guidance 7.5, text at temperature 1.
fn reference_settings() -> Settings {
    Settings {
        guidance: 7.5,
        steps: 50,
        scheduler: SchedulerName::from("pndm"),
        temperature: 1.0,
        top_p: 0.9,
        ..Settings::default()
    }
}
