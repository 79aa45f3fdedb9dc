//! All that a picture is drawn from: settings with the pictures they name, and the record's
//! fields made of it again.

use std::sync::Arc;

use image::RgbaImage;

use crate::pipeline::PipelineError;
use crate::story::{
    Control, FileUse, ImageId, Images, InitImage, LoraUse, Margins, Record, Reference, Region,
    SchedulerName, Settings, Size, Upscale, Variation,
};

/// A picture whose looks are to be kept, see [`Reference`].
#[derive(Clone, Debug)]
pub struct GivenReference {
    /// Its pixels on white.
    pub picture: Arc<RgbaImage>,
    /// Its pixels as they were given, with what is transparent.
    pub whole: Arc<RgbaImage>,
    /// Strength, steps and adapter.
    pub how: Reference,
}

/// A picture whose shapes are to be followed, see [`Control`].
#[derive(Clone, Debug)]
pub struct GivenControl {
    /// What the picture is, such as `canny` or `depth`.
    pub kind: String,
    /// Its pixels.
    pub picture: Arc<RgbaImage>,
    /// Conditioning scale, steps and file.
    pub how: Control,
}

/// A picture request: prompt, settings, and the pixels of the pictures that the settings name.
#[derive(Clone, Debug)]
pub struct Brief {
    /// Prompt of the picture.
    pub prompt: String,
    /// Negative prompt; empty for none.
    pub negative: String,
    /// Size of the picture, in pixels.
    pub size: Size,
    /// Seed of the initial noise.
    pub seed: u64,
    /// 1 is none.
    pub guidance: f32,
    /// Denoising steps.
    pub steps: u32,
    /// Scheduler of the denoising.
    pub scheduler: SchedulerName,
    /// Layers of the text encoder that are left out at its end, as A1111 counts them: 1 is none;
    /// `None` is the model's own number.
    pub clip_skip: Option<u32>,
    /// LoRAs, together.
    pub loras: Vec<LoraUse>,
    /// An autoencoder in place of the model's own.
    pub vae: Option<FileUse>,
    /// Textual inversion embeddings that the prompts call by name.
    pub embeddings: Vec<FileUse>,
    /// What the UNet predicts, where its file does not say.
    pub prediction: Option<String>,
    /// The UNet's matrices are multiplied in bf16.
    pub bf16: bool,
    /// How far the initial noise moves towards that of another seed.
    pub variation: Option<Variation>,
    /// Image to image: the picture and the strength, where 1 ignores it.
    pub init: Option<(Arc<RgbaImage>, f32)>,
    /// Inpainting: white is drawn anew, black stays.
    pub mask: Option<Arc<RgbaImage>>,
    /// Inpainting at full resolution.
    pub region: Option<Region>,
    /// Pixels added around the picture.
    pub outpaint: Option<Margins>,
    /// How the picture that is begun from is made larger.
    pub upscale: Option<Upscale>,
    /// Pictures whose looks are kept.
    pub references: Vec<GivenReference>,
    /// Pictures whose shapes are followed.
    pub control: Vec<GivenControl>,
}

impl Default for Brief {
    fn default() -> Brief {
        let Settings {
            seed,
            guidance,
            steps,
            scheduler,
            ..
        } = Settings::default();
        Brief {
            prompt: String::new(),
            negative: String::new(),
            size: Size {
                width: 512,
                height: 512,
            },
            seed,
            guidance,
            steps,
            scheduler,
            clip_skip: None,
            loras: Vec::new(),
            vae: None,
            embeddings: Vec::new(),
            prediction: None,
            bf16: false,
            variation: None,
            init: None,
            mask: None,
            region: None,
            outpaint: None,
            upscale: None,
            references: Vec::new(),
            control: Vec::new(),
        }
    }
}

impl Brief {
    /// The brief of a picture of `prompt` with `settings`, whose pictures are in `images`; `usual`
    /// is the size where the settings ask for none.
    ///
    /// # Errors
    /// When a picture is not at hand.
    pub fn new(
        prompt: String,
        negative: String,
        settings: &Settings,
        images: &Images,
        usual: Size,
    ) -> Result<Brief, PipelineError> {
        let picture = |id: &ImageId| {
            images.on_white(id).ok_or_else(|| {
                PipelineError::Request(format!(
                    "the picture {id} that these settings name is not at hand; choose another or restore its file"
                ))
            })
        };
        let init = match &settings.init {
            Some(init) => Some((picture(&init.image)?, init.strength)),
            None => None,
        };
        let references = settings.references.iter().map(|reference| {
            let white = picture(&reference.image)?;
            Ok(GivenReference {
                whole: images.get(&reference.image).unwrap_or(white.clone()),
                picture: white,
                how: reference.clone(),
            })
        });
        let control = settings.control.iter().map(|control| {
            Ok(GivenControl {
                kind: control.kind.clone(),
                picture: picture(&control.image)?,
                how: control.clone(),
            })
        });
        Ok(Brief {
            prompt,
            negative,
            size: settings.size.unwrap_or(usual),
            seed: settings.seed,
            guidance: settings.guidance,
            steps: settings.steps,
            scheduler: settings.scheduler.clone(),
            clip_skip: settings.clip_skip,
            loras: settings.loras.clone(),
            vae: settings.vae.clone(),
            embeddings: settings.embeddings.clone(),
            prediction: settings.prediction.clone(),
            bf16: settings.bf16,
            variation: settings.variation.clone(),
            init,
            mask: settings.mask.as_ref().map(picture).transpose()?,
            region: settings.region,
            outpaint: settings.outpaint,
            upscale: settings.upscale.clone(),
            references: references.collect::<Result<_, PipelineError>>()?,
            control: control.collect::<Result<_, PipelineError>>()?,
        })
    }

    /// The brief that a recorded picture was drawn from.
    ///
    /// # Errors
    /// As [`Brief::new`].
    pub fn of_record(
        record: &Record,
        images: &Images,
        usual: Size,
    ) -> Result<Brief, PipelineError> {
        let (prompt, negative) = (record.prompt.clone(), record.negative.clone());
        Brief::new(prompt, negative, &record.settings, images, usual)
    }

    /// What of it stays unread, in a sentence: a negative prompt without guidance.
    ///
    /// ```
    /// use vokenboard::pipeline::painter::Brief;
    ///
    /// let brief = Brief { negative: "blurry".into(), guidance: 1.0, ..Brief::default() };
    /// assert!(brief.unread().unwrap().contains("negative prompt is not read"));
    /// assert_eq!(Brief { guidance: 2.0, ..brief }.unread(), None);
    /// ```
    pub fn unread(&self) -> Option<String> {
        let unread = !self.negative.trim().is_empty() && self.guidance <= 1.0;
        unread.then(|| {
            "the negative prompt is not read at guidance 1, which is none; choose a guidance above 1, such as 2".to_owned()
        })
    }

    /// Writes all of this brief into a record. The record's size stays out where none was
    /// asked for, and the board's negative prompt is not put into the settings. Pictures that the
    /// record names stay named as they were given: what is drawn from lies on white, and a picture
    /// with transparent ground is another one.
    pub fn write_into(&self, record: &mut Record) {
        record.prompt.clone_from(&self.prompt);
        record.negative.clone_from(&self.negative);
        let settings = &mut record.settings;
        settings.seed = self.seed;
        settings.guidance = self.guidance;
        settings.steps = self.steps;
        settings.scheduler = self.scheduler.clone();
        settings.size = settings.size.map(|_| self.size);
        settings.clip_skip = self.clip_skip;
        settings.loras.clone_from(&self.loras);
        settings.vae.clone_from(&self.vae);
        settings.embeddings.clone_from(&self.embeddings);
        settings.prediction.clone_from(&self.prediction);
        settings.bf16 = self.bf16;
        settings.variation.clone_from(&self.variation);
        let given = settings.init.take().map(|init| init.image);
        settings.init = self.init.as_ref().map(|(picture, strength)| InitImage {
            image: given.unwrap_or_else(|| ImageId::of(picture)),
            strength: *strength,
        });
        let given = settings.mask.take();
        let mask = self.mask.as_deref();
        settings.mask = mask.map(|mask| given.unwrap_or_else(|| ImageId::of(mask)));
        settings.region = self.region;
        settings.outpaint = self.outpaint;
        settings.upscale.clone_from(&self.upscale);
        settings.references = self.references.iter().map(|r| r.how.clone()).collect();
        settings.control = self.control.iter().map(|c| c.how.clone()).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_and_its_brief_become_each_other() {
        let images = Images::new();
        let put = |grey: u8| {
            let opaque = image::Rgba([grey, grey, grey, 255]);
            images.put(RgbaImage::from_pixel(4, 4, opaque))
        };
        let settings = Settings {
            seed: 7,
            size: Some(Size {
                width: 640,
                height: 448,
            }),
            clip_skip: Some(2),
            loras: vec![LoraUse {
                file: "ink.safetensors".into(),
                hash: "0f".into(),
                weight: 0.8,
                member: None,
            }],
            vae: Some(FileUse::default()),
            embeddings: vec![FileUse::default()],
            prediction: Some("epsilon".into()),
            bf16: true,
            variation: Some(Variation {
                seed: 8,
                strength: 0.2,
            }),
            init: Some(InitImage {
                image: put(1),
                strength: 0.5,
            }),
            mask: Some(put(2)),
            region: Some(Region {
                padding: 32,
                feather: 8,
            }),
            outpaint: Some(Margins {
                left: 8,
                ..Margins::default()
            }),
            upscale: Some(Upscale {
                scale: 2.0,
                file: None,
            }),
            references: vec![Reference {
                image: put(3),
                strength: 1.0,
                start: 0.0,
                end: 0.5,
                prompt: "a boy".into(),
                adapter: None,
                encoder: None,
                member: None,
            }],
            control: vec![Control {
                kind: "scribble".into(),
                image: put(4),
                strength: 1.0,
                start: 0.1,
                end: 1.0,
                file: None,
            }],
            ..Settings::default()
        };
        let record = Record {
            prompt: "a house".into(),
            negative: "blurry".into(),
            settings,
            ..Record::default()
        };
        let usual = Size {
            width: 512,
            height: 512,
        };
        let brief = Brief::of_record(&record, &images, usual).unwrap();
        assert_eq!((brief.size.width, brief.size.height), (640, 448));
        let mut again = Record {
            settings: Settings {
                size: record.settings.size,
                ..Settings::default()
            },
            ..Record::default()
        };
        brief.write_into(&mut again);
        assert_eq!(again, record);
        // A picture with transparent ground is drawn from on white, and named as it is.
        let clear = images.put(RgbaImage::from_pixel(4, 4, image::Rgba([9, 9, 9, 0])));
        let mut transparent = record.clone();
        transparent.settings.mask = Some(clear.clone());
        let brief = Brief::of_record(&transparent, &images, usual).unwrap();
        let mut kept = transparent.clone();
        brief.write_into(&mut kept);
        assert_eq!(kept.settings.mask, Some(clear));
        let missing = Brief::of_record(&record, &Images::new(), usual).unwrap_err();
        assert!(missing.to_string().contains("not at hand"), "{missing}");
    }
}
