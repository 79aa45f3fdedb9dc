//! diffusers' `Transformer2DModel`: attention among a picture's places and from them to the text.

use super::bank::{ReferenceBank, TokenSelection};
use super::reference::{Places, TokenPositions};
use crate::nn::{
    Array, Conv2d, ConvOptions, GroupNorm, Init, LayerNorm, Linear, Mask, Params, Result, dims_of,
};
use candle_core::Tensor;
use std::cell::RefCell;
use std::sync::Arc;

/// An image prompt beside the text (IP-Adapter, arXiv 2308.06721).
#[derive(Clone, Debug)]
pub struct ImagePrompt {
    /// Keys and values of each cross-attention for picture tokens.
    pub layers: Arc<ImageLayers>,
    /// `[B,N,C]`.
    pub tokens: Tensor,
    /// How much of it is added to what the text gives.
    pub scale: f64,
}

/// For each cross-attention, the IP-Adapter's projections of picture tokens to keys and values.
#[derive(Clone, Debug)]
pub struct ImageLayers(pub Vec<(Linear, Linear)>);

/// What the attentions of a pass read beside the latents: text states, image prompt, references.
pub(super) struct AttentionContext<'a, A> {
    pub text: &'a A,
    pub image: Option<&'a ImagePrompt>,
    pub beside: ReferenceAttention<'a>,
    /// Where the tokens stand, for a UNet that draws from references.
    pub placed: Option<TokenPositions<'a>>,
}

impl<A> Clone for AttentionContext<'_, A> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for AttentionContext<'_, A> {}

/// How self-attention takes part in reference attention: it records, reads, or does neither.
#[derive(Clone, Copy)]
pub(super) enum ReferenceAttention<'a> {
    Nothing,
    /// Keeps its keys and values.
    Keep(&'a RefCell<ReferenceBank>, TokenSelection),
    /// Sees those that were kept beside its own.
    See(&'a ReferenceBank),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct TransformerShape {
    pub channels: usize,
    pub heads: usize,
    pub depth: usize,
    /// The number of its first attention to the text, among those of the whole network.
    pub first: usize,
    /// Width of the text states.
    pub text: usize,
    pub groups: usize,
    /// Whether `proj_in` and `proj_out` are stored as linear layers or as 1x1 convolutions.
    pub linear: bool,
    /// How often the latents were halved.
    pub level: usize,
    /// Whether self-attention takes references in.
    pub references: bool,
}

#[derive(Clone, Debug)]
enum Projection {
    Linear(Linear),
    Conv(Conv2d),
}

impl Projection {
    fn new(p: &Params, channels: usize, linear: bool, init: Option<Init>) -> Result<Self> {
        let same = ConvOptions::same(1);
        Ok(match (linear, init) {
            (true, None) => Self::Linear(p.linear(channels, channels, true)?),
            (true, Some(i)) => Self::Linear(p.linear_init(channels, channels, true, i)?),
            (false, None) => Self::Conv(p.conv2d(channels, channels, 1, same)?),
            (false, Some(i)) => Self::Conv(p.conv2d_init(channels, channels, 1, same, i)?),
        })
    }

    fn forward<A: Array>(&self, x: &A) -> Result<A> {
        match self {
            Self::Linear(l) => l.forward(x),
            Self::Conv(c) => c.forward(x),
        }
    }

    fn forward_plus<A: Array>(&self, x: &A, more: &A) -> Result<A> {
        match self {
            Self::Linear(l) => l.forward_plus(x, more),
            Self::Conv(c) => c.forward_plus(x, more),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Transformer {
    norm: GroupNorm,
    proj_in: Projection,
    blocks: Vec<Block>,
    proj_out: Projection,
}

impl Transformer {
    /// A new one begins as the identity (`proj_out` at zero).
    pub(super) fn new(p: &Params, s: TransformerShape) -> Result<Self> {
        let blocks = (0..s.depth)
            .map(|i| Block::new(&p.pp("transformer_blocks").pp(i), s, s.first + i))
            .collect::<Result<_>>()?;
        Ok(Self {
            // diffusers fixes this epsilon, whatever the configuration's norm_eps says.
            norm: p.pp("norm").group_norm(s.groups, s.channels, 1e-6)?,
            proj_in: Projection::new(&p.pp("proj_in"), s.channels, s.linear, None)?,
            blocks,
            proj_out: Projection::new(&p.pp("proj_out"), s.channels, s.linear, Some(Init::Zeros))?,
        })
    }

    /// `x [B,H,W,C]` -> `[B,H,W,C]`.
    pub(super) fn forward<A: Array>(&self, x: &A, seen: AttentionContext<A>) -> Result<A> {
        let [b, h, w, c] = dims_of(x)?;
        let y = self.proj_in.forward(&self.norm.forward(x)?)?;
        let mut y = y.reshape(&[b, h * w, c])?;
        for block in &self.blocks {
            y = block.forward(&y, seen)?;
        }
        self.proj_out.forward_plus(&y.reshape(&[b, h, w, c])?, x)
    }
}

#[derive(Clone, Debug)]
struct Block {
    norm1: LayerNorm,
    itself: Attention,
    places: Option<Places>,
    norm2: LayerNorm,
    to_text: Attention,
    /// The number of the attention to the text.
    number: usize,
    norm3: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

impl Block {
    fn new(p: &Params, s: TransformerShape, number: usize) -> Result<Self> {
        let c = s.channels;
        Ok(Self {
            norm1: p.pp("norm1").layer_norm(c, 1e-5)?,
            itself: Attention::new(&p.pp("attn1"), c, c, s.heads)?,
            places: match s.references {
                true => Some(Places::new(&p.pp("attn1"), c, s.level, number)?),
                false => None,
            },
            norm2: p.pp("norm2").layer_norm(c, 1e-5)?,
            to_text: Attention::new(&p.pp("attn2"), c, s.text, s.heads)?,
            number,
            norm3: p.pp("norm3").layer_norm(c, 1e-5)?,
            widen: p.pp("ff.net.0.proj").linear(c, 8 * c, true)?,
            narrow: p.pp("ff.net.2").linear(4 * c, c, true)?,
        })
    }

    fn forward<A: Array>(&self, x: &A, seen: AttentionContext<A>) -> Result<A> {
        let n = self.norm1.forward(x)?;
        let own = match (&self.places, seen.placed) {
            (Some(places), Some(placed)) => self.itself.forward_placed(&n, places, placed)?,
            _ => self.itself.beside(&n, self.number, seen.beside)?,
        };
        let x = self.itself.out.forward_plus(&own, x)?;
        let n = self.norm2.forward(&x)?;
        let image = match seen.image {
            Some(image) => {
                let Some((k, v)) = image.layers.0.get(self.number) else {
                    candle_core::bail!(
                        "the IP-Adapter has too few layers for this model; use one made for it"
                    );
                };
                let tokens = &x.beside(&image.tokens)?;
                Some((k.forward(tokens)?, v.forward(tokens)?, image.scale))
            }
            None => None,
        };
        let found = self.to_text.forward(&n, seen.text, image)?;
        let x = self.to_text.out.forward_plus(&found, &x)?;
        let wide = self.widen.forward_geglu(&self.norm3.forward(&x)?)?;
        self.narrow.forward_plus(&wide, &x)
    }
}

#[derive(Clone, Debug)]
struct Attention {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    heads: usize,
}

impl Attention {
    fn new(p: &Params, channels: usize, seen: usize, heads: usize) -> Result<Self> {
        if heads == 0 || !channels.is_multiple_of(heads) {
            candle_core::bail!("{channels} channels can't be split into {heads} attention heads");
        }
        Ok(Self {
            q: p.pp("to_q").linear(channels, channels, false)?,
            k: p.pp("to_k").linear(seen, channels, false)?,
            v: p.pp("to_v").linear(seen, channels, false)?,
            out: p.pp("to_out.0").linear(channels, channels, true)?,
            heads,
        })
    }

    /// What the output layer reads, as the two that follow: from `x` to itself, and to what was kept of other pictures for the attention `number`.
    fn beside<A: Array>(&self, x: &A, number: usize, beside: ReferenceAttention) -> Result<A> {
        let (q, k, v) = (self.q.forward(x)?, self.k.forward(x)?, self.v.forward(x)?);
        let (k, v) = match beside {
            ReferenceAttention::Nothing => (k, v),
            ReferenceAttention::Keep(bank, pick) => {
                bank.borrow_mut().keep(number, &k, &v, pick)?;
                (k, v)
            }
            ReferenceAttention::See(bank) => bank.join(number, k, v)?,
        };
        self.attend(&q, &k, &v, &Mask::None)
    }

    fn attend<A: Array>(&self, q: &A, k: &A, v: &A, mask: &Mask) -> Result<A> {
        q.attention(k, v, (self.heads, self.heads), mask)
    }

    /// From `x` to itself and to references, by what each token holds and where it stands.
    fn forward_placed<A: Array>(
        &self,
        x: &A,
        places: &Places,
        placed: TokenPositions,
    ) -> Result<A> {
        let joined = places.join(x, placed)?;
        let q = self.q.forward(x)?.plus(&joined.query)?;
        let k = self.k.forward(&joined.tokens)?.plus(&joined.key)?;
        let v = self.v.forward(&joined.tokens)?;
        self.attend(&q, &k, &v, &joined.mask)
    }

    /// From `x` to `seen`, and to keys and values of a picture, of which so much is added.
    fn forward<A: Array>(&self, x: &A, seen: &A, image: Option<(A, A, f64)>) -> Result<A> {
        let (q, k, v) = (
            self.q.forward(x)?,
            self.k.forward(seen)?,
            self.v.forward(seen)?,
        );
        let mut found = self.attend(&q, &k, &v, &Mask::None)?;
        if let Some((k, v, scale)) = image {
            let more = self.attend(&q, &k, &v, &Mask::None)?;
            found = found.plus(&more.scaled(scale)?)?;
        }
        Ok(found)
    }
}
