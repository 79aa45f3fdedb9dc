//! What the kernels of convolutions, products and norms share: sizes, places, and where tasks write.

/// Columns of a packed strip.
pub(crate) const NR: usize = 32;

/// Sizes of one convolution. Padding is top, left, bottom, right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    /// Pictures in a batch.
    pub batch: usize,
    /// Height of the input.
    pub h: usize,
    /// Width of the input.
    pub w: usize,
    /// Input channels.
    pub cin: usize,
    /// Output channels.
    pub cout: usize,
    /// Height of the kernel.
    pub kh: usize,
    /// Width of the kernel.
    pub kw: usize,
    /// Stride in both directions.
    pub stride: usize,
    /// Zeros around the input: top, left, bottom, right.
    pub pad: [usize; 4],
    /// Whether the input is doubled in height and width first (nearest neighbour).
    pub upsample: bool,
}

impl Geometry {
    pub(super) fn scale(&self) -> usize {
        if self.upsample { 2 } else { 1 }
    }

    /// Height and width of the padded input.
    pub(super) fn padded(&self) -> (usize, usize) {
        let s = self.scale();
        (
            s * self.h + self.pad[0] + self.pad[2],
            s * self.w + self.pad[1] + self.pad[3],
        )
    }

    /// Height and width of the output.
    pub(crate) fn out(&self) -> (usize, usize) {
        let (h, w) = self.padded();
        (
            (h - self.kh) / self.stride + 1,
            (w - self.kw) / self.stride + 1,
        )
    }

    pub(super) fn taps(&self, width: usize, channels: usize) -> Vec<usize> {
        (0..self.kh * self.kw)
            .map(|t| (t / self.kw * width + t % self.kw) * channels)
            .collect()
    }

    pub(super) fn in_place(&self) -> bool {
        self.pad == [0; 4] && !self.upsample
    }

    /// Where each output place starts in the padded input.
    pub(super) fn bases(&self) -> Vec<usize> {
        let ((hp, wp), (ho, wo)) = (self.padded(), self.out());
        places(self.batch, (hp, wp), (ho, wo), self.stride, self.cin)
    }
}

pub(super) fn places(
    batch: usize,
    inner: (usize, usize),
    out: (usize, usize),
    stride: usize,
    c: usize,
) -> Vec<usize> {
    let mut v = Vec::with_capacity(batch * out.0 * out.1);
    for b in 0..batch {
        for y in 0..out.0 {
            let row = (b * inner.0 + y * stride) * inner.1;
            v.extend((0..out.1).map(|x| (row + x * stride) * c));
        }
    }
    v
}

#[derive(Clone, Copy)]
pub(super) struct OutPtr(pub *mut f32);
// SAFETY: every task that holds one writes rows and columns no other task writes.
unsafe impl Send for OutPtr {}
// SAFETY: as above.
unsafe impl Sync for OutPtr {}

impl OutPtr {
    /// The pointer `i` floats on (through a method, so that closures capture the whole struct).
    pub(super) fn at(self, i: usize) -> *mut f32 {
        self.0.wrapping_add(i)
    }
}
