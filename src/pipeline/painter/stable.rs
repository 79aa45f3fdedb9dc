//! Stable Diffusion 1.x, 2.x and XL from files and folders that authors own.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Device;
use image::{DynamicImage, RgbImage};

use super::hashes::Hashes;
use super::{
    Brief, Capabilities, PaintedPicture, Painter, PainterDescription, PainterKind, PipelineError,
    Progress, SizeRange, embeddings, is_local,
};
use crate::diffusion::{
    ControlImage, IpAdapterImage, PictureRequest, PipelineProgress, Prediction, ReferenceImage,
    SchedulerKind, StableDiffusion, StableDiffusionFamily, StableDiffusionOptions,
    StableDiffusionPipeline, luma,
};
use crate::nn::multiplies_bf16;
use crate::pipeline::LoadProgress;
use crate::pipeline::record::default_settings;
use crate::published::{decoding, denoising, format_bytes, free_memory};
use crate::story::{FileUse, Reference, SchedulerName, Settings, Size};
use crate::weights::{ComputeDevices, DeviceKind, Model};

/// What such a model's manifest says.
const PIPELINE: &str = "stable-diffusion";
/// Sides of a picture that is not larger than any memory, in pixels.
const MOST: u32 = 4096;

pub(super) struct StableKind;

impl PainterKind for StableKind {
    fn detect(&self, model: &Model) -> bool {
        is_local(model, PIPELINE)
    }

    fn load(
        &self,
        model: &Model,
        place: &ComputeDevices,
        _progress: &mut dyn FnMut(LoadProgress),
    ) -> Result<Box<dyn Painter>, PipelineError> {
        model.verify_sizes()?;
        let path = model.source.path().unwrap_or(&model.dir).to_path_buf();
        let identity = model.manifest.identity.as_ref();
        let prediction = identity.and_then(|identity| identity.prediction.as_deref());
        let plain = StableDiffusionOptions {
            prediction: prediction.map(prediction_of).transpose()?,
            ..StableDiffusionOptions::at(place)
        };
        let stable = StableDiffusion::open(&path, plain.clone())?;
        let manifest = &model.manifest;
        let description = PainterDescription {
            model: manifest.id.clone(),
            weights: manifest.weights_hash(),
            device: place.name(),
            takes: takes(&stable),
            draws: manifest.draws.clone(),
            default_settings: default_settings(defaults(&stable), manifest),
        };
        Ok(Box::new(StablePainter {
            description,
            path,
            plain,
            pipeline: Some((Extras::default(), StableDiffusionPipeline::new(stable))),
            hashes: Hashes::default(),
        }))
    }
}

fn prediction_of(name: &str) -> Result<Prediction, PipelineError> {
    match name {
        "epsilon" => Ok(Prediction::Epsilon),
        "v_prediction" => Ok(Prediction::VPrediction),
        _ => Err(PipelineError::Request(format!(
            "\"{name}\" is nothing that a model predicts; choose epsilon or v_prediction"
        ))),
    }
}

/// What a model takes beside its prompt.
fn takes(model: &StableDiffusion) -> Capabilities {
    let (width, height) = model.picture_size();
    let step = model.vae_config().decoder_scale() as u32;
    let usual = model.schedule().and_then(|s| Ok(s.kind()?)).ok();
    let others = SchedulerKind::ALL.iter().copied();
    let others = others.filter(|kind| Some(*kind) != usual);
    let schedulers = usual.into_iter().chain(others);
    // One that was distilled with guidance as an input is asked once a step.
    let distilled = model.unet_config().time_cond_proj_dim.is_some();
    Capabilities {
        size: Size { width, height },
        sizes: Some(SizeRange {
            step,
            least: 2 * step,
            most: MOST / step * step,
            budget: width * height,
        }),
        negative: !distilled,
        schedulers: schedulers
            .map(|kind| SchedulerName::from(kind.name()))
            .collect(),
        clip_skip: true,
        loras: true,
        embeddings: true,
        vae: true,
        prediction: true,
        bf16: in_bf16(model.device(), model.gpu().is_some()),
        variation: true,
        init: true,
        mask: true,
        references: REFERENCES,
        control: match model.family() {
            StableDiffusionFamily::Sd2 => Vec::new(),
            StableDiffusionFamily::Sd1 | StableDiffusionFamily::Sdxl => {
                CONTROLS.map(String::from).to_vec()
            }
        },
        ..Capabilities::default()
    }
}

/// Most pictures that are kept to at once: each takes another half of a step's time.
const REFERENCES: usize = 4;

/// What a control picture may be.
const CONTROLS: [&str; 4] = ["scribble", "lineart", "canny", "depth"];

/// As the published pipelines have it.
fn defaults(model: &StableDiffusion) -> Settings {
    let usual = model.schedule().and_then(|s| Ok(s.kind()?));
    let usual = usual.unwrap_or(SchedulerKind::EulerAncestral);
    let distilled = model.unet_config().time_cond_proj_dim.is_some();
    let (guidance, steps, scheduler) = match model.family() {
        _ if distilled => (8.0, 4, SchedulerKind::Lcm),
        StableDiffusionFamily::Sd1 | StableDiffusionFamily::Sd2 => (7.5, 25, usual),
        StableDiffusionFamily::Sdxl => (5.0, 25, usual),
    };
    Settings {
        guidance,
        steps,
        scheduler: SchedulerName::from(scheduler.name()),
        ..Settings::default()
    }
}

/// What is laid over a model's own weights.
#[derive(Clone, Debug, Default, PartialEq)]
struct Extras {
    loras: Vec<(PathBuf, f64)>,
    embeddings: Vec<(PathBuf, String)>,
    vae: Option<PathBuf>,
    prediction: Option<String>,
    bf16: bool,
}

impl Extras {
    fn of(brief: &Brief) -> Extras {
        let loras = brief.loras.iter();
        let embeddings = brief
            .embeddings
            .iter()
            .map(|used| PathBuf::from(&used.file));
        Extras {
            loras: loras
                .map(|lora| (PathBuf::from(&lora.file), f64::from(lora.weight)))
                .collect(),
            embeddings: embeddings
                .map(|file| {
                    let name = embeddings::name_of(&file);
                    (file, name)
                })
                .collect(),
            vae: brief.vae.as_ref().map(|vae| PathBuf::from(&vae.file)),
            prediction: brief.prediction.clone(),
            bf16: brief.bf16,
        }
    }
}

/// Whether networks can multiply in bf16 there.
pub(super) fn in_bf16(device: &Device, gpu: bool) -> bool {
    device.is_cpu() && !gpu && multiplies_bf16()
}

struct StablePainter {
    description: PainterDescription,
    path: PathBuf,
    plain: StableDiffusionOptions,
    /// The model with what was laid over it for the last picture; none after a failure.
    pipeline: Option<(Extras, StableDiffusionPipeline)>,
    hashes: Hashes,
}

impl StablePainter {
    /// The model with what this brief lays over it.
    fn pipeline(&mut self, brief: &Brief) -> Result<&mut StableDiffusionPipeline, PipelineError> {
        let wanted = Extras::of(brief);
        let kept = self.pipeline.take().filter(|(extras, _)| *extras == wanted);
        let pipeline = match kept {
            Some((_, pipeline)) => pipeline,
            None => {
                let prediction_override = wanted.prediction.as_deref().map(prediction_of);
                let options = StableDiffusionOptions {
                    prediction: prediction_override.transpose()?.or(self.plain.prediction),
                    loras: wanted.loras.clone(),
                    embeddings: wanted.embeddings.clone(),
                    vae: wanted.vae.clone(),
                    bf16: wanted.bf16,
                    ..self.plain.clone()
                };
                StableDiffusionPipeline::new(StableDiffusion::open(&self.path, options)?)
            }
        };
        Ok(&mut self.pipeline.insert((wanted, pipeline)).1)
    }
}

impl Painter for StablePainter {
    fn describe(&self) -> &PainterDescription {
        &self.description
    }

    fn computes_on(&self) -> Device {
        self.plain.device.clone()
    }

    fn complete(&mut self, mut brief: Brief) -> Result<Brief, PipelineError> {
        let about = &self.description;
        about.takes.check(&brief, &about.model)?;
        for lora in &mut brief.loras {
            self.hashes.fill("LoRA", &lora.file, &mut lora.hash)?;
        }
        if let Some(vae) = &mut brief.vae {
            self.hashes.fill("VAE", &vae.file, &mut vae.hash)?;
        }
        let how: Vec<&Reference> = brief.references.iter().map(|given| &given.how).collect();
        check_adapters(&how)?;
        for given in &mut brief.references {
            match (&mut given.how.adapter, &mut given.how.encoder) {
                (Some(adapter), Some(encoder)) => {
                    self.hashes
                        .fill("IP-Adapter", &adapter.file, &mut adapter.hash)?;
                    self.hashes
                        .fill("image encoder", &encoder.file, &mut encoder.hash)?;
                }
                (None, None) => {}
                _ => {
                    return Err(PipelineError::Request(
                        "a reference picture is read by an IP-Adapter with its image encoder; name both files or neither".into(),
                    ));
                }
            }
        }
        for given in &mut brief.control {
            let Some(file) = &mut given.how.file else {
                return Err(PipelineError::Request(format!(
                    "a {} picture can only be followed with a ControlNet; name its file",
                    given.kind
                )));
            };
            self.hashes.fill("ControlNet", &file.file, &mut file.hash)?;
        }
        if let Some(name) = &brief.prediction {
            prediction_of(name)?;
        }
        let texts = [brief.prompt.as_str(), brief.negative.as_str()];
        brief.embeddings = embeddings::named(&self.path, &texts, &brief.embeddings)
            .into_iter()
            .map(|mut used| {
                self.hashes.fill("embedding", &used.file, &mut used.hash)?;
                Ok(used)
            })
            .collect::<Result<Vec<FileUse>, PipelineError>>()?;
        let Size { width, height } = brief.size;
        let pipeline = self.pipeline(&brief)?;
        // What is loaded already is not needed once more.
        let needed = memory(pipeline.model(), brief.size).saturating_sub(pipeline.loaded());
        let free = match pipeline.model().gpu() {
            Some(gpu) => gpu.own_memory(),
            None => free_memory(pipeline.model().device()),
        };
        let short = free.is_some_and(|free| needed > free);
        if let Some(gpu) = pipeline.model().gpu().filter(|_| short) {
            gpu.refuse(needed);
        }
        match free {
            Some(free) if short => Err(PipelineError::Request(format!(
                "a picture of {width}x{height} pixels needs about {} of memory more than is loaded, and there are {}; choose a smaller size or close other programs",
                format_bytes(needed),
                format_bytes(free)
            ))),
            _ => Ok(brief),
        }
    }

    fn draw(
        &mut self,
        brief: &Brief,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<PaintedPicture>, PipelineError> {
        let scheduler: SchedulerKind = brief
            .scheduler
            .as_str()
            .parse()
            .map_err(PipelineError::Request)?;
        let rgb = |picture: &Arc<image::RgbaImage>| -> RgbImage {
            DynamicImage::ImageRgba8(picture.as_ref().clone()).to_rgb8()
        };
        let init = brief.init.as_ref().map(|(p, by)| (rgb(p), exact(*by)));
        let mask = brief.mask.as_ref().map(|mask| luma(&rgb(mask)));
        let control: Vec<(RgbImage, PathBuf)> = brief
            .control
            .iter()
            .filter_map(|given| {
                let file = given.how.file.as_ref()?;
                Some((rgb(&given.picture), PathBuf::from(&file.file)))
            })
            .collect();
        let looked = brief.references.iter();
        let looked = looked.filter(|given| given.how.adapter.is_some());
        let looked: Vec<(RgbImage, &Reference)> = looked
            .map(|given| (rgb(&given.picture), &given.how))
            .collect();
        let referred = brief.references.iter();
        let referred = referred.filter(|given| given.how.adapter.is_none());
        let referred: Vec<(RgbImage, &Reference)> = referred
            .map(|given| (rgb(&given.picture), &given.how))
            .collect();
        let pipeline = self.pipeline(brief)?;
        let negative = brief.negative.trim();
        let order = PictureRequest {
            prompt: &brief.prompt,
            negative: (!negative.is_empty()).then_some(negative),
            size: (brief.size.width as usize, brief.size.height as usize),
            seed: brief.seed,
            variation: brief
                .variation
                .as_ref()
                .map(|v| (v.seed, exact(v.strength))),
            guidance: exact(brief.guidance),
            steps: brief.steps as usize,
            scheduler,
            clip_skip: skipped(brief.clip_skip, pipeline.model().family()),
            init: init.as_ref().map(|(picture, by)| (picture, *by)),
            mask: mask.as_ref(),
            control_images: control
                .iter()
                .zip(&brief.control)
                .map(|((picture, file), given)| ControlImage {
                    file,
                    picture,
                    scale: exact(given.how.strength),
                    share: (exact(given.how.start), exact(given.how.end)),
                })
                .collect(),
            reference_images: referred
                .iter()
                .map(|(picture, how)| ReferenceImage {
                    picture,
                    prompt: &how.prompt,
                    strength: exact(how.strength),
                    share: (exact(how.start), exact(how.end)),
                })
                .collect(),
            ip_adapter_image: looked.first().and_then(|(_, how)| {
                Some(IpAdapterImage {
                    adapter: Path::new(&how.adapter.as_ref()?.file),
                    encoder: Path::new(&how.encoder.as_ref()?.file),
                    pictures: looked.iter().map(|(picture, _)| picture).collect(),
                    scale: exact(how.strength),
                    share: (exact(how.start), exact(how.end)),
                })
            }),
        };
        let picture = pipeline.draw(&order, &mut |progress| {
            sink(match progress {
                PipelineProgress::Loading(part) => Progress::Loading(LoadProgress {
                    what: part.to_owned(),
                    done: 0,
                    of: 1,
                }),
                PipelineProgress::Still => Progress::Still,
                PipelineProgress::Step(done) => Progress::Step {
                    step: done.step,
                    steps: done.steps,
                    preview: Arc::new(done.preview),
                },
            })
        });
        if picture.is_err() {
            // What failed may have left parts that are half loaded.
            self.pipeline = None;
        }
        Ok(picture?.map(PaintedPicture::from))
    }
}

/// One IP-Adapter reads all pictures that it is given, in one way.
///
/// # Errors
/// Pictures that are to be read by another file or in another way than the first.
fn check_adapters(references: &[&Reference]) -> Result<(), PipelineError> {
    let files = |how: &Reference| {
        [&how.adapter, &how.encoder].map(|file| file.as_ref().map(|file| file.file.clone()))
    };
    let way = |how: &Reference| (how.strength, how.start, how.end, files(how));
    let mut read = references.iter().filter(|how| how.adapter.is_some());
    let Some(first) = read.next() else {
        return Ok(());
    };
    match read.all(|how| way(how) == way(first)) {
        true => Ok(()),
        false => Err(PipelineError::Request(
            "several reference pictures are read by one IP-Adapter with one image encoder, one strength and the same steps; give them alike, or some without an IP-Adapter".into(),
        )),
    }
}

/// Bytes that a picture takes at its most, with the weights that are loaded then.
fn memory(model: &StableDiffusion, Size { width, height }: Size) -> u64 {
    const F32: u64 = 4;
    let device = match model.device() {
        Device::Cpu => DeviceKind::Cpu,
        Device::Cuda(_) => DeviceKind::Cuda,
        Device::Metal(_) => DeviceKind::Metal,
    };
    let (config, vae_config) = (model.unet_config(), model.vae_config());
    let pixels = u64::from(width) * u64::from(height);
    let scale = vae_config.decoder_scale() as u64;
    let (channels, heads) = (&config.block_out_channels, config.heads(0).unwrap_or(1));
    let fine = vae_config.block_out_channels.first().copied();
    let steps = denoising(channels, heads, pixels / (scale * scale), device) * F32;
    let last = decoding(fine.unwrap_or(0), pixels) * F32;
    let (texts, unet, vae) = model.weight_bytes();
    texts.max(unet + steps).max(vae + last)
}

/// The number that was meant: 0.6 as it is written, not as it is rounded to f32.
pub(super) fn exact(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// Layers to skip in diffusers' counting. A1111 and ComfyUI count the last as 1, and SDXL leaves
/// that one out by itself.
fn skipped(clip_skip: Option<u32>, family: StableDiffusionFamily) -> usize {
    let own = match family {
        StableDiffusionFamily::Sd1 | StableDiffusionFamily::Sd2 => 1,
        StableDiffusionFamily::Sdxl => 2,
    };
    clip_skip.map_or(0, |skip| (skip as usize).saturating_sub(own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::ImageId;

    #[test]
    fn an_ip_adapter_reads_all_pictures_in_one_way() {
        let file = |file: &str| {
            Some(FileUse {
                file: file.into(),
                hash: String::new(),
            })
        };
        let seen = Reference {
            image: ImageId::of(&image::RgbaImage::new(1, 1)),
            strength: 0.6,
            start: 0.0,
            end: 1.0,
            prompt: String::new(),
            adapter: file("plus.safetensors"),
            encoder: file("vit-h"),
            member: None,
        };
        let plain = Reference {
            strength: 0.3,
            adapter: None,
            encoder: None,
            ..seen.clone()
        };
        assert!(check_adapters(&[]).is_ok());
        assert!(check_adapters(&[&plain, &seen, &seen, &plain]).is_ok());
        let unlike = [
            Reference {
                strength: 0.5,
                ..seen.clone()
            },
            Reference {
                end: 0.5,
                ..seen.clone()
            },
            Reference {
                adapter: file("base.safetensors"),
                ..seen.clone()
            },
            Reference {
                encoder: file("vit-g"),
                ..seen.clone()
            },
        ];
        for other in &unlike {
            let refused = check_adapters(&[&seen, &plain, other]).unwrap_err();
            assert!(refused.to_string().contains("give them alike"), "{refused}");
        }
    }

    #[test]
    fn clip_skip_counts_as_a1111_does() {
        for (said, sd1, sdxl) in [
            (None, 0, 0),
            (Some(1), 0, 0),
            (Some(2), 1, 0),
            (Some(3), 2, 1),
        ] {
            assert_eq!(skipped(said, StableDiffusionFamily::Sd1), sd1);
            assert_eq!(skipped(said, StableDiffusionFamily::Sdxl), sdxl);
        }
    }
}
