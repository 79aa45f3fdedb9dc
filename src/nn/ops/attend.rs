//! Attention as a candle operation.

use super::{Result, slice, tensor_like, with_slices};
use crate::nn::kernels::attention::{self, Shape as Sizes};
use crate::nn::kernels::gemm::fresh;
use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};

pub(super) struct AttentionOp {
    pub heads: usize,
    pub kv_heads: usize,
    pub causal: bool,
    pub keys: Option<Vec<f32>>,
}

impl AttentionOp {
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
        attention::forward(
            &s,
            q,
            slice(k, lk)?,
            slice(v, lv)?,
            self.keys.as_deref(),
            &mut out,
        );
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
        let s = self.sizes(q.dims(), k.dims(), v.dims())?;
        let (dq, dk, dv) = with_slices([q, k, v, dy], |[q, k, v, dy]| {
            let (mut dq, mut dk, mut dv) = (fresh(q.len()), fresh(k.len()), fresh(v.len()));
            attention::backward(
                &s,
                q,
                k,
                v,
                self.keys.as_deref(),
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
