//! Attention.

use super::device::Run;
use super::product::padded;
use super::tensor::GpuTensor;
use crate::nn::{Mask, Result};

/// Queries and keys of a tile.
const TILE: usize = 32;

/// `q [B,Tq,heads*D]`, `k`/`v [B,Tk,kv_heads*D]` -> `[B,Tq,heads*D]`.
pub(super) fn attention(
    q: &GpuTensor,
    k: &GpuTensor,
    v: &GpuTensor,
    heads: usize,
    kv_heads: usize,
    mask: &Mask,
) -> Result<GpuTensor> {
    let width = q.dims().last().map_or(0, |all| all / heads.max(1));
    scaled(
        q,
        k,
        v,
        (heads, kv_heads),
        mask,
        1.0 / (width as f32).sqrt(),
    )
}

impl GpuTensor {
    /// Causal attention of the last tokens of one text to all of it, whose products are multiplied
    /// by `scale`: `self [1,T,heads*D]` to `k`/`v [1,N,kv_heads*D]`.
    ///
    /// # Errors
    /// Shapes that don't fit, or a GPU that fails.
    pub fn attention_scaled(
        &self,
        k: &Self,
        v: &Self,
        heads: (usize, usize),
        scale: f32,
    ) -> Result<Self> {
        scaled(self, k, v, heads, &Mask::Causal, scale)
    }
}

fn scaled(
    q: &GpuTensor,
    k: &GpuTensor,
    v: &GpuTensor,
    (heads, kv_heads): (usize, usize),
    mask: &Mask,
    scale: f32,
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
        && v.dims() == there;
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
    let hidden = match mask {
        Mask::Keys(mask) if mask.elem_count() != batch * keys => {
            candle_core::bail!("a mask of {:?} for {batch} x {keys} keys", mask.dims());
        }
        Mask::Keys(mask) => Some(GpuTensor::upload(gpu, mask)?),
        Mask::None | Mask::Causal => None,
    };
    let quads = width.is_multiple_of(4);
    let kind = match mask {
        Mask::None => "",
        Mask::Causal => " causal",
        Mask::Keys(_) => " masked",
    };
    let name = format!(
        "attention {width}{}{kind}",
        if quads { " in fours" } else { "" }
    );
    let source = || source(width, quads, mask);
    let mut reads = vec![q.buffer(), k.buffer(), v.buffer()];
    reads.extend(hidden.as_ref().map(GpuTensor::buffer));

    let tiles = queries.div_ceil(TILE);
    let flops = |tiles: usize| (4 * batch * heads * tiles * TILE * keys * width) as u64;
    let at_once = (gpu.portion() / flops(1).max(1)) as usize;
    let at_once = at_once.clamp(1, tiles);
    for first in (0..tiles).step_by(at_once) {
        let now = at_once.min(tiles - first);
        let share = |bytes: u64| bytes * now as u64 / tiles as u64;
        let mut sizes: Vec<u32> = [queries, keys, heads, kv_heads, width, first]
            .map(|size| size as u32)
            .to_vec();
        sizes.push(scale.to_bits());
        gpu.run(&Run {
            kernel: &name,
            source: &source,
            sizes: &padded(sizes),
            reads: &reads,
            writes: y.buffer(),
            groups: [now as u32, heads as u32, batch as u32],
            flops: flops(now),
            bytes: share(q.bytes() + y.bytes()) + k.bytes() + v.bytes(),
            // Queries are read again for each tile of keys, keys and values for each of queries.
            asked: share(q.bytes()) * keys.div_ceil(TILE) as u64
                + share(y.bytes())
                + (k.bytes() + v.bytes()) * now as u64,
        })?;
    }
    Ok(y)
}

fn source(width: usize, quads: bool, mask: &Mask) -> String {
    let all = width.div_ceil(4);
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
    let condition = match mask {
        Mask::None => "key < s.keys",
        Mask::Causal => "key < s.keys && key + s.queries <= query + s.keys",
        Mask::Keys(_) => "key < s.keys && hidden[batch * s.keys + min(key, s.keys - 1u)] != 0.0",
    };
    let seen = format!(
        "fn seen(batch: u32, query: u32, key: u32, score: f32) -> f32 {{
            return select(LEAST, score, {condition});
        }}\n"
    );
    let masked = matches!(mask, Mask::Keys(_));
    let loaders = [&load("q"), &load("k"), &load("v"), store, &seen].concat();
    include_str!("kernels/attention.wgsl")
        .replace("LOADERS", &loaders)
        .replace(
            "MASK_BINDING",
            match masked {
                true => "@group(0) @binding(4) var<storage, read> hidden: array<f32>;",
                false => "",
            },
        )
        .replace("Y_BINDING", if masked { "5" } else { "4" })
        .replace("ITEM", if quads { "vec4<f32>" } else { "f32" })
        .replace("STAGED_VALUE", &staged.to_string())
        .replace("OUT_PARTS_VALUE", &all.div_ceil(16).to_string())
        .replace("PARTS_VALUE", &parts.to_string())
        .replace("QUADS_VALUE", &each.to_string())
}

fn heads_of(name: &str) -> &'static str {
    if name == "q" {
        "s.heads"
    } else {
        "s.key_heads"
    }
}
