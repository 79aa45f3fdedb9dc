//! FLUX.1's transformer, from safetensors or a GGUF file.
//!
//! candle-transformers has one as well, whose attention holds the scores of all tokens to all others
//! at once and which in half precision turns positions by angles rounded to bf16.

use super::Cancelled;
use super::layers::{
    HeadNorms, Layer, Layers, PATCH, PatchOrder, attend, norm_heads, of_tokens, sinusoids,
    to_tokens, turns, two,
};
use super::names;
use super::source::{StorageType, Weights, WeightsFile, asked_of_ours};
use crate::diffusion::DiffusionError;
use crate::diffusion::settings::{UnknownSettings, read_others, refuse};
use crate::nn::{Result as TensorResult, gelu_tanh, layer_norm, silu};
use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use std::iter;

/// diffusers' `FluxTransformer2DModel` configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub(super) struct FluxConfig {
    patch_size: usize,
    in_channels: usize,
    out_channels: Option<usize>,
    num_layers: usize,
    num_single_layers: usize,
    attention_head_dim: usize,
    num_attention_heads: usize,
    joint_attention_dim: usize,
    pooled_projection_dim: usize,
    pub guidance_embeds: bool,
    axes_dims_rope: Vec<usize>,
    #[serde(flatten, deserialize_with = "read_others")]
    others: UnknownSettings,
}

impl Default for FluxConfig {
    /// The published models, which differ in `guidance_embeds` only.
    fn default() -> Self {
        Self {
            patch_size: 1,
            in_channels: 64,
            out_channels: None,
            num_layers: 19,
            num_single_layers: 38,
            attention_head_dim: 128,
            num_attention_heads: 24,
            joint_attention_dim: 4096,
            pooled_projection_dim: 768,
            guidance_embeds: false,
            axes_dims_rope: vec![16, 56, 56],
            others: UnknownSettings::new(),
        }
    }
}

impl FluxConfig {
    /// The published configuration, for a file that does or does not take guidance as an input.
    pub(super) fn published(guidance_embeds: bool) -> Self {
        Self {
            guidance_embeds,
            ..Self::default()
        }
    }

    /// Checks what the network can't be told.
    ///
    /// # Errors
    /// One sentence naming the setting.
    pub(super) fn check(&self) -> TensorResult<()> {
        refuse("the transformer", &self.others, &[], &[])?;
        let Self {
            attention_head_dim: head,
            axes_dims_rope: axes,
            ..
        } = self;
        if self.patch_size != 1
            || self.in_channels != 64
            || self.out_channels.is_some_and(|c| c != 64)
        {
            candle_core::bail!(
                "the transformer reads {} channels in patches of {}, which plain FLUX.1 does not; its kinds for other tasks are not supported",
                self.in_channels,
                self.patch_size
            );
        }
        if axes.len() != 3 || axes.iter().sum::<usize>() != *head || axes.iter().any(|a| a % 2 == 1)
        {
            candle_core::bail!(
                "the transformer's axes_dims_rope {axes:?} don't make up its heads of {head}"
            );
        }
        Ok(())
    }

    /// Width of the tokens.
    pub(super) fn hidden(&self) -> usize {
        self.attention_head_dim * self.num_attention_heads
    }

    /// Numbers of a token inside of a block at once: queries, keys and values before and after their
    /// norms, and the wide layer.
    pub(super) fn work_per_token(&self) -> u64 {
        (20 * self.hidden()) as u64
    }

    /// Most tokens of T5 for a prompt, as the published pipelines have it.
    pub(super) fn text_tokens(&self) -> usize {
        match self.guidance_embeds {
            true => 512,
            false => 256,
        }
    }

    /// Finds the weights in `file`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub(super) fn weights(&self, file: &WeightsFile) -> Result<Weights, DiffusionError> {
        let asked = asked_of_ours(file.path(), |p| FluxNetwork::new(self, p))?;
        let hidden = self.hidden();
        Weights::find(
            file,
            "the transformer",
            StorageType::Widened,
            asked,
            |name| names::flux(name, hidden),
        )
    }

    /// Loads the network.
    ///
    /// # Errors
    /// A file that vanished or is damaged, or NaN among the weights.
    pub(super) fn load(
        &self,
        weights: &Weights,
        device: &Device,
    ) -> Result<FluxNetwork, DiffusionError> {
        weights.load_layers(device, |p| FluxNetwork::new(self, p))
    }
}

/// Base of the angles by which places turn.
const THETA: f64 = 10_000.0;
/// Width of a timestep's sinusoids.
const WAVES: usize = 256;
/// Of all norms.
const EPS: f64 = 1e-6;

/// The transformer in memory.
pub(super) struct FluxNetwork {
    heads: usize,
    axes: Vec<usize>,
    picture: Layer,
    text: Layer,
    time: [Layer; 2],
    pooled: [Layer; 2],
    guidance: Option<[Layer; 2]>,
    double: Vec<DoubleBlock>,
    single: Vec<SingleBlock>,
    last_modulation: Layer,
    last: Layer,
}

impl FluxNetwork {
    fn new(config: &FluxConfig, p: &Layers) -> TensorResult<Self> {
        let hidden = config.hidden();
        let embedder = |name: &str, inp: usize| -> TensorResult<[Layer; 2]> {
            let p = p.pp(name);
            Ok([
                p.linear("in_layer", inp, hidden, true)?,
                p.linear("out_layer", hidden, hidden, true)?,
            ])
        };
        let double = |i| DoubleBlock::new(config, &p.pp("double_blocks").pp(i));
        let single = |i| SingleBlock::new(config, &p.pp("single_blocks").pp(i));
        Ok(Self {
            heads: config.num_attention_heads,
            axes: config.axes_dims_rope.clone(),
            picture: p.linear("img_in", config.in_channels, hidden, true)?,
            text: p.linear("txt_in", config.joint_attention_dim, hidden, true)?,
            time: embedder("time_in", WAVES)?,
            pooled: embedder("vector_in", config.pooled_projection_dim)?,
            guidance: match config.guidance_embeds {
                true => Some(embedder("guidance_in", WAVES)?),
                false => None,
            },
            double: (0..config.num_layers)
                .map(double)
                .collect::<TensorResult<_>>()?,
            single: (0..config.num_single_layers)
                .map(single)
                .collect::<TensorResult<_>>()?,
            last_modulation: p.linear(
                "final_layer.adaLN_modulation.1",
                hidden,
                2 * hidden,
                true,
            )?,
            last: p.linear("final_layer.linear", hidden, config.in_channels, true)?,
        })
    }

    /// The velocity `[1,h,w,16]` at `latents [1,h,w,16]` and noise level `sigma`, for text states
    /// `[1,T,C]` and the pooled state `[1,P]`; `guidance` is read where the model was distilled so.
    /// None is cancelled, which is asked before every block.
    ///
    /// # Errors
    /// Shapes that don't fit, and what candle says.
    pub(super) fn predict(
        &self,
        latents: &Tensor,
        sigma: f64,
        (states, pooled): (&Tensor, &Tensor),
        guidance: f64,
        cancelled: &mut Cancelled,
    ) -> TensorResult<Option<Tensor>> {
        let (_, h, w, _) = latents.dims4()?;
        let (device, kept) = (latents.device(), latents.dtype());
        let waves = |value: f64| sinusoids(value as f32 * 1000.0, WAVES, device)?.to_dtype(kept);
        let mut vector = two(&self.time, &waves(sigma)?)?;
        if let Some(layers) = &self.guidance {
            vector = (vector + two(layers, &waves(guidance)?)?)?;
        }
        let vector = silu(&(vector + two(&self.pooled, &pooled.to_dtype(kept)?)?)?)?;

        let mut text = self.text.forward(&states.to_dtype(kept)?)?;
        let words = text.dim(1)?;
        let tokens = to_tokens(latents, PatchOrder::ChannelsFirst)?;
        let mut picture = self.picture.forward(&tokens)?;
        let columns = w / PATCH;
        let squares = (0..h / PATCH * columns).map(|i| [0, i / columns, i % columns]);
        let places: Vec<[usize; 3]> = iter::repeat_n([0; 3], words).chain(squares).collect();
        let turns = turns(&places, &self.axes, THETA, device)?;

        for block in &self.double {
            if cancelled() {
                return Ok(None);
            }
            (picture, text) = block.forward((&picture, &text), &vector, &turns, self.heads)?;
        }
        let mut both = Tensor::cat(&[&text, &picture], 1)?;
        for block in &self.single {
            if cancelled() {
                return Ok(None);
            }
            both = block.forward(&both, &vector, &turns, self.heads)?;
        }
        let picture = both.narrow(1, words, picture.dim(1)?)?;
        let change = Modulation::of(&self.last_modulation, &vector, 2)?;
        let velocity = self.last.forward(&change.modulated(&picture, 0)?)?;
        let velocity = of_tokens(&velocity, (h, w), PatchOrder::ChannelsFirst)?;
        Ok(Some(velocity.to_dtype(DType::F32)?))
    }
}

/// Shifts, scales and gates that a timestep asks for, `[C]` each.
struct Modulation(Vec<Tensor>);

impl Modulation {
    /// What `layer` makes of `vector [1,C]`, in `parts`.
    fn of(layer: &Layer, vector: &Tensor, parts: usize) -> TensorResult<Self> {
        Ok(Self(layer.forward(vector)?.flatten_all()?.chunk(parts, 0)?))
    }

    fn part(&self, i: usize) -> TensorResult<&Tensor> {
        let missing = || candle_core::Error::Msg("a layer's output is too narrow".into());
        self.0.get(i).ok_or_else(missing)
    }

    /// The norm of `x [1,T,C]`, shifted by part `first` and scaled by the next one.
    fn modulated(&self, x: &Tensor, first: usize) -> TensorResult<Tensor> {
        let scale = (self.part(first + 1)? + 1.0)?;
        layer_norm(x, &scale, self.part(first)?, EPS)
    }

    /// `x` and as much of what a layer `found` as the gate `i` lets through.
    fn gated(&self, x: &Tensor, found: &Tensor, i: usize) -> TensorResult<Tensor> {
        x + found.broadcast_mul(self.part(i)?)?
    }
}

fn head_norms(config: &FluxConfig, p: &Layers) -> TensorResult<HeadNorms> {
    let width = config.attention_head_dim;
    Ok(HeadNorms {
        query: p.vector("query_norm.scale", width)?,
        key: p.vector("key_norm.scale", width)?,
        eps: EPS,
    })
}

/// Queries, keys and values of `both [1,T,3C]`, the first two with their norms.
fn heads_of(both: &Tensor, norms: &HeadNorms, width: usize) -> TensorResult<[Tensor; 3]> {
    let part = |i: usize| both.narrow(2, i * width, width);
    Ok([
        norm_heads(&part(0)?, &norms.query, norms.eps)?,
        norm_heads(&part(1)?, &norms.key, norms.eps)?,
        part(2)?,
    ])
}

/// The picture's or the text's half of a block that treats them apart.
struct Stream {
    width: usize,
    modulation: Layer,
    qkv: Layer,
    norms: HeadNorms,
    out: Layer,
    mlp: [Layer; 2],
}

impl Stream {
    fn new(config: &FluxConfig, p: &Layers, name: &str) -> TensorResult<Self> {
        let width = config.hidden();
        let attention = p.pp(format!("{name}_attn"));
        let mlp = p.pp(format!("{name}_mlp"));
        Ok(Self {
            width,
            modulation: p.linear(&format!("{name}_mod.lin"), width, 6 * width, true)?,
            qkv: attention.linear("qkv", width, 3 * width, true)?,
            norms: head_norms(config, &attention.pp("norm"))?,
            out: attention.linear("proj", width, width, true)?,
            mlp: [
                mlp.linear("0", width, 4 * width, true)?,
                mlp.linear("2", 4 * width, width, true)?,
            ],
        })
    }

    /// What it is looked at with: queries, keys and values.
    fn ask(&self, x: &Tensor, change: &Modulation) -> TensorResult<[Tensor; 3]> {
        let both = self.qkv.forward(&change.modulated(x, 0)?)?;
        heads_of(&both, &self.norms, self.width)
    }

    /// `x` with what was found.
    fn take(&self, x: &Tensor, found: &Tensor, change: &Modulation) -> TensorResult<Tensor> {
        let x = change.gated(x, &self.out.forward(found)?, 2)?;
        let wide = gelu_tanh(&self.mlp[0].forward(&change.modulated(&x, 3)?)?)?;
        change.gated(&x, &self.mlp[1].forward(&wide)?, 5)
    }
}

/// A block that treats picture and text apart but for what they look at.
struct DoubleBlock {
    picture: Stream,
    text: Stream,
}

impl DoubleBlock {
    fn new(config: &FluxConfig, p: &Layers) -> TensorResult<Self> {
        Ok(Self {
            picture: Stream::new(config, p, "img")?,
            text: Stream::new(config, p, "txt")?,
        })
    }

    fn forward(
        &self,
        (picture, text): (&Tensor, &Tensor),
        vector: &Tensor,
        turns: &Tensor,
        heads: usize,
    ) -> TensorResult<(Tensor, Tensor)> {
        let to_picture = Modulation::of(&self.picture.modulation, vector, 6)?;
        let to_text = Modulation::of(&self.text.modulation, vector, 6)?;
        let [pq, pk, pv] = self.picture.ask(picture, &to_picture)?;
        let [tq, tk, tv] = self.text.ask(text, &to_text)?;
        let join = |t: &Tensor, p: &Tensor| Tensor::cat(&[t, p], 1);
        let (q, k, v) = (join(&tq, &pq)?, join(&tk, &pk)?, join(&tv, &pv)?);
        let found = attend((&q, &k, &v), turns, heads)?;
        let words = text.dim(1)?;
        let of_picture = found.narrow(1, words, picture.dim(1)?)?;
        Ok((
            self.picture.take(picture, &of_picture, &to_picture)?,
            self.text
                .take(text, &found.narrow(1, 0, words)?, &to_text)?,
        ))
    }
}

/// A block that treats picture and text alike, with attention and the wide layer side by side.
struct SingleBlock {
    width: usize,
    modulation: Layer,
    inner: Layer,
    norms: HeadNorms,
    outer: Layer,
}

impl SingleBlock {
    fn new(config: &FluxConfig, p: &Layers) -> TensorResult<Self> {
        let width = config.hidden();
        Ok(Self {
            width,
            modulation: p.linear("modulation.lin", width, 3 * width, true)?,
            inner: p.linear("linear1", width, 7 * width, true)?,
            norms: head_norms(config, &p.pp("norm"))?,
            outer: p.linear("linear2", 5 * width, width, true)?,
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        vector: &Tensor,
        turns: &Tensor,
        heads: usize,
    ) -> TensorResult<Tensor> {
        let change = Modulation::of(&self.modulation, vector, 3)?;
        let inner = self.inner.forward(&change.modulated(x, 0)?)?;
        let [q, k, v] = heads_of(&inner, &self.norms, self.width)?;
        let wide = gelu_tanh(&inner.narrow(2, 3 * self.width, 4 * self.width)?)?;
        drop(inner);
        let found = attend((&q, &k, &v), turns, heads)?;
        let outer = self.outer.forward(&Tensor::cat(&[&found, &wide], 2)?)?;
        change.gated(x, &outer, 2)
    }
}
