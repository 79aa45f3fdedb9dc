//! Z-Image's transformer, with candle-transformers' configuration.
//!
//! candle's own network hides the tokens that fill text and picture up to a multiple of 32 and
//! leaves the learnt ones out, which the published model sees, and its attention holds the scores of
//! all tokens to all others at once.

use super::Cancelled;
use super::layers::{
    HeadNorms, Layer, Layers, PATCH, PatchOrder, attend, norm_heads, of_tokens, sinusoids,
    to_tokens, turns, two,
};
use super::names;
use super::source::{StorageType, Weights, WeightsFile, asked_of_ours};
use crate::diffusion::DiffusionError;
use crate::nn::{Result as TensorResult, layer_norm, rms_norm, silu, swiglu};
use candle_core::{DType, Device, Tensor};
use candle_transformers::models::z_image::transformer::{
    ADALN_EMBED_DIM, Config, FREQUENCY_EMBEDDING_SIZE, SEQ_MULTI_OF,
};
use serde_json::{Map, Value};

/// What `transformer/config.json` says.
#[derive(Clone, Debug)]
pub(super) struct ZImageConfig(Config);

impl ZImageConfig {
    /// Z-Image and Z-Image Turbo, whose transformers have one shape.
    pub(super) fn published() -> Self {
        Self(Config::z_image_turbo())
    }

    /// # Errors
    /// A setting that is not read, by its name.
    pub(super) fn read(mut json: Map<String, Value>) -> Result<Self, String> {
        const KNOWN: [&str; 15] = [
            "all_patch_size",
            "all_f_patch_size",
            "in_channels",
            "dim",
            "n_layers",
            "n_refiner_layers",
            "n_heads",
            "n_kv_heads",
            "norm_eps",
            "qk_norm",
            "cap_feat_dim",
            "rope_theta",
            "t_scale",
            "axes_dims",
            "axes_lens",
        ];
        json.retain(|key, value| !key.starts_with('_') && !value.is_null());
        if let Some((key, value)) = json.iter().find(|(key, _)| !KNOWN.contains(&key.as_str())) {
            return Err(format!(
                "the transformer's {key} is {value}, which isn't supported"
            ));
        }
        let mut config: Config = serde_json::from_value(json.into()).map_err(|e| e.to_string())?;
        // diffusers reads no such number.
        config.n_kv_heads = config.n_heads;
        let axes: usize = config.axes_dims.iter().sum();
        let heads = config.n_heads.max(1);
        if config.all_patch_size != [PATCH] || config.all_f_patch_size != [1] {
            return Err(format!(
                "the transformer's all_patch_size is {:?}, which isn't supported",
                config.all_patch_size
            ));
        }
        if !config.dim.is_multiple_of(heads)
            || axes != config.dim / heads
            || config.axes_dims.len() != 3
            || config.axes_lens.len() != 3
            || !config.dim.is_multiple_of(3)
        {
            return Err(format!(
                "the transformer's width {} does not go with its {heads} heads and axes_dims {:?}",
                config.dim, config.axes_dims
            ));
        }
        Ok(Self(config))
    }

    /// Most latents of a side.
    pub(super) fn longest_side(&self) -> usize {
        PATCH * self.0.axes_lens[1].min(self.0.axes_lens[2])
    }

    /// Most tokens of a prompt, so that it can be told from the picture by its place.
    pub(super) fn text_tokens(&self) -> usize {
        let places = self.0.axes_lens[0].saturating_sub(2);
        (places / SEQ_MULTI_OF * SEQ_MULTI_OF).min(512)
    }

    /// Width of the text states.
    pub(super) fn text_width(&self) -> usize {
        self.0.cap_feat_dim
    }

    /// Numbers of a token inside of a block at once.
    pub(super) fn work_per_token(&self) -> u64 {
        (10 * self.0.dim + 3 * self.0.hidden_dim()) as u64
    }

    /// Finds the weights in `file`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub(super) fn weights(&self, file: &WeightsFile) -> Result<Weights, DiffusionError> {
        let width = self.0.dim;
        let asked = asked_of_ours(file.path(), |p| ZImageNetwork::new(&self.0, p))?;
        Weights::find(
            file,
            "the transformer",
            StorageType::Widened,
            asked,
            |name| names::z_image(name, width),
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
    ) -> Result<ZImageNetwork, DiffusionError> {
        weights.load_layers(device, |p| ZImageNetwork::new(&self.0, p))
    }
}

/// Of the norms of queries and keys.
const HEAD_EPS: f64 = 1e-5;

/// The transformer in memory.
pub(super) struct ZImageNetwork {
    config: Config,
    time: [Layer; 2],
    text_norm: Tensor,
    text: Layer,
    picture: Layer,
    noise_refiner: Vec<Block>,
    context_refiner: Vec<Block>,
    layers: Vec<Block>,
    last_scale: Layer,
    last: Layer,
    /// What fills the picture up, and what fills the text up: `[1,C]`.
    pads: (Tensor, Tensor),
}

impl ZImageNetwork {
    fn new(config: &Config, p: &Layers) -> TensorResult<Self> {
        let (dim, text) = (config.dim, config.cap_feat_dim);
        let patch = PATCH * PATCH * config.in_channels;
        let time = dim.min(ADALN_EMBED_DIM);
        let blocks = |name: &str, count: usize, modulated: bool| {
            let of = |i| Block::new(config, modulated, &p.pp(name).pp(i));
            (0..count).map(of).collect::<TensorResult<Vec<_>>>()
        };
        let mlp = p.pp("t_embedder.mlp");
        let last = p.pp("all_final_layer.2-1");
        Ok(Self {
            time: [
                mlp.linear("0", FREQUENCY_EMBEDDING_SIZE, 1024, true)?,
                mlp.linear("2", 1024, time, true)?,
            ],
            text_norm: p.vector("cap_embedder.0.weight", text)?,
            text: p.linear("cap_embedder.1", text, dim, true)?,
            picture: p.linear("all_x_embedder.2-1", patch, dim, true)?,
            noise_refiner: blocks("noise_refiner", config.n_refiner_layers, true)?,
            context_refiner: blocks("context_refiner", config.n_refiner_layers, false)?,
            layers: blocks("layers", config.n_layers, true)?,
            last_scale: last.linear("adaLN_modulation.1", time, dim, true)?,
            last: last.linear("linear", dim, patch, true)?,
            pads: (p.row("x_pad_token", dim)?, p.row("cap_pad_token", dim)?),
            config: config.clone(),
        })
    }

    /// The velocity `[1,h,w,16]` at `latents [1,h,w,16]` and noise level `sigma`, for text states
    /// `[1,T,C]`. None is cancelled, which is asked before every block.
    ///
    /// # Errors
    /// Sides that are odd, and what candle says.
    pub(super) fn predict(
        &self,
        latents: &Tensor,
        sigma: f64,
        states: &Tensor,
        cancelled: &mut Cancelled,
    ) -> TensorResult<Option<Tensor>> {
        let (_, h, w, _) = latents.dims4()?;
        let (device, kept) = (latents.device(), latents.dtype());
        let time = ((1.0 - sigma) * self.config.t_scale) as f32;
        let waves = sinusoids(time, FREQUENCY_EMBEDDING_SIZE, device)?;
        let time = two(&self.time, &waves.to_dtype(kept)?)?;

        let text = rms_norm(
            &states.to_dtype(kept)?,
            &self.text_norm,
            self.config.norm_eps,
        )?;
        let text = filled(&self.text.forward(&text)?, &self.pads.1)?;
        let words = text.dim(1)?;
        let text_places: Vec<[usize; 3]> = (0..words).map(|i| [1 + i, 0, 0]).collect();

        let tokens = to_tokens(latents, PatchOrder::ChannelsLast)?;
        let count = tokens.dim(1)?;
        let picture = filled(&self.picture.forward(&tokens)?, &self.pads.0)?;
        let columns = w / PATCH;
        let squares = (0..count).map(|i| [words + 1, i / columns, i % columns]);
        let mut places: Vec<[usize; 3]> = squares.collect();
        places.resize(picture.dim(1)?, [0; 3]);

        let text = self.through(&self.context_refiner, text, &text_places, None, cancelled)?;
        let time_of = Some(&time);
        let picture = self.through(&self.noise_refiner, picture, &places, time_of, cancelled)?;
        let (Some(text), Some(picture)) = (text, picture) else {
            return Ok(None);
        };
        let both = Tensor::cat(&[&picture, &text], 1)?;
        places.extend(text_places);
        let Some(both) = self.through(&self.layers, both, &places, time_of, cancelled)? else {
            return Ok(None);
        };
        let picture = both.narrow(1, 0, count)?;
        let scale = (self.last_scale.forward(&silu(&time)?)?.flatten_all()? + 1.0)?;
        let picture = layer_norm(&picture, &scale, &scale.zeros_like()?, 1e-6)?;
        let velocity = self.last.forward(&picture)?;
        let velocity = of_tokens(&velocity, (h, w), PatchOrder::ChannelsLast)?;
        // It points from noise to the picture, a scheduler's the other way.
        Ok(Some(velocity.to_dtype(DType::F32)?.neg()?))
    }

    fn through(
        &self,
        blocks: &[Block],
        mut x: Tensor,
        places: &[[usize; 3]],
        time: Option<&Tensor>,
        cancelled: &mut Cancelled,
    ) -> TensorResult<Option<Tensor>> {
        let Config {
            axes_dims,
            rope_theta,
            n_heads,
            ..
        } = &self.config;
        let turns = turns(places, axes_dims, *rope_theta, x.device())?;
        for block in blocks {
            if cancelled() {
                return Ok(None);
            }
            x = block.forward(&x, time, &turns, *n_heads)?;
        }
        Ok(Some(x))
    }
}

/// Attention and a wide layer, each with a norm before and one behind it.
struct Block {
    eps: f64,
    queries: [Layer; 3],
    heads: Option<HeadNorms>,
    out: Layer,
    wide: [Layer; 3],
    /// Before and behind attention, before and behind the wide layer.
    norms: [Tensor; 4],
    modulation: Option<Layer>,
}

impl Block {
    fn new(config: &Config, modulated: bool, p: &Layers) -> TensorResult<Self> {
        let (dim, inner) = (config.dim, config.hidden_dim());
        let (attention, feed) = (p.pp("attention"), p.pp("feed_forward"));
        let plain = |name: &str| attention.linear(name, dim, dim, false);
        let norm = |name: &str| p.vector(&format!("{name}.weight"), dim);
        Ok(Self {
            eps: config.norm_eps,
            queries: [plain("to_q")?, plain("to_k")?, plain("to_v")?],
            heads: match config.qk_norm {
                true => Some(HeadNorms {
                    query: attention.vector("norm_q.weight", config.head_dim())?,
                    key: attention.vector("norm_k.weight", config.head_dim())?,
                    eps: HEAD_EPS,
                }),
                false => None,
            },
            out: plain("to_out.0")?,
            wide: [
                feed.linear("w1", dim, inner, false)?,
                feed.linear("w2", inner, dim, false)?,
                feed.linear("w3", dim, inner, false)?,
            ],
            norms: [
                norm("attention_norm1")?,
                norm("attention_norm2")?,
                norm("ffn_norm1")?,
                norm("ffn_norm2")?,
            ],
            modulation: match modulated {
                true => {
                    let time = dim.min(ADALN_EMBED_DIM);
                    Some(p.linear("adaLN_modulation.0", time, 4 * dim, true)?)
                }
                false => None,
            },
        })
    }

    fn forward(
        &self,
        x: &Tensor,
        time: Option<&Tensor>,
        turns: &Tensor,
        heads: usize,
    ) -> TensorResult<Tensor> {
        let change = match (&self.modulation, time) {
            (Some(layer), Some(time)) => {
                let parts = layer.forward(time)?.flatten_all()?.chunk(4, 0)?;
                let [scale, gate, wide_scale, wide_gate] = parts.as_slice() else {
                    candle_core::bail!("a layer's output is too narrow");
                };
                let two = |scale: &Tensor, gate: &Tensor| Ok(((scale + 1.0)?, gate.tanh()?));
                let both: TensorResult<_> = two(scale, gate);
                Some([both?, two(wide_scale, wide_gate)?])
            }
            _ => None,
        };
        let change = |i: usize| change.as_ref().map(|parts| &parts[i]);
        let x = self.half(x, 0, change(0), |x| self.attention(x, turns, heads))?;
        self.half(&x, 2, change(1), |x| {
            let wide = swiglu(&self.wide[0].forward(x)?, &self.wide[2].forward(x)?)?;
            self.wide[1].forward(&wide)
        })
    }

    /// `x` with what `inner` makes of it, between the norms `first` and the next.
    fn half(
        &self,
        x: &Tensor,
        first: usize,
        change: Option<&(Tensor, Tensor)>,
        inner: impl FnOnce(&Tensor) -> TensorResult<Tensor>,
    ) -> TensorResult<Tensor> {
        let before = &self.norms[first];
        let before = match change {
            Some((scale, _)) => (before * scale.to_dtype(DType::F32)?)?,
            None => before.clone(),
        };
        let found = inner(&rms_norm(x, &before, self.eps)?)?;
        let found = rms_norm(&found, &self.norms[first + 1], self.eps)?;
        match change {
            Some((_, gate)) => x + found.broadcast_mul(gate)?,
            None => x + found,
        }
    }

    fn attention(&self, x: &Tensor, turns: &Tensor, heads: usize) -> TensorResult<Tensor> {
        let [q, k, v] = &self.queries;
        let (mut q, mut k, v) = (q.forward(x)?, k.forward(x)?, v.forward(x)?);
        if let Some(norms) = &self.heads {
            q = norm_heads(&q, &norms.query, norms.eps)?;
            k = norm_heads(&k, &norms.key, norms.eps)?;
        }
        self.out.forward(&attend((&q, &k, &v), turns, heads)?)
    }
}

/// Tokens `[1,T,C]` filled up to a multiple of 32 with `pad [1,C]`.
fn filled(x: &Tensor, pad: &Tensor) -> TensorResult<Tensor> {
    let (_, tokens, width) = x.dims3()?;
    match tokens.next_multiple_of(SEQ_MULTI_OF) - tokens {
        0 => Ok(x.clone()),
        more => {
            let pad = pad.to_dtype(x.dtype())?.unsqueeze(0)?;
            let pad = pad.broadcast_as((1, more, width))?.contiguous()?;
            Tensor::cat(&[x, &pad], 1)
        }
    }
}
