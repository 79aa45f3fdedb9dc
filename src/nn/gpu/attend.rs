//! Attention.

use super::device::{Run, Ways};
use super::tensor::GpuTensor;
use super::{traffic, tune};
use crate::nn::{Mask, Result};

/// Rows of a tile; all add up in the same order. The first is taken where nothing is measured.
const ROWS: [usize; 3] = [32, 64, 16];
/// Keys of a tile.
const KEYS: usize = 32;
/// Floating point operations of 32 rows, after so many of which a workgroup may pause.
const STEP: usize = 1 << 24;

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
    if q.count() == 0 {
        return GpuTensor::new(gpu, q.dims().to_vec());
    }
    // Long rows of keys are gone through in steps.
    let block = (STEP / (4 * KEYS * width)).next_multiple_of(KEYS);
    let (block, steps) = match keys > 2 * block {
        true => (block, keys.div_ceil(block)),
        false => (keys.next_multiple_of(KEYS), 1),
    };
    let quads = width.is_multiple_of(4);
    let state = match (steps, quads) {
        (1, _) => 0,
        (_, true) => 4,
        (_, false) => 2,
    };
    let y = GpuTensor::with_room(gpu, q.dims().to_vec(), state * batch * queries * heads)?;
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
        quads,
        rows: ROWS[0],
        causal: matches!(seen, Seen::Causal(_)),
        windowed: window.is_some(),
        capped: cap.is_some(),
        sinks: matches!(seen, Seen::Causal(_)) && more.is_some(),
        masked: matches!(seen, Seen::Masked(_)) && more.is_some(),
    };
    let mut reads = vec![q.buffer(), k.buffer(), v.buffer()];
    reads.extend(more.as_ref().map(GpuTensor::buffer));
    let all = queries * (heads / kv_heads);
    let behind = y.count() / if quads { 4 } else { 1 };
    let mut sizes: Vec<u32> = [
        queries,
        keys,
        heads,
        kv_heads,
        width,
        window.unwrap_or(keys).min(keys),
        picture.unwrap_or(0),
        block,
    ]
    .map(|size| size as u32)
    .to_vec();
    sizes.extend([
        scale.to_bits(),
        cap.unwrap_or(1.0).to_bits(),
        behind as u32,
        0,
    ]);
    sizes.extend([0, 0, 0, steps as u32]);
    let flops = 4 * batch * heads * queries * keys * width;
    let run = |variant: Variant, tiles: usize| -> Result<()> {
        let whole = all.div_ceil(variant.rows);
        let part = |of: u64| of * tiles.min(whole) as u64 / whole as u64;
        let kept = k.bytes() + v.bytes();
        let read = traffic::attention(tiles, variant.invocations(), batch * kv_heads, kept);
        gpu.run(&Run {
            kernel: &variant.name(),
            source: &|| variant.source(),
            sizes: &sizes,
            steps: steps as u32,
            reads: &reads,
            writes: y.buffer(),
            groups: [tiles.min(whole), kv_heads, batch].map(|groups| groups as u32),
            flops: part(flops as u64),
            bytes: part(q.bytes() + y.bytes()) + kept,
            moved: part(q.bytes() + y.bytes()) + read,
        })?;
        Ok(())
    };
    let ways = gpu.ways();
    let fitting = ROWS.iter().map(|&rows| Variant { rows, ..variant });
    let fitting = fitting.filter(|variant| variant.fits(ways));
    let variants: Vec<_> = fitting.map(|v| (format!("{} rows", v.rows), v)).collect();
    // In parts that hold whole tiles of all variants.
    let most = ROWS.iter().copied().max().unwrap_or(1);
    let measured = (flops, all.div_ceil(most));
    let best = tune::quickest(
        gpu,
        &variant.kind(),
        &variants,
        measured,
        &|variant, parts| run(variant, parts * most / variant.rows),
    )?;
    run(best, all.div_ceil(best.rows))?;
    Ok(y)
}

/// What the kernel is made for.
#[derive(Clone, Copy)]
struct Variant {
    width: usize,
    /// Rows of a tile.
    rows: usize,
    /// Whether rows are read in fours.
    quads: bool,
    causal: bool,
    windowed: bool,
    capped: bool,
    sinks: bool,
    masked: bool,
}

impl Variant {
    fn invocations(&self) -> usize {
        4 * self.rows
    }

    /// Quads of columns of a head that are multiplied at a time, and how often.
    fn quads_and_parts(&self) -> (usize, usize) {
        let all = self.width.div_ceil(4);
        let parts = all.div_ceil(8);
        (all.div_ceil(parts), parts)
    }

    /// Quads in workgroup memory.
    fn staged(&self) -> usize {
        let (each, _) = self.quads_and_parts();
        ((self.rows + KEYS) * (each + 1)).max(KEYS * 16)
    }

    fn fits(&self, ways: Ways) -> bool {
        let bytes = 16 * self.staged() + 4 * self.rows * (33 + 17);
        self.rows == ROWS[0]
            || self.invocations() <= ways.invocations as usize && bytes <= ways.shared as usize
    }

    fn name(&self) -> String {
        format!("{} by {} rows", self.kind(), self.rows)
    }

    /// What is measured by itself.
    fn kind(&self) -> String {
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
        let (each, parts) = self.quads_and_parts();
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
            }
            fn stored(row: u32, head: u32, quad: u32) -> vec4<f32> {
                if quad >= s.width / 4u { return vec4<f32>(0.0); }
                return y[(row * s.heads + head) * (s.width / 4u) + quad];
            }
            fn keep(row: u32, state: vec2<f32>) { y[s.behind + row] = vec4<f32>(state, 0.0, 0.0); }
            fn kept(row: u32) -> vec2<f32> { return y[s.behind + row].xy; }\n"
            }
            false => {
                "fn store(row: u32, head: u32, quad: u32, four: vec4<f32>) {
                for (var j = 0u; j < 4u; j++) {
                    if quad * 4u + j < s.width {
                        y[(row * s.heads + head) * s.width + quad * 4u + j] = four[j];
                    }
                }
            }
            fn stored(row: u32, head: u32, quad: u32) -> vec4<f32> {
                var four = vec4<f32>(0.0);
                for (var j = 0u; j < 4u; j++) {
                    if quad * 4u + j < s.width {
                        four[j] = y[(row * s.heads + head) * s.width + quad * 4u + j];
                    }
                }
                return four;
            }
            fn keep(row: u32, state: vec2<f32>) {
                y[s.behind + 2u * row] = state.x;
                y[s.behind + 2u * row + 1u] = state.y;
            }
            fn kept(row: u32) -> vec2<f32> {
                return vec2<f32>(y[s.behind + 2u * row], y[s.behind + 2u * row + 1u]);
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
            .replace("ROWS_VALUE", &self.rows.to_string())
            .replace("STAGED_VALUE", &self.staged().to_string())
            .replace("OUT_PARTS_VALUE", &self.width.div_ceil(64).to_string())
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
