//! How a text or a picture came to be, so that it can be made again.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ImageId, MemberId, PanelId, Retouched, UnknownFields, is_default};

/// What a generated text or picture was made by, of and with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Id of the model that made it: of a text the writer, of a picture the painter, and of both
    /// the model where one does both.
    pub model: String,
    /// Hash of the weights.
    pub weights: String,
    /// Id of the recipe.
    pub pipeline: String,
    /// Device that computed it, such as `cpu`.
    pub device: String,
    /// Settings that it was made with.
    pub settings: Settings,
    /// What conditioned it.
    pub prompt: String,
    /// Negative prompt, that of the board and of the settings together.
    #[serde(default, skip_serializing_if = "is_default")]
    pub negative: String,
    /// The panels before it that were read.
    pub context: Vec<PanelId>,
    /// The panel's text when its picture was ordered.
    #[serde(default, skip_serializing_if = "is_default")]
    pub text: Option<String>,
    /// The language model that wrote the picture prompt, where that is not `model` itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub writer: Option<ModelUse>,
    /// What the author asked of a rewriting, such as `shorter`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub instruction: String,
    /// What an engine elsewhere was given to draw it, such as ComfyUI's graph with all values.
    #[serde(default, skip_serializing_if = "is_default")]
    pub graph: Option<serde_json::Value>,
    /// What was done to the picture by hand since, first to last.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retouched: Vec<Retouched>,
    /// How long it took. Not in the record that a PNG carries, see [`super::encode_png`].
    #[serde(default)]
    pub seconds: f32,
    /// When, RFC 3339 in UTC. Not in the record that a PNG carries.
    #[serde(default)]
    pub created: String,
    /// A picture that was wanted and that the model had not asked for by itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub forced: bool,
    /// Fields of a newer Vokenboard, kept as they are.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl Record {
    /// Whether a model made it; a picture of the author's own that was retouched has a record, too.
    pub fn is_drawn(&self) -> bool {
        !self.model.is_empty()
    }

    /// Every picture that it names.
    pub fn images(&self) -> impl Iterator<Item = &ImageId> {
        let before = self.retouched.iter().map(|retouched| &retouched.of);
        self.settings.images().chain(before)
    }
}

/// A model that took part, by its id and the hash of its weights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUse {
    /// Id of the model.
    pub model: String,
    /// Hash of the weights.
    pub weights: String,
}

/// A file that changes a model, by where it was and what was in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileUse {
    /// Path of the file.
    pub file: String,
    /// SHA-256 in lower-case hexadecimal; empty until it was read.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hash: String,
}

/// A LoRA and how strongly it works.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LoraUse {
    /// Path of the file.
    pub file: String,
    /// SHA-256 in lower-case hexadecimal; empty until it was read.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hash: String,
    /// 1 is as it was trained.
    pub weight: f32,
    /// The member of the cast that it shows, where it came with that: the next picture has those
    /// of whoever is in it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub member: Option<MemberId>,
}

/// The picture that denoising begins from (image to image).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InitImage {
    /// The picture.
    pub image: ImageId,
    /// 0 gives the picture back, 1 ignores it.
    pub strength: f32,
}

/// A picture whose looks are to be kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// The picture.
    pub image: ImageId,
    /// 0 is none, 1 is full.
    pub strength: f32,
    /// Share of the steps, 0 to 1, at which it begins to work; 0 where left out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub start: f32,
    /// Share of the steps at which it ends; 1 where left out.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub end: f32,
    /// The prompt that the picture was drawn from, where that helps to read it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prompt: String,
    /// The file that reads it, such as an IP-Adapter; none where the painter does so by itself
    /// (reference attention).
    #[serde(default, skip_serializing_if = "is_default")]
    pub adapter: Option<FileUse>,
    /// The image encoder that the adapter was made with.
    #[serde(default, skip_serializing_if = "is_default")]
    pub encoder: Option<FileUse>,
    /// The member of the cast that it shows, where it came with that: the next picture has those
    /// of whoever is in it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub member: Option<MemberId>,
}

/// How the reference pictures of the cast work, see [`Reference`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Likeness {
    /// 0 leaves them out, 1 is full.
    pub strength: f32,
    /// Share of the steps, 0 to 1, at which they begin to work; 0 where left out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub start: f32,
    /// Share of the steps at which they end; 1 where left out.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub end: f32,
    /// The file that reads them, such as an IP-Adapter; none where the painter does so by itself.
    #[serde(default, skip_serializing_if = "is_default")]
    pub adapter: Option<FileUse>,
    /// The image encoder that the adapter was made with.
    #[serde(default, skip_serializing_if = "is_default")]
    pub encoder: Option<FileUse>,
}

impl Default for Likeness {
    fn default() -> Likeness {
        Likeness {
            strength: 0.5,
            start: 0.0,
            end: whole(),
            adapter: None,
            encoder: None,
        }
    }
}

/// A picture whose shapes are to be followed (ControlNet).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// What the picture is, such as `scribble`, `canny` or `depth`.
    pub kind: String,
    /// The picture that is followed.
    pub image: ImageId,
    /// Conditioning scale; 1 is as it was trained.
    pub strength: f32,
    /// Share of the steps, 0 to 1, at which it begins to work; 0 where left out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub start: f32,
    /// Share of the steps at which it ends; 1 where left out.
    #[serde(default = "whole", skip_serializing_if = "is_whole")]
    pub end: f32,
    /// The ControlNet's file.
    #[serde(default, skip_serializing_if = "is_default")]
    pub file: Option<FileUse>,
}

/// Inpainting at full resolution: what is around the mask is cut out, drawn at the size that the
/// model draws best, and put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Pixels around the mask that the model sees.
    pub padding: u32,
    /// Pixels inside the mask's edge over which the new picture fades in.
    pub feather: u32,
}

/// Pixels added around a picture (outpainting).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Margins {
    /// Pixels added at the left.
    pub left: u32,
    /// Pixels added at the top.
    pub top: u32,
    /// Pixels added at the right.
    pub right: u32,
    /// Pixels added at the bottom.
    pub bottom: u32,
}

/// How the picture that is begun from is made larger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Upscale {
    /// New sides over old.
    pub scale: f32,
    /// The upscaler's file; none is Lanczos resampling.
    #[serde(default, skip_serializing_if = "is_default")]
    pub file: Option<FileUse>,
}

/// Noise between that of the seed and that of another, by spherical interpolation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Variation {
    /// The other seed.
    pub seed: u64,
    /// 0 is the noise of the seed itself, 1 that of the other.
    pub strength: f32,
}

/// Width and height of a picture in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
}

/// How long the text of a panel is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextLength {
    /// A few words, as under a cartoon.
    Line,
    /// A sentence or two.
    Sentences,
    /// Several sentences.
    Paragraph,
}

fn whole() -> f32 {
    1.0
}

fn is_whole(share: &f32) -> bool {
    *share == whole()
}

/// How text is sampled and pictures are denoised. Empty fields are what the model does by itself,
/// and are not written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Seed of sampling and of the initial noise.
    pub seed: u64,
    /// Guidance scale, 1 (none) to 15.
    pub guidance: f32,
    /// Denoising steps.
    pub steps: u32,
    /// Scheduler (sampler) of the denoising.
    pub scheduler: SchedulerName,
    /// 0 takes the likeliest token.
    pub temperature: f32,
    /// Share of the likeliest tokens that are drawn from, above 0 to 1.
    pub top_p: f32,
    /// Most tokens that are drawn from, the likeliest.
    #[serde(default, skip_serializing_if = "is_default")]
    pub top_k: Option<u32>,
    /// Least probability of a token that is drawn, as a share of the likeliest one's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub min_p: Option<f32>,
    /// Divides the logits of tokens that were written; 1 is none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub repetition_penalty: Option<f32>,
    /// How much text to write; none leaves it to the model.
    #[serde(default, skip_serializing_if = "is_default")]
    pub length: Option<TextLength>,
    /// Tone and audience of the text, in the author's words.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tone: String,
    /// Picture size; none is the size that the model draws best.
    #[serde(default, skip_serializing_if = "is_default")]
    pub size: Option<Size>,
    /// Negative prompt beside that of the board.
    #[serde(default, skip_serializing_if = "is_default")]
    pub negative: String,
    /// Layers of the text encoder that are left out at its end, as A1111 counts them: 1 is none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clip_skip: Option<u32>,
    /// LoRAs that the picture is drawn with, together.
    #[serde(default, skip_serializing_if = "is_default")]
    pub loras: Vec<LoraUse>,
    /// An autoencoder in place of the model's own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub vae: Option<FileUse>,
    /// Embeddings that the prompts call by name (textual inversion).
    #[serde(default, skip_serializing_if = "is_default")]
    pub embeddings: Vec<FileUse>,
    /// What the UNet predicts where its file does not tell, `epsilon` or `v_prediction`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prediction: Option<String>,
    /// The UNet's matrices are multiplied in bf16: quicker, and rounded.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bf16: bool,
    /// How far the initial noise moves towards that of another seed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub variation: Option<Variation>,
    /// Image to image.
    #[serde(default, skip_serializing_if = "is_default")]
    pub init: Option<InitImage>,
    /// Inpainting: white is drawn anew, black stays.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mask: Option<ImageId>,
    /// With a mask: only what is around it is drawn; none draws the whole picture.
    #[serde(default, skip_serializing_if = "is_default")]
    pub region: Option<Region>,
    /// Outpainting: the picture that is begun from gets so much around it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub outpaint: Option<Margins>,
    /// The picture that is begun from is made larger, then drawn over in tiles at its strength.
    #[serde(default, skip_serializing_if = "is_default")]
    pub upscale: Option<Upscale>,
    /// Pictures whose looks are to be kept.
    #[serde(default, skip_serializing_if = "is_default")]
    pub references: Vec<Reference>,
    /// How the cast's pictures work; none is as usual.
    #[serde(default, skip_serializing_if = "is_default")]
    pub likeness: Option<Likeness>,
    /// ControlNets that the picture follows, together.
    #[serde(default, skip_serializing_if = "is_default")]
    pub control: Vec<Control>,
    /// Fields of a newer Vokenboard, kept as they are.
    #[serde(flatten)]
    pub unknown: UnknownFields,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            seed: 0,
            guidance: 2.5,
            steps: 25,
            scheduler: SchedulerName::default(),
            temperature: 0.8,
            top_p: 0.9,
            top_k: None,
            min_p: None,
            repetition_penalty: None,
            length: None,
            tone: String::new(),
            size: None,
            negative: String::new(),
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
            likeness: None,
            control: Vec::new(),
            unknown: UnknownFields::new(),
        }
    }
}

impl Settings {
    /// Every picture that these settings name.
    ///
    /// ```
    /// use vokenboard::story::{ImageId, Settings};
    ///
    /// let mask = ImageId::of(&image::RgbaImage::new(1, 1));
    /// let settings = Settings { mask: Some(mask.clone()), ..Settings::default() };
    /// assert_eq!(settings.images().collect::<Vec<_>>(), [&mask]);
    /// ```
    pub fn images(&self) -> impl Iterator<Item = &ImageId> {
        let init = self.init.iter().map(|init| &init.image);
        let references = self.references.iter().map(|reference| &reference.image);
        let control = self.control.iter().map(|control| &control.image);
        init.chain(&self.mask).chain(references).chain(control)
    }
}

/// A scheduler by its name, such as `euler`; whoever draws knows which names there are.
///
/// ```
/// use vokenboard::story::SchedulerName;
///
/// assert_eq!(SchedulerName::from("dpm++").to_string(), "dpm++");
/// assert_eq!(SchedulerName::default().as_str(), "ddim");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SchedulerName(String);

impl SchedulerName {
    /// The name as it is written in `story.json`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SchedulerName {
    fn default() -> SchedulerName {
        SchedulerName::from("ddim")
    }
}

impl From<&str> for SchedulerName {
    fn from(name: &str) -> SchedulerName {
        SchedulerName(name.to_string())
    }
}

impl fmt::Display for SchedulerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
