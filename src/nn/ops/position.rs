//! Rotary embedding and embedding with a mask as candle operations.

use super::{Result, slice, tensor_like, with_slices};
use crate::nn::kernels::elementwise;
use crate::nn::kernels::gemm::fresh;
use candle_core::{CpuStorage, CustomOp2, Layout, Shape, Tensor};

pub(super) struct RotaryOp;

/// Width of a row of `x [batch, positions, width]` and of a head, for `turns [positions, dim/2, 2]`.
fn sizes(x: &[usize], turns: &[usize]) -> Result<(usize, usize)> {
    let (&[_, positions, width], &[turned, half, 2]) = (x, turns) else {
        candle_core::bail!("rotary: {x:?} can't be turned by {turns:?}");
    };
    if positions != turned || half == 0 || !width.is_multiple_of(2 * half) {
        candle_core::bail!("rotary: {x:?} can't be turned by {turns:?}");
    }
    Ok((width, 2 * half))
}

impl CustomOp2 for RotaryOp {
    fn name(&self) -> &'static str {
        "rotary"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        t: &CpuStorage,
        lt: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (width, dim) = sizes(lx.dims(), lt.dims())?;
        let x = slice(x, lx)?;
        let mut y = fresh(x.len());
        elementwise::rotate(slice(t, lt)?, width, dim, false, x, &mut y);
        Ok((CpuStorage::F32(y), lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        turns: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (width, dim) = sizes(x.dims(), turns.dims())?;
        let dx = with_slices([turns, dy], |[turns, dy]| {
            let mut dx = fresh(dy.len());
            elementwise::rotate(turns, width, dim, true, dy, &mut dx);
            dx
        })?;
        Ok((Some(tensor_like(dx, x)?), None))
    }
}

/// Rows by id; only rows that `learns` marks get a gradient.
pub(super) struct MaskedEmbeddingOp {
    pub learns: Vec<bool>,
}

impl MaskedEmbeddingOp {
    fn row(&self, id: u32, rows: usize) -> Result<usize> {
        match usize::try_from(id) {
            Ok(row) if row < rows => Ok(row),
            _ => candle_core::bail!("embedding: id {id} is not one of {rows} rows"),
        }
    }
}

impl CustomOp2 for MaskedEmbeddingOp {
    fn name(&self) -> &'static str {
        "masked-embedding"
    }

    fn cpu_fwd(
        &self,
        table: &CpuStorage,
        lt: &Layout,
        ids: &CpuStorage,
        li: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, dim) = lt.shape().dims2()?;
        let table = slice(table, lt)?;
        let Some((from, to)) = li.contiguous_offsets() else {
            candle_core::bail!("embedding: ids are not contiguous");
        };
        let mut y = Vec::with_capacity((to - from) * dim);
        for &id in &ids.as_slice::<u32>()?[from..to] {
            let row = self.row(id, rows)?;
            y.extend_from_slice(&table[row * dim..(row + 1) * dim]);
        }
        Ok((CpuStorage::F32(y), Shape::from((to - from, dim))))
    }

    fn bwd(
        &self,
        table: &Tensor,
        ids: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (rows, dim) = table.dims2()?;
        let mut sums = vec![0f32; rows * dim];
        let ids = ids.to_vec1::<u32>()?;
        with_slices([dy], |[dy]| -> Result<()> {
            for (&id, dy) in ids.iter().zip(dy.chunks_exact(dim.max(1))) {
                let row = self.row(id, rows)?;
                if self.learns[row] {
                    let sums = &mut sums[row * dim..(row + 1) * dim];
                    sums.iter_mut().zip(dy).for_each(|(s, d)| *s += d);
                }
            }
            Ok(())
        })??;
        Ok((Some(tensor_like(sums, table)?), None))
    }
}
