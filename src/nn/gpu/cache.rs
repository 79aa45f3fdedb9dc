//! Keys and values of the tokens that a language model has read, on a GPU.

use super::strided;
use super::tensor::GpuTensor;
use crate::nn::Result;

/// Tokens by which it grows at least.
const PAGE: usize = 256;

/// Those of one layer, f32: it grows as a text does.
#[derive(Clone, Debug, Default)]
pub struct GpuCache(Option<(GpuTensor, GpuTensor)>);

impl GpuCache {
    /// Writes `k` and `v`, `[1,T,C]`, behind the first `length` tokens, and gives all that there is
    /// then, `[1,length+T,C]`, which is only good until the next call.
    ///
    /// # Errors
    /// A GPU that is lost or short of memory.
    pub fn extended(
        &mut self,
        length: usize,
        k: &GpuTensor,
        v: &GpuTensor,
    ) -> Result<(GpuTensor, GpuTensor)> {
        let old = self.0.take();
        let (keys, values) = match old {
            Some((keys, values)) => (Some(keys), Some(values)),
            None => (None, None),
        };
        let keys = grown(keys, length, k)?;
        let values = grown(values, length, v)?;
        let all = length + k.dims()[1];
        let there = (keys.first_rows(all)?, values.first_rows(all)?);
        self.0 = Some((keys, values));
        Ok(there)
    }
}

/// Room for the first `length` tokens of `old` and for `new`, with both in it.
fn grown(old: Option<GpuTensor>, length: usize, new: &GpuTensor) -> Result<GpuTensor> {
    let &[1, tokens, width] = new.dims() else {
        candle_core::bail!("{:?} are no keys of one text", new.dims());
    };
    let needed = length + tokens;
    let room = match old {
        Some(old) if old.dims()[1] >= needed => old,
        old => {
            let rows = needed.max(2 * length).next_multiple_of(PAGE);
            let room = GpuTensor::new(new.gpu(), vec![1, rows, width])?;
            if let Some(old) = old
                && length > 0
            {
                strided::write_rows(&old.first_rows(length)?, &room, 0)?;
            }
            room
        }
    };
    strided::write_rows(new, &room, length)?;
    Ok(room)
}
