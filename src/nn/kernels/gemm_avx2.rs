//! The micro-kernels of [`gemm`](super::gemm) with AVX2: half a strip of the right operand and up
//! to six rows at a time, so that its sixteen registers hold the sums.

use std::arch::x86_64::*;

use super::geometry::NR;
use super::lanes::LANES;
use super::lanes_avx2::mask;

/// Columns worked on together.
const WIDTH: usize = LANES;
/// Most rows worked on together.
const GROUP: usize = 6;

/// Calls `$f::<rows>` for groups of nearly as many rows each, at most [`GROUP`].
macro_rules! by_groups {
    ($rows:expr, |$at:ident| $f:ident($($arg:expr),*)) => {{
        let mut $at = 0;
        while $at < $rows {
            let left = $rows - $at;
            let count = left.div_ceil(left.div_ceil(GROUP));
            match count {
                1 => $f::<1>($($arg),*),
                2 => $f::<2>($($arg),*),
                3 => $f::<3>($($arg),*),
                4 => $f::<4>($($arg),*),
                5 => $f::<5>($($arg),*),
                _ => $f::<GROUP>($($arg),*),
            }
            $at += count;
        }
    }};
}

/// [`rows_tile`](super::gemm::rows_tile).
///
/// # Safety
/// What that asks for, and a processor with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn rows(
    a: &[*const f32],
    segs: &[usize],
    seg_len: usize,
    strip: &[f32],
    c: &[*mut f32],
    width: usize,
    bias: &[f32; NR],
    add: bool,
) {
    // SAFETY: the caller's promise; halves without a column of their own are left out.
    unsafe {
        for at in (0..width).step_by(WIDTH) {
            let (b, bias) = (strip.as_ptr().add(at), bias.as_ptr().add(at));
            let columns = Columns::new(at, width);
            by_groups!(a.len(), |m| rows_of(
                &a[m..],
                segs,
                seg_len,
                b,
                &c[m..],
                columns,
                bias,
                add
            ));
        }
    }
}

/// [`steps_tile`](super::gemm::steps_tile).
///
/// # Safety
/// What that asks for, and a processor with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn steps(
    x: *const f32,
    steps: &[usize],
    b: &[f32],
    ldb: usize,
    c: *mut f32,
    ldc: usize,
    rows: usize,
    width: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for at in (0..width).step_by(WIDTH) {
            let columns = Columns::new(at, width);
            let b = b.as_ptr().wrapping_add(at);
            by_groups!(rows, |m| steps_of(
                x.add(m),
                steps,
                b,
                ldb,
                c.add(m * ldc),
                ldc,
                columns
            ));
        }
    }
}

/// Which columns of a tile are worked on.
#[derive(Clone, Copy)]
struct Columns {
    first: usize,
    /// Which of the [`WIDTH`] are stored; `None`: all.
    masks: Option<[__m256i; 2]>,
}

impl Columns {
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn new(first: usize, width: usize) -> Self {
        let n = (width - first).min(WIDTH);
        // SAFETY: the processor has AVX2.
        let masks = (n < WIDTH).then(|| unsafe { mask(n) });
        Self { first, masks }
    }

    /// `sums` to a row of the result, on top of `bias` and, with `add`, of what it holds.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn store(&self, sums: [__m256; 2], row: *mut f32, bias: [__m256; 2], add: bool) {
        // SAFETY: the caller owns this row for the columns that are stored.
        unsafe {
            for v in 0..2 {
                let at = row.wrapping_add(self.first + 8 * v);
                let mut sum = _mm256_add_ps(sums[v], bias[v]);
                match self.masks {
                    None => {
                        if add {
                            sum = _mm256_add_ps(sum, _mm256_loadu_ps(at));
                        }
                        _mm256_storeu_ps(at, sum);
                    }
                    Some(masks) => {
                        if add {
                            sum = _mm256_add_ps(sum, _mm256_maskload_ps(at, masks[v]));
                        }
                        _mm256_maskstore_ps(at, masks[v], sum);
                    }
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn rows_of<const G: usize>(
    a: &[*const f32],
    segs: &[usize],
    seg_len: usize,
    mut b: *const f32,
    c: &[*mut f32],
    columns: Columns,
    bias: *const f32,
    add: bool,
) {
    // SAFETY: the caller's promise (`rows`).
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); 2]; G];
        for &seg in segs {
            let rows: [*const f32; G] = std::array::from_fn(|m| a[m].add(seg));
            for i in 0..seg_len {
                let right = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
                b = b.wrapping_add(NR);
                for m in 0..G {
                    let x = _mm256_broadcast_ss(&*rows[m].add(i));
                    sums[m][0] = _mm256_fmadd_ps(x, right[0], sums[m][0]);
                    sums[m][1] = _mm256_fmadd_ps(x, right[1], sums[m][1]);
                }
            }
        }
        let bias = [_mm256_loadu_ps(bias), _mm256_loadu_ps(bias.add(8))];
        for m in 0..G {
            columns.store(sums[m], c[m], bias, add);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn steps_of<const G: usize>(
    x: *const f32,
    steps: &[usize],
    mut b: *const f32,
    ldb: usize,
    c: *mut f32,
    ldc: usize,
    columns: Columns,
) {
    // SAFETY: the caller's promise (`steps`).
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); 2]; G];
        for &step in steps {
            let left = x.add(step);
            let right = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
            b = b.wrapping_add(ldb);
            for m in 0..G {
                let x = _mm256_broadcast_ss(&*left.add(m));
                sums[m][0] = _mm256_fmadd_ps(x, right[0], sums[m][0]);
                sums[m][1] = _mm256_fmadd_ps(x, right[1], sums[m][1]);
            }
        }
        for m in 0..G {
            columns.store(sums[m], c.add(m * ldc), [_mm256_setzero_ps(); 2], true);
        }
    }
}
