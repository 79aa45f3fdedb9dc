//! Rotary position embedding.

use super::device::Run;
use super::elementwise::Spread;
use super::tensor::GpuTensor;
use crate::nn::Result;

impl GpuTensor {
    /// Turns the first `pairs` pairs of each head of `head` numbers of `[.., T, row]` by `turns`,
    /// cosine and sine, `[T, pairs, 2]`. A pair are neighbours, or with `halves` numbers that stand
    /// `pairs` apart.
    ///
    /// # Errors
    /// Shapes that don't fit, or a GPU that fails.
    pub fn rotary(&self, turns: &Self, head: usize, pairs: usize, halves: bool) -> Result<Self> {
        let row = self.dims().last().copied().unwrap_or(0);
        let tokens = self.count() / row.max(1);
        if head == 0
            || !row.is_multiple_of(head)
            || 2 * pairs > head
            || turns.count() != 2 * tokens * pairs
        {
            candle_core::bail!("{:?} turned by {:?}", self.dims(), turns.dims());
        }
        let y = Self::new(self.gpu(), self.dims().to_vec())?;
        let spread = Spread::of(self.gpu(), self.count());
        let kind = if halves { "halves" } else { "neighbours" };
        self.gpu().run(&Run {
            kernel: &format!("rotary of {kind}{}", spread.name),
            source: &|| {
                let (pair, second, apart) = match halves {
                    true => ("at % s.pairs", "at >= s.pairs", "s.pairs"),
                    false => ("at / 2u", "at % 2u == 1u", "1u"),
                };
                spread
                    .source(include_str!("kernels/rotary.wgsl"))
                    .replace("PAIR", pair)
                    .replace("SECOND", second)
                    .replace("APART", apart)
            },
            sizes: &[self.count(), row, head, pairs].map(|size| size as u32),
            steps: 1,
            reads: &[self.buffer(), turns.buffer()],
            writes: y.buffer(),
            groups: spread.groups,
            flops: 3 * self.count() as u64,
            bytes: 2 * self.bytes() + turns.bytes(),
            moved: 2 * self.bytes() + turns.bytes(),
        })?;
        Ok(y)
    }
}
