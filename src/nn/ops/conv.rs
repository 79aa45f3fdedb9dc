//! Convolution and linear layers as candle operations.

use super::{ConvOptions, Padding, Result, slice, tensor_like, with_slices};
use crate::nn::kernels::conv::{self, Geometry};
use crate::nn::kernels::gemm::fresh;
use candle_core::{CpuStorage, CustomOp3, Layout, Shape, Tensor};

pub(super) struct LinearOp {
    pub has_bias: bool,
}

pub(super) struct ConvOp {
    pub options: ConvOptions,
    pub has_bias: bool,
}

impl LinearOp {
    fn geometry(x: &[usize], w: &[usize]) -> Result<Geometry> {
        let inp = x.last().copied().unwrap_or(0);
        if w.len() != 2 || w[0] != inp {
            candle_core::bail!("linear: input {x:?} does not fit weight {w:?} ([in,out])");
        }
        let rows = x[..x.len() - 1].iter().product();
        Ok(conv::matrix(rows, inp, w[1]))
    }
}

impl ConvOp {
    fn geometry(&self, x: &[usize], w: &[usize]) -> Result<Geometry> {
        let (&[batch, h, wd, cin], &[kh, kw, wcin, cout]) = (x, w) else {
            candle_core::bail!("conv2d: input {x:?} and weight {w:?} must have four axes each");
        };
        let pad = match self.options.padding {
            Padding::Zeros(p) => [p; 4],
            Padding::BottomRight(p) => [0, 0, p, p],
        };
        let g = Geometry {
            batch,
            h,
            w: wd,
            cin,
            cout,
            kh,
            kw,
            stride: self.options.stride,
            pad,
            upsample: self.options.upsample,
        };
        let scale = if g.upsample { 2 } else { 1 };
        if cin != wcin
            || scale * h + pad[0] + pad[2] < kh
            || scale * wd + pad[1] + pad[3] < kw
            || pad[0] >= kh
        {
            candle_core::bail!("conv2d: input {x:?} does not fit weight {w:?} ([kh,kw,in,out])");
        }
        Ok(g)
    }
}

fn forward(g: &Geometry, x: &[f32], w: &[f32], b: &[f32], has_bias: bool) -> Vec<f32> {
    let (ho, wo) = g.out();
    let mut out = fresh(g.batch * ho * wo * g.cout);
    conv::forward(g, x, w, has_bias.then_some(b), &mut out);
    out
}

type Grads = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

fn backward(
    g: &Geometry,
    x: &Tensor,
    w: &Tensor,
    b: &Tensor,
    dy: &Tensor,
    has_bias: bool,
) -> Result<Grads> {
    let (dx, dw, db) = with_slices([x, w, dy], |[xs, ws, dy]| {
        // Nothing upstream of an input that no variable leads to needs its gradient.
        let dx = (x.track_op() || x.is_variable()).then(|| {
            let mut dx = fresh(xs.len());
            conv::grad_input(g, dy, ws, &mut dx);
            dx
        });
        let dw = (w.track_op() || w.is_variable()).then(|| {
            let mut dw = fresh(ws.len());
            conv::grad_weight(g, xs, dy, &mut dw);
            dw
        });
        let db = has_bias.then(|| {
            let mut db = fresh(g.cout);
            conv::grad_bias(dy, g.cout, &mut db);
            db
        });
        (dx, dw, db)
    })?;
    let to = |v: Option<Vec<f32>>, like: &Tensor| v.map(|v| tensor_like(v, like)).transpose();
    Ok((to(dx, x)?, to(dw, w)?, to(db, b)?))
}

impl CustomOp3 for LinearOp {
    fn name(&self) -> &'static str {
        "linear"
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
        let g = Self::geometry(lx.dims(), lw.dims())?;
        let out = forward(
            &g,
            slice(x, lx)?,
            slice(w, lw)?,
            slice(b, lb)?,
            self.has_bias,
        );
        let mut dims = lx.dims().to_vec();
        dims.pop();
        dims.push(g.cout);
        Ok((CpuStorage::F32(out), Shape::from(dims)))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, b: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Grads> {
        backward(
            &Self::geometry(x.dims(), w.dims())?,
            x,
            w,
            b,
            dy,
            self.has_bias,
        )
    }
}

impl CustomOp3 for ConvOp {
    fn name(&self) -> &'static str {
        "conv2d"
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
        let g = self.geometry(lx.dims(), lw.dims())?;
        let out = forward(
            &g,
            slice(x, lx)?,
            slice(w, lw)?,
            slice(b, lb)?,
            self.has_bias,
        );
        let (ho, wo) = g.out();
        Ok((CpuStorage::F32(out), Shape::from((g.batch, ho, wo, g.cout))))
    }

    fn bwd(&self, x: &Tensor, w: &Tensor, b: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Grads> {
        backward(
            &self.geometry(x.dims(), w.dims())?,
            x,
            w,
            b,
            dy,
            self.has_bias,
        )
    }
}
