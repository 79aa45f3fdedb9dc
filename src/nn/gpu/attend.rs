//! Attention.

use super::adapters::AdapterKind;
use super::attend_source::{KEYS, Variant, WAYS, Way};
use super::device::Run;
use super::tensor::GpuTensor;
use super::traffic;
use super::tune::{self, Kind};
use crate::nn::{Mask, Result};

/// Floating point operations of 32 rows, after so many of which a workgroup may pause.
const STEP: usize = 1 << 24;
/// Rows fewer than which are not spread over invocations, and fewer than which are not over many.
const FEW_ROWS: usize = 16;
const SOME_ROWS: usize = 256;

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
pub(super) enum Seen<'a> {
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
    attention_in(q, k, v, heads, mask, None)
}

/// The same in the way that is given, or else the quickest.
pub(super) fn attention_in(
    q: &GpuTensor,
    k: &GpuTensor,
    v: &GpuTensor,
    heads: (usize, usize),
    mask: &Mask,
    way: Option<Way>,
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
    attend(q, k, v, (heads, scale), &seen, way)
}

impl GpuTensor {
    /// Attention of the last tokens of one text to all of it: `self [1,T,heads*D]` to
    /// `k`/`v [1,N,kv_heads*D]`.
    ///
    /// # Errors
    /// Shapes that don't fit, or a GPU that fails.
    pub fn causal_attention(&self, k: &Self, v: &Self, how: CausalAttention) -> Result<Self> {
        let (heads, scale) = (how.heads, how.scale);
        attend(self, k, v, (heads, scale), &Seen::Causal(how), None)
    }
}

/// In the way that is given, or else the quickest.
pub(super) fn attend(
    q: &GpuTensor,
    k: &GpuTensor,
    v: &GpuTensor,
    ((heads, kv_heads), scale): ((usize, usize), f32),
    seen: &Seen,
    way: Option<Way>,
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
    let all = queries * (heads / kv_heads);
    let quads = width.is_multiple_of(4);
    // Long rows of keys are gone through in steps.
    let steps = |way: Way| {
        let block = (way.share_of(STEP) / (4 * KEYS * width)).next_multiple_of(KEYS);
        match keys > 2 * block {
            true => (block, keys.div_ceil(block)),
            false => (keys.next_multiple_of(KEYS), 1),
        }
    };
    let ways = gpu.ways();
    let numbers = match gpu.info().kind {
        AdapterKind::Software => 1024,
        _ => 256,
    };
    let fits = |way: Way| {
        let enough = match way {
            Way::Tiles(_) => true,
            Way::Rows { .. } if all < FEW_ROWS => false,
            Way::Rows { .. } => all >= SOME_ROWS || way.rows() <= 64,
        };
        enough && way.fits(width, ways, numbers)
    };
    let pauses = WAYS.into_iter().any(|way| fits(way) && steps(way).1 > 1);
    let state = match (pauses || way.is_some(), quads) {
        (false, _) => 0,
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
        way: WAYS[0],
        causal: matches!(seen, Seen::Causal(_)),
        windowed: window.is_some(),
        capped: cap.is_some(),
        sinks: matches!(seen, Seen::Causal(_)) && more.is_some(),
        masked: matches!(seen, Seen::Masked(_)) && more.is_some(),
    };
    let mut reads = vec![q.buffer(), k.buffer(), v.buffer()];
    reads.extend(more.as_ref().map(GpuTensor::buffer));
    let behind = y.count() / if quads { 4 } else { 1 };
    let flops = 4 * batch * heads * queries * keys * width;
    let run = |way: Way, tiles: usize| -> Result<()> {
        let variant = Variant { way, ..variant };
        let whole = all.div_ceil(way.rows());
        let part = |of: u64| of * tiles.min(whole) as u64 / whole as u64;
        let kept = k.bytes() + v.bytes();
        let (panels, kind) = ((batch * kv_heads, kept), gpu.info().kind);
        let read = traffic::attention(tiles, way.invocations(), panels, kind);
        let (block, steps) = steps(way);
        let [window, picture] = [window.unwrap_or(keys).min(keys), picture.unwrap_or(0)];
        let sizes = [
            queries, keys, heads, kv_heads, width, window, picture, block,
        ];
        let mut sizes = sizes.map(|size| size as u32).to_vec();
        let cap = cap.unwrap_or(1.0);
        sizes.extend([scale.to_bits(), cap.to_bits(), behind as u32, 0]);
        sizes.extend([0, 0, 0, steps as u32]);
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
    let best = match way {
        Some(way) => way,
        None => {
            // A tile that is mostly empty is no measure of one that is full.
            let kind = match all {
                0..FEW_ROWS => format!("{} of a few rows", variant.kind()),
                FEW_ROWS..SOME_ROWS => format!("{} of some rows", variant.kind()),
                _ => variant.kind(),
            };
            let kind = Kind {
                name: &kind,
                all: &WAYS,
                alike: false,
                fits: &fits,
                named: &Way::name,
            };
            // In parts that hold whole tiles of all variants.
            let most = WAYS.iter().map(|way| way.rows()).max().unwrap_or(1);
            let measured = (flops, all.div_ceil(most));
            tune::quickest(gpu, &kind, measured, &|way, parts| {
                run(way, (parts * most).min(all).div_ceil(way.rows()))
            })?
        }
    };
    run(best, all.div_ceil(best.rows()))?;
    Ok(y)
}
