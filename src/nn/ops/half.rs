//! Weights held in half the width, widened for as long as a layer works.

use super::Result;
use crate::nn::kernels::gemm::fresh;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Shape, Tensor};
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

/// Numbers that one thread widens at a time.
const PIECE: usize = 1 << 16;

struct WidenOp;

impl CustomOp1 for WidenOp {
    fn name(&self) -> &'static str {
        "widen"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let Some((from, to)) = l.contiguous_offsets() else {
            candle_core::bail!("widen: the weights are not contiguous");
        };
        let mut wide = fresh(to - from);
        match x {
            CpuStorage::F16(x) => pieces(&x[from..to], &mut wide, |x, wide| {
                x.convert_to_f32_slice(wide);
            }),
            CpuStorage::BF16(x) => pieces(&x[from..to], &mut wide, |x, wide| {
                x.convert_to_f32_slice(wide);
            }),
            _ => candle_core::bail!("widen: the weights are not in half the width"),
        }
        Ok((CpuStorage::F32(wide), l.shape().clone()))
    }
}

fn pieces<T: Sync>(x: &[T], wide: &mut [f32], widen: impl Fn(&[T], &mut [f32]) + Sync) {
    x.par_chunks(PIECE)
        .zip(wide.par_chunks_mut(PIECE))
        .for_each(|(x, wide)| widen(x, wide));
}

/// `w` in the type `to`: on the CPU both cores widen what is held in half the width.
pub(super) fn widened(w: &Tensor, to: DType) -> Result<Tensor> {
    let held = matches!(w.dtype(), DType::F16 | DType::BF16);
    match held && to == DType::F32 && w.device().is_cpu() && w.is_contiguous() {
        true => w.apply_op1_no_bwd(&WidenOp),
        false => w.to_dtype(to),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn both_kinds_of_half_are_widened_as_candle_does() {
        let x = crate::nn::noise(3, 0, &[301, 257], &Device::Cpu).unwrap();
        for kind in [DType::F16, DType::BF16] {
            let held = x.to_dtype(kind).unwrap();
            let want = held.to_dtype(DType::F32).unwrap();
            let got = widened(&held, DType::F32).unwrap();
            let off = (got - want).unwrap().abs().unwrap().max_all().unwrap();
            assert_eq!(off.to_scalar::<f32>().unwrap(), 0.0);
        }
    }
}
