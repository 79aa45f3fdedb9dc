//! A weight that does not learn, while what is beside and before it does.

use super::kernels::{bf16, cross_entropy, gemm::fresh};
use super::ops::{slice, tensor_like, with_slices};
use super::{Linear, Result};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Shape, Tensor};
use rayon::prelude::*;
use std::sync::{Arc, Mutex, PoisonError};

/// A linear layer without bias whose weight is held and multiplied in bf16, its inputs too, with
/// sums in f32: half the time of a training step through a frozen language model. Relative errors
/// of single products are up to 2^-8, as in mixed-precision training (arXiv 1905.12322).
#[derive(Clone, Debug)]
pub struct FrozenLinear(Arc<Both>);

#[derive(Debug)]
struct Both {
    widths: (usize, usize),
    forward: bf16::Packed,
    /// The transposed weight, for the gradient of the input.
    backward: bf16::Packed,
}

impl FrozenLinear {
    /// `None` where this would not be quicker: on a GPU, or on a processor that does not multiply
    /// bf16.
    ///
    /// # Errors
    /// A weight that is not a matrix in f32.
    pub fn new(linear: &Linear) -> Result<Option<Self>> {
        let weight = linear.weight();
        let plain = weight.device().is_cpu() && linear.bias().is_none();
        if !plain || !bf16::available() {
            return Ok(None);
        }
        let widths = weight.dims2()?;
        let (inp, out) = widths;
        if inp == 0 || out == 0 || weight.dtype() != DType::F32 {
            return Ok(None);
        }
        with_slices([weight], |[w]| {
            Some(Self(Arc::new(Both {
                widths,
                forward: bf16::Packed::new(inp, out, |i, j| w[i * out + j]),
                backward: bf16::Packed::new(out, inp, |i, j| w[j * out + i]),
            })))
        })
    }

    /// `x [.., in] -> [.., out]`, in f32.
    ///
    /// # Errors
    /// Inputs of another width or type.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        x.contiguous()?.apply_op1(self.clone())
    }

    /// Width of input and output.
    pub fn widths(&self) -> (usize, usize) {
        self.0.widths
    }
}

/// States whose logits are held at once: as many as the caches hold.
const ROWS: usize = 32;

/// Mean cross-entropy (natural logarithm) of the tokens `wanted` after states `x [n,in]`: `head`
/// makes the logits of the first tokens, `more [n,extra]` are those of the tokens behind them. No
/// more than a few rows of logits exist at a time, and their gradient is had with them.
///
/// # Errors
/// Shapes that don't fit, no state, or a token that there is not.
pub fn frozen_cross_entropy(
    head: &FrozenLinear,
    x: &Tensor,
    more: &Tensor,
    wanted: Vec<u32>,
) -> Result<Tensor> {
    let ((n, inp), (m, extra)) = (x.dims2()?, more.dims2()?);
    let (width, rows) = head.widths();
    let known = wanted.iter().all(|id| (*id as usize) < rows + extra);
    if n == 0 || extra == 0 || m != n || inp != width || wanted.len() != n || !known {
        candle_core::bail!(
            "cross-entropy: states {:?}, further logits {:?} and {} tokens do not fit {rows} rows",
            x.dims(),
            more.dims(),
            wanted.len()
        );
    }
    let op = CrossEntropy {
        head: head.clone(),
        wanted,
        grads: Mutex::default(),
    };
    x.contiguous()?.apply_op2(&more.contiguous()?, op)
}

struct CrossEntropy {
    head: FrozenLinear,
    wanted: Vec<u32>,
    /// Of states and further logits, where the loss was computed.
    grads: Mutex<Option<[Vec<f32>; 2]>>,
}

impl CustomOp2 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross-entropy"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        more: &CpuStorage,
        lm: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (width, rows) = self.head.widths();
        let (x, n) = (slice(x, lx)?, self.wanted.len());
        let mut more = slice(more, lm)?.to_vec();
        let extra = more.len() / n;
        let mut dx = fresh(x.len());
        let mut loss = 0f64;
        for first in (0..n).step_by(ROWS) {
            let some = first..n.min(first + ROWS);
            let states = some.start * width..some.end * width;
            let mut logits = product(&self.head.0.forward, &x[states.clone()], width, rows);
            let further = &mut more[some.start * extra..some.end * extra];
            let of_rows: Vec<f32> = logits
                .par_chunks_exact_mut(rows)
                .zip(further.par_chunks_exact_mut(extra))
                .zip(&self.wanted[some])
                .map(|((row, more), wanted)| {
                    cross_entropy::row(row, more, *wanted as usize, 1.0 / n as f32)
                })
                .collect();
            loss += of_rows.iter().copied().map(f64::from).sum::<f64>();
            self.head.0.backward.multiply(&logits, &mut dx[states]);
        }
        let mut kept = self.grads.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some([dx, more]);
        let loss = (loss / n as f64) as f32;
        Ok((CpuStorage::F32(vec![loss]), Shape::from(())))
    }

    fn bwd(
        &self,
        x: &Tensor,
        more: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let kept = self.grads.lock().unwrap_or_else(PoisonError::into_inner);
        let Some([dx, dmore]) = kept.as_ref() else {
            candle_core::bail!("cross-entropy: it was not computed");
        };
        let times = |grad: &[f32], like: &Tensor| -> Result<Option<Tensor>> {
            let grad = Tensor::from_slice(grad, like.shape(), like.device())?;
            Ok(Some(grad.broadcast_mul(dy)?))
        };
        Ok((times(dx, x)?, times(dmore, more)?))
    }
}

/// `x * packed`, whose rows are `to` wide.
fn product(packed: &bf16::Packed, x: &[f32], from: usize, to: usize) -> Vec<f32> {
    let mut out = fresh(x.len() / from * to);
    packed.multiply(x, &mut out);
    out
}

impl CustomOp1 for FrozenLinear {
    fn name(&self) -> &'static str {
        "frozen linear"
    }

    fn cpu_fwd(&self, x: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        let (inp, out) = self.0.widths;
        let mut dims = l.dims().to_vec();
        if dims.pop() != Some(inp) {
            candle_core::bail!(
                "linear: input {:?} does not fit weight [{inp}, {out}]",
                l.dims()
            );
        }
        dims.push(out);
        let y = product(&self.0.forward, slice(x, l)?, inp, out);
        Ok((CpuStorage::F32(y), Shape::from(dims)))
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (inp, out) = self.0.widths;
        let dx = with_slices([dy], |[dy]| product(&self.0.backward, dy, out, inp))?;
        tensor_like(dx, x).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::noise;
    use candle_core::{Device, Var};

    fn off(a: &Tensor, b: &Tensor) -> f32 {
        let largest = |t: Tensor| {
            t.abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        largest((a - b).unwrap()) / largest(b.clone())
    }

    /// Sizes that leave strips, pairs and tiles unfilled; values and gradients are those of the
    /// plain layer within what bf16 rounds off.
    #[test]
    fn it_computes_what_the_plain_layer_does() {
        let cpu = Device::Cpu;
        for (seed, (m, k, n)) in [
            (1, 1, 1),
            (3, 7, 5),
            (9, 48, 47),
            (17, 65, 96),
            (40, 576, 100),
        ]
        .into_iter()
        .enumerate()
        {
            let draw = |stream, shape: &[usize]| noise(seed as u64, stream, shape, &cpu).unwrap();
            let plain = Linear::new(draw(0, &[k, n]), None);
            let Some(frozen) = FrozenLinear::new(&plain).unwrap() else {
                assert!(!bf16::available());
                continue;
            };
            assert_eq!(frozen.widths(), (k, n));
            let x = Var::from_tensor(&draw(1, &[1, m, k])).unwrap();
            let wanted = plain.forward(x.as_tensor()).unwrap();
            let y = frozen.forward(&x).unwrap();
            assert_eq!(y.dims(), wanted.dims());
            assert!(off(&y, &wanted) < 1e-2, "{m}x{k}x{n}: {}", off(&y, &wanted));
            let toward = draw(2, &[1, m, n]);
            let gradient = |y: Tensor| {
                let grads = (y * &toward)
                    .unwrap()
                    .sum_all()
                    .unwrap()
                    .backward()
                    .unwrap();
                grads.get(&x).unwrap().clone()
            };
            let (dx, wanted) = (gradient(y), gradient(wanted));
            assert!(
                off(&dx, &wanted) < 1e-2,
                "{m}x{k}x{n}: {}",
                off(&dx, &wanted)
            );
        }
    }

    /// On numbers that bf16 holds exactly, so is the product; NaN stays where it belongs.
    #[test]
    fn small_whole_numbers_are_exact_and_nan_is_not_lost() {
        let cpu = Device::Cpu;
        let whole = |rows: usize, columns: usize| {
            let numbers: Vec<f32> = (0..rows * columns)
                .map(|i| ((i * 37) % 17) as f32 - 8.0)
                .collect();
            Tensor::from_vec(numbers, (rows, columns), &cpu).unwrap()
        };
        let plain = Linear::new(whole(33, 50), None);
        let Some(frozen) = FrozenLinear::new(&plain).unwrap() else {
            return;
        };
        let x = whole(11, 33);
        assert_eq!(
            off(&frozen.forward(&x).unwrap(), &plain.forward(&x).unwrap()),
            0.0
        );
        let mut rows = x.to_vec2::<f32>().unwrap();
        rows[4][2] = f32::NAN;
        let x = Tensor::new(rows, &cpu).unwrap();
        let y = frozen.forward(&x).unwrap().to_vec2::<f32>().unwrap();
        for (i, row) in y.iter().enumerate() {
            assert!(row.iter().all(|v| v.is_nan() == (i == 4)));
        }
        assert!(frozen.forward(&whole(2, 32)).is_err());
    }

    #[test]
    fn cross_entropy_is_that_of_all_logits() {
        let cpu = Device::Cpu;
        let (n, width, rows, extra) = (70, 24, 101, 3);
        let draw = |stream, shape: &[usize]| noise(5, stream, shape, &cpu).unwrap();
        let plain = Linear::new(draw(0, &[width, rows]), None);
        let Some(head) = FrozenLinear::new(&plain).unwrap() else {
            return;
        };
        let x = Var::from_tensor(&draw(1, &[n, width])).unwrap();
        let more = Var::from_tensor(&(draw(2, &[n, extra]) * 3.0).unwrap()).unwrap();
        let wanted: Vec<u32> = (0..n as u32).map(|i| i * 13 % 104).collect();
        let by_hand = {
            let logits = Tensor::cat(&[head.forward(&x).unwrap(), more.as_tensor().clone()], 1);
            let softmax = candle_nn::ops::log_softmax(&logits.unwrap(), 1).unwrap();
            candle_nn::loss::nll(&softmax, &Tensor::new(wanted.as_slice(), &cpu).unwrap()).unwrap()
        };
        let ours = frozen_cross_entropy(&head, &x, &more, wanted.clone()).unwrap();
        let number = |t: &Tensor| t.to_scalar::<f32>().unwrap();
        assert!((number(&ours) - number(&by_hand)).abs() < 1e-5 * number(&by_hand));
        let grads = [ours, by_hand].map(|loss| (loss * 2.5).unwrap().backward().unwrap());
        // The gradient of the states is rounded to bf16 on its way through the head.
        for (var, bound) in [(&more, 1e-5), (&x, 1e-2)] {
            let [a, b] = [&grads[0], &grads[1]].map(|g| g.get(var).unwrap());
            assert!(off(a, b) < bound, "{}", off(a, b));
        }
        let unknown = frozen_cross_entropy(&head, &x, &more, vec![104; n]);
        assert!(unknown.is_err());
        let lost = Tensor::full(f32::NAN, (n, extra), &cpu).unwrap();
        assert!(number(&frozen_cross_entropy(&head, &x, &lost, wanted).unwrap()).is_nan());
    }
}
