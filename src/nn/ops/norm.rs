//! Norms as candle operations.

use super::{Result, slice, tensor_like, with_slices};
use crate::nn::kernels::gemm::fresh;
use crate::nn::kernels::norm::{self, Groups, RowNorm};
use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};

type Grads = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

pub(super) struct GroupNormOp {
    pub groups: usize,
    pub eps: f64,
    pub silu: bool,
}

impl GroupNormOp {
    fn sizes(&self, x: &[usize], gamma: &[usize]) -> Result<Groups> {
        let channels = x.last().copied().unwrap_or(0);
        if x.len() < 2 || gamma != [channels] || self.groups == 0 || channels % self.groups != 0 {
            candle_core::bail!(
                "group norm: input {x:?} does not fit weight {gamma:?} in {} groups",
                self.groups
            );
        }
        let places = x[1..x.len() - 1].iter().product();
        Ok(Groups {
            places,
            channels,
            groups: self.groups,
            eps: self.eps as f32,
            silu: self.silu,
        })
    }
}

impl CustomOp3 for GroupNormOp {
    fn name(&self) -> &'static str {
        "group-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let g = self.sizes(lx.dims(), lw.dims())?;
        let x = slice(x, lx)?;
        let mut out = fresh(x.len());
        norm::group_forward(&g, x, slice(w, lw)?, slice(b, lb)?, &mut out);
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, b: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Grads> {
        let g = self.sizes(x.dims(), w.dims())?;
        let (dx, dw, db) = with_slices([x, w, b, dy], |[x, w, b, dy]| {
            let (mut dx, mut dw, mut db) = (fresh(x.len()), fresh(g.channels), fresh(g.channels));
            norm::group_backward(&g, x, w, b, dy, &mut dx, &mut dw, &mut db);
            (dx, dw, db)
        })?;
        Ok((
            Some(tensor_like(dx, x)?),
            Some(tensor_like(dw, w)?),
            Some(tensor_like(db, b)?),
        ))
    }
}

pub(super) struct RowNormOp {
    pub kind: RowNorm,
    pub eps: f64,
}

impl CustomOp3 for RowNormOp {
    fn name(&self) -> &'static str {
        match self.kind {
            RowNorm::Layer => "layer-norm",
            RowNorm::Rms => "rms-norm",
        }
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        b: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if lx.dims().last() != lw.dims().first() {
            candle_core::bail!(
                "{}: input {:?} does not fit weight {:?}",
                self.name(),
                lx.dims(),
                lw.dims()
            );
        }
        let x = slice(x, lx)?;
        let mut out = fresh(x.len());
        norm::row_forward(
            self.kind,
            self.eps as f32,
            x,
            slice(w, lw)?,
            slice(b, lb)?,
            &mut out,
        );
        Ok((CpuStorage::F32(out), lx.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, b: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Grads> {
        let (dx, dw, db) = with_slices([x, w, dy], |[x, w, dy]| {
            let (mut dx, mut dw, mut db) = (fresh(x.len()), fresh(w.len()), fresh(w.len()));
            norm::row_backward(
                self.kind,
                self.eps as f32,
                x,
                w,
                dy,
                &mut dx,
                &mut dw,
                &mut db,
            );
            (dx, dw, db)
        })?;
        let db = match self.kind {
            RowNorm::Layer => Some(tensor_like(db, b)?),
            RowNorm::Rms => None,
        };
        Ok((Some(tensor_like(dx, x)?), Some(tensor_like(dw, w)?), db))
    }
}
