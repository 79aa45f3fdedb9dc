//! Activations, softmax and channel-wise addition as candle operations.

use super::{Result, slice, tensor_like, with_slices};
use crate::nn::kernels::elementwise::{self, Unary};
use crate::nn::kernels::gemm::fresh;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Shape, Tensor};

pub(super) struct UnaryOp(pub Unary);

impl CustomOp1 for UnaryOp {
    fn name(&self) -> &'static str {
        match self.0 {
            Unary::Silu => "silu",
            Unary::Gelu => "gelu",
            Unary::GeluTanh => "gelu-tanh",
            Unary::QuickGelu => "quick-gelu",
        }
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(x, l)?;
        let mut y = fresh(x.len());
        elementwise::unary(self.0, x, &mut y);
        Ok((CpuStorage::F32(y), l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = with_slices([x, dy], |[x, dy]| {
            let mut dx = fresh(x.len());
            elementwise::unary_grad(self.0, x, dy, &mut dx);
            dx
        })?;
        tensor_like(dx, x).map(Some)
    }
}

pub(super) struct GegluOp;

impl CustomOp1 for GegluOp {
    fn name(&self) -> &'static str {
        "geglu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let mut dims = l.dims().to_vec();
        let Some(width) = dims.pop().filter(|w| w % 2 == 0 && *w > 0) else {
            candle_core::bail!("geglu: the last axis of {:?} can't be halved", l.dims());
        };
        dims.push(width / 2);
        let x = slice(x, l)?;
        let mut y = fresh(x.len() / 2);
        elementwise::geglu(width / 2, x, &mut y);
        Ok((CpuStorage::F32(y), Shape::from(dims)))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let c = y.dim(candle_core::D::Minus1)?;
        let dx = with_slices([x, dy], |[x, dy]| {
            let mut dx = fresh(x.len());
            elementwise::geglu_grad(c, x, dy, &mut dx);
            dx
        })?;
        tensor_like(dx, x).map(Some)
    }
}

pub(super) struct SwigluOp;

impl CustomOp2 for SwigluOp {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(
        &self,
        gate: &CpuStorage,
        lg: &Layout,
        up: &CpuStorage,
        lu: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if lg.dims() != lu.dims() {
            candle_core::bail!("swiglu: {:?} and {:?}", lg.dims(), lu.dims());
        }
        let gate = slice(gate, lg)?;
        let mut y = fresh(gate.len());
        elementwise::swiglu(gate, slice(up, lu)?, &mut y);
        Ok((CpuStorage::F32(y), lg.shape().clone()))
    }

    fn bwd(
        &self,
        gate: &Tensor,
        up: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dgate, dup) = with_slices([gate, up, dy], |[gate, up, dy]| {
            let (mut dgate, mut dup) = (fresh(gate.len()), fresh(up.len()));
            elementwise::swiglu_grad(gate, up, dy, &mut dgate, &mut dup);
            (dgate, dup)
        })?;
        Ok((Some(tensor_like(dgate, gate)?), Some(tensor_like(dup, up)?)))
    }
}

pub(super) struct SoftmaxOp;

impl CustomOp1 for SoftmaxOp {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(x, l)?;
        let mut y = fresh(x.len());
        if let Some(c) = l.dims().last().copied().filter(|c| *c > 0) {
            elementwise::softmax(c, x, &mut y);
        }
        Ok((CpuStorage::F32(y), l.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let c = y.dim(candle_core::D::Minus1)?;
        let dx = with_slices([y, dy], |[y, dy]| {
            let mut dx = fresh(y.len());
            elementwise::softmax_grad(c, y, dy, &mut dx);
            dx
        })?;
        tensor_like(dx, x).map(Some)
    }
}

pub(super) struct MeanSquareOp;

impl CustomOp1 for MeanSquareOp {
    fn name(&self) -> &'static str {
        "mean-square"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let x = slice(x, l)?;
        let mean = elementwise::sum_squares(x) / x.len() as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let k = 2.0 * dy.to_scalar::<f32>()? / x.elem_count() as f32;
        let dx = with_slices([x], |[x]| {
            let mut dx = fresh(x.len());
            elementwise::scale(k, x, &mut dx);
            dx
        })?;
        tensor_like(dx, x).map(Some)
    }
}

pub(super) struct AddChannelsOp;

impl CustomOp2 for AddChannelsOp {
    fn name(&self) -> &'static str {
        "add-channels"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        t: &CpuStorage,
        lt: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (&[b, h, w, c], &[tb, tc]) = (lx.dims(), lt.dims()) else {
            candle_core::bail!("add_channels: {:?} + {:?}", lx.dims(), lt.dims());
        };
        if (b, c) != (tb, tc) {
            candle_core::bail!("add_channels: {:?} + {:?}", lx.dims(), lt.dims());
        }
        let x = slice(x, lx)?;
        let mut y = fresh(x.len());
        elementwise::add_channels(h * w, c, x, slice(t, lt)?, &mut y);
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        t: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (_, h, w, c) = x.dims4()?;
        let dt = with_slices([dy], |[dy]| {
            let mut dt = fresh(t.elem_count());
            elementwise::sum_places(h * w, c, dy, &mut dt);
            dt
        })?;
        Ok((Some(dy.clone()), Some(tensor_like(dt, t)?)))
    }
}
