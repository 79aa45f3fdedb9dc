//! Making a network wider without unlearning (Net2Net, arXiv 1511.05641).

use candle_core::Tensor;

use super::{Result, noise};

/// How far apart the copies of a channel begin to be read; without it they would stay alike.
const APART: f64 = 0.1;

/// A weight `old` (file layout, f32: a vector, or outputs before inputs) for layers with a multiple
/// of its channels, `shape`; `None` where that is no multiple. Every channel is followed by its
/// copies, which group norms don't notice, and the copies are read in shares that add up to what
/// was read before.
pub(super) fn widened(old: &Tensor, shape: &[usize], stream: u64) -> Result<Option<Tensor>> {
    let dims = old.dims();
    let multiple = |(new, old): (&usize, &usize)| *new >= *old && new.is_multiple_of(*old);
    if dims.is_empty()
        || dims.len() != shape.len()
        || !shape.iter().zip(dims).take(2).all(multiple)
        || shape.iter().skip(2).ne(dims.iter().skip(2))
    {
        return Ok(None);
    }
    let mut wide = repeated(old, 0, shape[0])?;
    if let (Some(&inputs), Some(&before)) = (shape.get(1), dims.get(1)) {
        let copies = inputs / before;
        wide = repeated(&wide, 1, inputs)?;
        if copies > 1 {
            let mut split = wide.dims().to_vec();
            split[1] = before;
            split.insert(2, copies);
            let apart = (noise(0x71de, stream, &split, wide.device())? * APART)?;
            let apart = apart.broadcast_sub(&apart.mean_keepdim(2)?)?;
            let shares = (apart + 1.0 / copies as f64)?;
            wide = (wide.reshape(&split[..])? * shares)?.reshape(shape)?;
        }
    }
    Ok(Some(wide))
}

/// Each index of `axis` so many times in a row that there are `len`.
fn repeated(t: &Tensor, axis: usize, len: usize) -> Result<Tensor> {
    let copies = len / t.dim(axis)?;
    let order: Vec<u32> = (0..len as u32).map(|i| i / copies as u32).collect();
    t.index_select(&Tensor::from_vec(order, len, t.device())?, axis)
}
