//! From the layout of weights in files to the one in memory: the inputs of a layer become rows, its
//! outputs lie side by side. On all cores, in pieces that stay in the cache.

use super::Result;
use candle_core::{CpuStorage, DType, Storage, Tensor, WithDType};
use rayon::prelude::*;

/// Rows of the result that one thread makes at a time.
const ROWS: usize = 32;
/// Outputs that it takes together.
const OUTPUTS: usize = 16;

/// `[out, in, places]` to `[places, in, out]`.
fn turned<T: Copy + Default + Send + Sync>(
    from: &[T],
    out: usize,
    inp: usize,
    places: usize,
) -> Vec<T> {
    let mut to = vec![T::default(); from.len()];
    if to.is_empty() {
        return to;
    }
    to.par_chunks_mut(inp * out)
        .enumerate()
        .for_each(|(place, plane)| {
            plane
                .par_chunks_mut(ROWS * out)
                .enumerate()
                .for_each(|(piece, rows)| {
                    for first in (0..out).step_by(OUTPUTS) {
                        let last = (first + OUTPUTS).min(out);
                        for (i, row) in rows.chunks_exact_mut(out).enumerate() {
                            let at = (piece * ROWS + i) * places + place;
                            for (o, to) in row[first..last].iter_mut().enumerate() {
                                *to = from[(first + o) * inp * places + at];
                            }
                        }
                    }
                });
        });
    to
}

fn of<T: WithDType + Default + Send + Sync>(
    from: &[T],
    shape: &[usize],
    to: &[usize],
    like: &Tensor,
) -> Result<Tensor> {
    let places = shape[2..].iter().product();
    Tensor::from_vec(turned(from, shape[0], shape[1], places), to, like.device())
}

/// A matrix `[out,in]` to `[in,out]`, or kernels `[out,in,kh,kw]` to `[kh,kw,in,out]`.
pub(super) fn relaid(t: &Tensor) -> Result<Tensor> {
    let shape = t.dims();
    let to = match *shape {
        [out, inp] => vec![inp, out],
        [out, inp, height, width] => vec![height, width, inp, out],
        _ => candle_core::bail!("weights of shape {shape:?} are neither a matrix nor kernels"),
    };
    let known = matches!(t.dtype(), DType::F32 | DType::F16 | DType::BF16);
    if t.device().is_cpu() && known {
        let t = t.contiguous()?;
        let (storage, layout) = t.storage_and_layout();
        if let (Storage::Cpu(storage), Some((a, b))) = (&*storage, layout.contiguous_offsets()) {
            match storage {
                CpuStorage::F32(x) => return of(&x[a..b], shape, &to, &t),
                CpuStorage::F16(x) => return of(&x[a..b], shape, &to, &t),
                CpuStorage::BF16(x) => return of(&x[a..b], shape, &to, &t),
                _ => {}
            }
        }
    }
    match shape.len() {
        2 => t.t()?.contiguous(),
        _ => t.permute((2, 3, 1, 0))?.contiguous(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn weights_are_laid_as_candle_lays_them() {
        for shape in [&[37, 45][..], &[5, 70, 3, 3], &[70, 5, 1, 1], &[1, 1]] {
            let x = crate::nn::noise(4, 0, shape, &Device::Cpu).unwrap();
            for kind in [DType::F32, DType::F16, DType::BF16] {
                let x = x.to_dtype(kind).unwrap();
                let want = match shape.len() {
                    2 => x.t().unwrap(),
                    _ => x.permute((2, 3, 1, 0)).unwrap(),
                };
                let got = relaid(&x).unwrap();
                assert_eq!(got.dims(), want.dims());
                let values = |t: &Tensor| {
                    let t = t.to_dtype(DType::F32).unwrap().flatten_all().unwrap();
                    t.to_vec1::<f32>().unwrap()
                };
                assert_eq!(values(&got), values(&want.contiguous().unwrap()));
            }
        }
    }
}
