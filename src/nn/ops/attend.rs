//! Attention as a candle operation.

use super::Segment;
use super::{Result, slice, tensor_like, with_slices};
use crate::nn::kernels::attention::{self, Forward, Shape as Sizes, SoftmaxStats};
use crate::nn::kernels::gemm::fresh;
use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};
use std::sync::{Arc, OnceLock};

pub(super) struct AttentionOp {
    pub heads: usize,
    pub kv_heads: usize,
    pub causal: bool,
    pub keys: Option<Vec<f32>>,
    /// What the queries saw in the forward pass, for the backward one.
    seen: OnceLock<Vec<SoftmaxStats>>,
}

impl AttentionOp {
    pub(super) fn new(heads: usize, kv_heads: usize, causal: bool, keys: Option<Vec<f32>>) -> Self {
        Self {
            heads,
            kv_heads,
            causal,
            keys,
            seen: OnceLock::new(),
        }
    }

    fn sizes(&self, q: &[usize], k: &[usize], v: &[usize]) -> Result<Sizes> {
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        let (&[batch, tq, qw], &[kb, tk, kw]) = (q, k) else {
            candle_core::bail!("attention: queries {q:?} and keys {k:?} must have three axes");
        };
        let fits = heads > 0
            && kv_heads > 0
            && heads % kv_heads == 0
            && qw % heads == 0
            && kb == batch
            && kw == qw / heads * kv_heads
            && k == v
            && self.keys.as_ref().is_none_or(|m| m.len() == batch * tk);
        if !fits {
            candle_core::bail!(
                "attention: queries {q:?}, keys {k:?} and values {v:?} do not fit {heads} heads over {kv_heads}"
            );
        }
        Ok(Sizes {
            batch,
            tq,
            tk,
            heads,
            kv_heads,
            dim: qw / heads,
            causal: self.causal,
        })
    }
}

impl CustomOp3 for AttentionOp {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        k: &CpuStorage,
        lk: &Layout,
        v: &CpuStorage,
        lv: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let s = self.sizes(lq.dims(), lk.dims(), lv.dims())?;
        let q = slice(q, lq)?;
        let mut out = fresh(q.len());
        let (k, v) = (slice(k, lk)?, slice(v, lv)?);
        let seen = attention::forward(&s, q, k, v, self.keys.as_deref(), &mut out);
        // An operation is applied once.
        let _ = self.seen.set(seen);
        Ok((CpuStorage::F32(out), lq.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        out: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let s = self.sizes(q.dims(), k.dims(), v.dims())?;
        let (dq, dk, dv) = with_slices([q, k, v, out, dy], |[q, k, v, out, dy]| {
            let (mut dq, mut dk, mut dv) = (fresh(q.len()), fresh(k.len()), fresh(v.len()));
            let known = self.seen.get().map(|seen| Forward { out, seen });
            attention::backward(
                &s,
                q,
                k,
                v,
                self.keys.as_deref(),
                known,
                dy,
                &mut dq,
                &mut dk,
                &mut dv,
            );
            (dq, dk, dv)
        })?;
        Ok((
            Some(tensor_like(dq, q)?),
            Some(tensor_like(dk, k)?),
            Some(tensor_like(dv, v)?),
        ))
    }
}

/// Segments in order that cover all queries and see keys that there are, at least as many as they
/// have queries.
pub(super) fn check_segments(segments: &[Segment], q: &[usize], k: &[usize]) -> Result<()> {
    let (&[1, queries, _], &[1, keys, _]) = (q, k) else {
        candle_core::bail!("packed attention: queries {q:?} and keys {k:?} must be one text each");
    };
    let mut next = 0;
    for segment in segments {
        let seen: usize = segment
            .keys
            .iter()
            .map(std::iter::ExactSizeIterator::len)
            .sum();
        let there = segment
            .keys
            .iter()
            .all(|r| r.start <= r.end && r.end <= keys);
        let own = &segment.queries;
        if own.start != next || own.is_empty() || seen < own.len() || !there {
            candle_core::bail!("packed attention: {segment:?} does not follow query {next}");
        }
        next = own.end;
    }
    match next == queries {
        true => Ok(()),
        false => candle_core::bail!("packed attention: segments end at {next} of {queries}"),
    }
}

/// Attention of several texts that share some of their keys. Each has its keys put side by side
/// for as long as it is worked on; nothing of that is an operation of its own, with gradients as
/// large as all keys.
pub(super) struct PackedOp {
    pub attention: AttentionOp,
    pub segments: Arc<[Segment]>,
}

/// A segment's sizes, where `all` are those of all of them.
fn part(all: &Sizes, segment: &Segment) -> Sizes {
    Sizes {
        tq: segment.queries.len(),
        tk: segment
            .keys
            .iter()
            .map(std::iter::ExactSizeIterator::len)
            .sum(),
        ..*all
    }
}

/// The rows of `from` that a segment sees, one after the other.
fn gather(segment: &Segment, width: usize, from: &[f32], to: &mut Vec<f32>) {
    to.clear();
    for seen in &segment.keys {
        to.extend_from_slice(&from[seen.start * width..seen.end * width]);
    }
}

/// Adds rows to those that a segment sees.
fn scatter(segment: &Segment, width: usize, from: &[f32], to: &mut [f32]) {
    let mut rest = from;
    for seen in &segment.keys {
        let (rows, behind) = rest.split_at(seen.len() * width);
        let own = &mut to[seen.start * width..seen.end * width];
        own.iter_mut().zip(rows).for_each(|(sum, v)| *sum += v);
        rest = behind;
    }
}

impl CustomOp3 for PackedOp {
    fn name(&self) -> &'static str {
        "packed-attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        k: &CpuStorage,
        lk: &Layout,
        v: &CpuStorage,
        lv: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let all = self.attention.sizes(lq.dims(), lk.dims(), lv.dims())?;
        let (qw, kw) = (lq.dims()[2], lk.dims()[2]);
        let (q, k, v) = (slice(q, lq)?, slice(k, lk)?, slice(v, lv)?);
        let mut out = fresh(q.len());
        let (mut ks, mut vs) = (Vec::new(), Vec::new());
        for segment in self.segments.iter() {
            gather(segment, kw, k, &mut ks);
            gather(segment, kw, v, &mut vs);
            let own = segment.queries.start * qw..segment.queries.end * qw;
            let sizes = part(&all, segment);
            attention::forward(&sizes, &q[own.clone()], &ks, &vs, None, &mut out[own]);
        }
        Ok((CpuStorage::F32(out), lq.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let all = self.attention.sizes(q.dims(), k.dims(), v.dims())?;
        let (qw, kw) = (q.dim(2)?, k.dim(2)?);
        let (dq, dk, dv) = with_slices([q, k, v, dy], |[q, k, v, dy]| {
            let (mut dq, mut dk, mut dv) = (fresh(q.len()), vec![0.0; k.len()], vec![0.0; v.len()]);
            let (mut ks, mut vs) = (Vec::new(), Vec::new());
            let (mut dks, mut dvs) = (Vec::new(), Vec::new());
            for segment in self.segments.iter() {
                gather(segment, kw, k, &mut ks);
                gather(segment, kw, v, &mut vs);
                // Both are filled by what is called.
                dks.resize(ks.len(), 0.0);
                dvs.resize(vs.len(), 0.0);
                let own = segment.queries.start * qw..segment.queries.end * qw;
                attention::backward(
                    &part(&all, segment),
                    &q[own.clone()],
                    &ks,
                    &vs,
                    None,
                    None,
                    &dy[own.clone()],
                    &mut dq[own],
                    &mut dks,
                    &mut dvs,
                );
                scatter(segment, kw, &dks, &mut dk);
                scatter(segment, kw, &dvs, &mut dv);
            }
            (dq, dk, dv)
        })?;
        Ok((
            Some(tensor_like(dq, q)?),
            Some(tensor_like(dk, k)?),
            Some(tensor_like(dv, v)?),
        ))
    }
}
