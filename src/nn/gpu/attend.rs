//! Attention.

use super::device::Run;
use super::product::padded;
use super::tensor::GpuTensor;
use super::traffic;
use crate::nn::{Mask, Result};

/// Rows and keys of a tile.
const TILE: usize = 32;

/// Attention of a language model's tokens to those before them.
#[derive(Clone, Copy, Debug)]
pub struct CausalAttention<'a> {
    /// Heads of queries, and of keys and values.
    pub heads: (usize, usize),
    /// What products are multiplied by.
    pub scale: f32,
    /// Tokens that a token sees, itself among them, where it does not see all.
    pub window: Option<usize>,
    /// What scores are kept below, smoothly.
    pub cap: Option<f32>,
    /// One more logit for each head, `[heads]`, whose weight is dropped.
    pub sinks: Option<&'a GpuTensor>,
    /// Where the picture ends that the queries are of: they see each other whatever their order.
    pub picture: Option<usize>,
}

/// Which keys count, and how.
enum Seen<'a> {
    /// All, or those that a mask lets.
    Masked(&'a Mask),
    /// Those before.
    Causal(CausalAttention<'a>),
}

/// `q [B,Tq,heads*D]`, `k`/`v [B,Tk,kv_heads*D]` -> `[B,Tq,heads*D]`.
pub(super) fn attention(
    q: &GpuTensor,
    k: &GpuTensor,
    v: &GpuTensor,
    heads: (usize, usize),
    mask: &Mask,
) -> Result<GpuTensor> {
    let width = q.dims().last().map_or(0, |all| all / heads.0.max(1));
    let scale = 1.0 / (width as f32).sqrt();
    let causal = CausalAttention {
        heads,
        scale,
        window: None,
        cap: None,
        sinks: None,
        picture: None,
    };
    let seen = match mask {
        Mask::Causal => Seen::Causal(causal),
        mask => Seen::Masked(mask),
    };
    attend(q, k, v, (heads, scale), &seen)
}

impl GpuTensor {
    /// Attention of the last tokens of one text to all of it: `self [1,T,heads*D]` to
    /// `k`/`v [1,N,kv_heads*D]`.
    ///
    /// # Errors
    /// Shapes that don't fit, or a GPU that fails.
    pub fn causal_attention(&self, k: &Self, v: &Self, how: CausalAttention) -> Result<Self> {
        let (heads, scale) = (how.heads, how.scale);
        attend(self, k, v, (heads, scale), &Seen::Causal(how))
    }
}

fn attend(
    q: &GpuTensor,
    k: &GpuTensor,
    v: &GpuTensor,
    ((heads, kv_heads), scale): ((usize, usize), f32),
    seen: &Seen,
) -> Result<GpuTensor> {
    let (&[batch, queries, all], &[_, keys, _]) = (q.dims(), k.dims()) else {
        candle_core::bail!("attention of {:?} to {:?}", q.dims(), k.dims());
    };
    let width = all / heads.max(1);
    let there = [batch, keys, kv_heads * width];
    let fits = heads * width == all
        && kv_heads > 0
        && heads.is_multiple_of(kv_heads)
        && k.dims() == there
        && v.dims() == there
        && (queries <= keys || matches!(seen, Seen::Masked(_)));
    if !fits {
        candle_core::bail!(
            "attention of {heads} heads of {:?} to {:?} and {:?}",
            q.dims(),
            k.dims(),
            v.dims()
        );
    }
    let gpu = q.gpu();
    let y = GpuTensor::new(gpu, q.dims().to_vec())?;
    if y.count() == 0 {
        return Ok(y);
    }
    let more = match seen {
        Seen::Masked(Mask::Keys(mask)) if mask.elem_count() != batch * keys => {
            candle_core::bail!("a mask of {:?} for {batch} x {keys} keys", mask.dims());
        }
        Seen::Masked(Mask::Keys(mask)) => Some(gpu.remembered(mask)?),
        Seen::Masked(_) => None,
        Seen::Causal(how) => match how.sinks {
            Some(sinks) if sinks.dims() != [heads] => {
                candle_core::bail!("sinks of {:?} for {heads} heads", sinks.dims());
            }
            sinks => sinks.cloned(),
        },
    };
    let (window, picture, cap) = match seen {
        Seen::Causal(how) => (how.window, how.picture, how.cap),
        Seen::Masked(_) => (None, None, None),
    };
    let variant = Variant {
        width,
        quads: width.is_multiple_of(4),
        causal: matches!(seen, Seen::Causal(_)),
        windowed: window.is_some(),
        capped: cap.is_some(),
        sinks: matches!(seen, Seen::Causal(_)) && more.is_some(),
        masked: matches!(seen, Seen::Masked(_)) && more.is_some(),
    };
    let mut reads = vec![q.buffer(), k.buffer(), v.buffer()];
    reads.extend(more.as_ref().map(GpuTensor::buffer));
    let rows = queries * (heads / kv_heads);
    let tiles = rows.div_ceil(TILE);
    let mut sizes: Vec<u32> = [
        queries,
        keys,
        heads,
        kv_heads,
        width,
        window.unwrap_or(keys).min(keys),
        picture.unwrap_or(0),
        0,
    ]
    .map(|size| size as u32)
    .to_vec();
    sizes.extend([scale.to_bits(), cap.unwrap_or(1.0).to_bits()]);
    let read = traffic::attention(tiles, batch * kv_heads, k.bytes() + v.bytes());
    gpu.run(&Run {
        kernel: &variant.name(),
        source: &|| variant.source(),
        sizes: &padded(sizes),
        reads: &reads,
        writes: y.buffer(),
        groups: [tiles, kv_heads, batch].map(|groups| groups as u32),
        flops: (4 * batch * heads * queries * keys * width) as u64,
        bytes: q.bytes() + y.bytes() + k.bytes() + v.bytes(),
        moved: q.bytes() + y.bytes() + read,
    })?;
    Ok(y)
}

/// What the kernel is made for.
struct Variant {
    width: usize,
    /// Whether rows are read in fours.
    quads: bool,
    causal: bool,
    windowed: bool,
    capped: bool,
    sinks: bool,
    masked: bool,
}

impl Variant {
    fn name(&self) -> String {
        let mut name = format!("attention {}", self.width);
        for (there, what) in [
            (self.quads, " in fours"),
            (self.causal, " causal"),
            (self.windowed, " windowed"),
            (self.capped, " capped"),
            (self.sinks, " with sinks"),
            (self.masked, " masked"),
        ] {
            if there {
                name.push_str(what);
            }
        }
        name
    }

    fn source(&self) -> String {
        let quads = self.quads;
        let all = self.width.div_ceil(4);
        let parts = all.div_ceil(8);
        let each = all.div_ceil(parts);
        let staged = (2 * TILE * (each + 1)).max(TILE * 16);
        let load = |name: &str| match quads {
            true => format!(
                "fn load_{name}(row: u32, there: bool, head: u32, quad: u32) -> vec4<f32> {{
                if !there || quad >= s.width / 4u {{ return vec4<f32>(0.0); }}
                return {name}[(row * {0} + head) * (s.width / 4u) + quad];
            }}\n",
                heads_of(name)
            ),
            false => format!(
                "fn load_{name}(row: u32, there: bool, head: u32, quad: u32) -> vec4<f32> {{
                var four = vec4<f32>(0.0);
                for (var j = 0u; j < 4u; j++) {{
                    if there && quad * 4u + j < s.width {{
                        four[j] = {name}[(row * {0} + head) * s.width + quad * 4u + j];
                    }}
                }}
                return four;
            }}\n",
                heads_of(name)
            ),
        };
        let store = match quads {
            true => {
                "fn store(row: u32, head: u32, quad: u32, four: vec4<f32>) {
                if quad < s.width / 4u { y[(row * s.heads + head) * (s.width / 4u) + quad] = four; }
            }\n"
            }
            false => {
                "fn store(row: u32, head: u32, quad: u32, four: vec4<f32>) {
                for (var j = 0u; j < 4u; j++) {
                    if quad * 4u + j < s.width {
                        y[(row * s.heads + head) * s.width + quad * 4u + j] = four[j];
                    }
                }
            }\n"
            }
        };
        let condition = match (self.causal, self.masked) {
            (true, _) => "key >= from_key(query) && key < to_key(query)",
            (_, true) => "key < s.keys && more[batch * s.keys + min(key, s.keys - 1u)] != 0.0",
            (_, false) => "key < s.keys",
        };
        let score = if self.capped {
            "s.cap * tanh(score / s.cap)"
        } else {
            "score"
        };
        let seen = format!(
            "fn seen(batch: u32, query: u32, key: u32, score: f32) -> f32 {{
            return select(LEAST, score, {condition});
        }}
        fn capped(score: f32) -> f32 {{ return {score}; }}\n"
        );
        let more = self.masked || self.sinks;
        let sinks = "for (var i = 0u; i < 4u; i++) {
        let one = first + row + i;
        if one < all {
            most[i] = more[key_head * together + one % together];
            // The parts of a sum lie with the invocations of its row.
            if id.x == 0u { total[i] = 1.0; }
        }
    }";
        let yes = |is: bool| if is { "true" } else { "false" };
        let loaders = [&load("q"), &load("k"), &load("v"), store, &seen].concat();
        include_str!("kernels/attention.wgsl")
            .replace("LOADERS", &loaders)
            .replace(
                "MORE_BINDING",
                match more {
                    true => "@group(0) @binding(4) var<storage, read> more: array<f32>;",
                    false => "",
                },
            )
            .replace("Y_BINDING", if more { "5" } else { "4" })
            .replace("SINKS", if self.sinks { sinks } else { "" })
            .replace("WINDOWED", yes(self.windowed))
            .replace("CAUSAL", yes(self.causal))
            .replace("ITEM", if quads { "vec4<f32>" } else { "f32" })
            .replace("STAGED_VALUE", &staged.to_string())
            .replace("OUT_PARTS_VALUE", &all.div_ceil(16).to_string())
            .replace("PARTS_VALUE", &parts.to_string())
            .replace("QUADS_VALUE", &each.to_string())
    }
}

fn heads_of(name: &str) -> &'static str {
    if name == "q" {
        "s.heads"
    } else {
        "s.key_heads"
    }
}
