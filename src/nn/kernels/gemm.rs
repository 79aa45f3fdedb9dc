//! The two micro-kernels.

#[cfg(target_arch = "x86_64")]
use super::gemm_avx2;
pub(crate) use super::geometry::NR;
use super::simd::{FUSED, fused};
#[cfg(target_arch = "x86_64")]
use super::simd::{Isa, isa};
use std::cell::RefCell;

/// Most rows of a tile.
pub(crate) const MR: usize = 14;
/// Floats that must be readable past the last element of a left operand.
pub(crate) const SLACK: usize = 16;

thread_local! {
    static SCRATCH: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `f` with a scratch vector of this thread, kept between calls so that steady work
/// allocates nothing.
pub(crate) fn with_scratch<R>(f: impl FnOnce(&mut Vec<f32>) -> R) -> R {
    let mut v = SCRATCH.with(|s| s.borrow_mut().pop().unwrap_or_default());
    let r = f(&mut v);
    SCRATCH.with(|s| s.borrow_mut().push(v));
    r
}

/// `n` floats of any value, for a result that is written as a whole: to write zeros first would
/// take as long as many an operation.
pub(crate) fn fresh(n: usize) -> Vec<f32> {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    {
        let mut v = Vec::<f32>::with_capacity(n);
        // SAFETY: there is room for `n` floats. The compiler must assume that the assembly, which
        // is handed the pointer, writes them, so they have values, if unknown ones; every pattern
        // of bits is a float.
        unsafe {
            std::arch::asm!("/* {0} */", in(reg) v.as_mut_ptr(), options(nostack, preserves_flags));
            v.set_len(n);
        }
        v
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    vec![0.0; n]
}

/// Row tile: `c[m][j] = bias[j] + sum over segments s and i < seg_len of a[m][s + i] * strip[(s,i)][j]`
/// for up to [`MR`] rows; with `add` on top of what `c` holds.
///
/// # Safety
/// `a[m] + segs[..] + 0..seg_len` must be readable for every row, `strip` must hold
/// `segs.len() * seg_len` rows, and `c[m]` must be writable for `width` floats.
pub(crate) unsafe fn rows_tile(
    a: &[*const f32],
    segs: &[usize],
    seg_len: usize,
    strip: &[f32],
    c: &[*mut f32],
    width: usize,
    bias: &[f32; NR],
    add: bool,
) {
    debug_assert!(strip.len() >= segs.len() * seg_len * NR && a.len() == c.len());
    macro_rules! by_rows {
        ($f:ident $(, $v:tt)?) => {
            // SAFETY: the caller's promise holds for as many rows as `a` and `c` have pointers,
            // which is the height that is chosen; where `$f` needs AVX-512, it was found.
            unsafe {
                match a.len() {
                    1 => $f::<1 $(, $v)?>(a, segs, seg_len, strip, c, width, bias, add),
                    2 => $f::<2 $(, $v)?>(a, segs, seg_len, strip, c, width, bias, add),
                    3 => $f::<3 $(, $v)?>(a, segs, seg_len, strip, c, width, bias, add),
                    4 => $f::<4 $(, $v)?>(a, segs, seg_len, strip, c, width, bias, add),
                    5 => $f::<5 $(, $v)?>(a, segs, seg_len, strip, c, width, bias, add),
                    6 => $f::<6 $(, $v)?>(a, segs, seg_len, strip, c, width, bias, add),
                    7 => $f::<7 $(, $v)?>(a, segs, seg_len, strip, c, width, bias, add),
                    8 => $f::<8 $(, $v)?>(a, segs, seg_len, strip, c, width, bias, add),
                    9 => $f::<9 $(, $v)?>(a, segs, seg_len, strip, c, width, bias, add),
                    10 => $f::<10 $(, $v)?>(a, segs, seg_len, strip, c, width, bias, add),
                    11 => $f::<11 $(, $v)?>(a, segs, seg_len, strip, c, width, bias, add),
                    12 => $f::<12 $(, $v)?>(a, segs, seg_len, strip, c, width, bias, add),
                    13 => $f::<13 $(, $v)?>(a, segs, seg_len, strip, c, width, bias, add),
                    14 => $f::<14 $(, $v)?>(a, segs, seg_len, strip, c, width, bias, add),
                    _ => unreachable!("tiles have 1 to MR rows"),
                }
            }
        };
    }
    #[cfg(target_arch = "x86_64")]
    if isa() == Isa::Avx512 {
        return if width > 16 {
            by_rows!(rows_avx512, 2);
        } else {
            by_rows!(rows_avx512, 1);
        };
    }
    #[cfg(target_arch = "x86_64")]
    if isa() == Isa::Avx2 {
        // SAFETY: the processor has AVX2; the rest is the caller's promise.
        return unsafe { gemm_avx2::rows(a, segs, seg_len, strip, c, width, bias, add) };
    }
    by_rows!(rows_portable, FUSED);
}

/// Step tile: `c[m*ldc + j] += sum over t of x[steps[t] + m] * b[t*ldb + j]` for `rows` rows.
///
/// # Safety
/// `x + steps[..] + 0..MR` must be readable (see [`SLACK`]), `b` must hold `steps.len()` rows,
/// `ldb` apart, of `width` floats rounded up to whole vectors of 16, and `c` must be writable for
/// `rows` rows of `width` floats, `ldc` apart.
pub(crate) unsafe fn steps_tile(
    x: *const f32,
    steps: &[usize],
    b: &[f32],
    ldb: usize,
    c: *mut f32,
    ldc: usize,
    rows: usize,
    width: usize,
) {
    debug_assert!(
        steps.is_empty() || b.len() >= (steps.len() - 1) * ldb + width.next_multiple_of(16)
    );
    macro_rules! by_rows {
        ($f:ident $(, $v:tt)?) => {
            // SAFETY: the caller's promise holds for `rows` rows, of which each height writes no
            // more and reads at most MR; where `$f` needs AVX-512, it was found.
            unsafe {
                match rows {
                    0..=2 => $f::<2 $(, $v)?>(x, steps, b, ldb, c, ldc, rows, width),
                    3..=4 => $f::<4 $(, $v)?>(x, steps, b, ldb, c, ldc, rows, width),
                    5..=8 => $f::<8 $(, $v)?>(x, steps, b, ldb, c, ldc, rows, width),
                    9 => $f::<9 $(, $v)?>(x, steps, b, ldb, c, ldc, rows, width),
                    10 => $f::<10 $(, $v)?>(x, steps, b, ldb, c, ldc, rows, width),
                    11 => $f::<11 $(, $v)?>(x, steps, b, ldb, c, ldc, rows, width),
                    12 => $f::<12 $(, $v)?>(x, steps, b, ldb, c, ldc, rows, width),
                    13 => $f::<13 $(, $v)?>(x, steps, b, ldb, c, ldc, rows, width),
                    14 => $f::<14 $(, $v)?>(x, steps, b, ldb, c, ldc, rows, width),
                    _ => unreachable!("tiles have at most MR rows"),
                }
            }
        };
    }
    #[cfg(target_arch = "x86_64")]
    if isa() == Isa::Avx512 {
        return if width > 16 {
            by_rows!(steps_avx512, 2);
        } else {
            by_rows!(steps_avx512, 1);
        };
    }
    #[cfg(target_arch = "x86_64")]
    if isa() == Isa::Avx2 {
        // SAFETY: the processor has AVX2; the rest is the caller's promise.
        return unsafe { gemm_avx2::steps(x, steps, b, ldb, c, ldc, rows, width) };
    }
    by_rows!(steps_portable, FUSED);
}

/// The tile height (8 to 14) that is quickest for `m` rows: each tile costs its rows, whether they
/// are needed or not, and about one and a half more to load the right operand.
pub(crate) fn tile_rows(m: usize) -> usize {
    (8..=MR)
        .rev()
        .min_by_key(|r| m.div_ceil(*r) * (2 * r + 3))
        .unwrap_or(MR)
}

/// Which lanes of the `v`-th vector of a tile `width` columns wide are stored.
#[cfg(target_arch = "x86_64")]
fn lanes(width: usize, v: usize) -> u16 {
    match width.saturating_sub(16 * v) {
        16.. => 0xffff,
        n => (1 << n) - 1,
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn rows_avx512<const R: usize, const V: usize>(
    a: &[*const f32],
    segs: &[usize],
    seg_len: usize,
    strip: &[f32],
    c: &[*mut f32],
    width: usize,
    bias: &[f32; NR],
    add: bool,
) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise (`rows_tile`); the masks keep stores within `width`.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); V]; R];
        let mut b = strip.as_ptr();
        let mut p = [std::ptr::null::<f32>(); R];
        for &seg in segs {
            for m in 0..R {
                p[m] = a[m].add(seg);
            }
            for i in 0..seg_len {
                let mut row = [_mm512_setzero_ps(); V];
                for v in 0..V {
                    row[v] = _mm512_loadu_ps(b.add(16 * v));
                }
                b = b.add(NR);
                for m in 0..R {
                    let x = _mm512_set1_ps(*p[m].add(i));
                    for v in 0..V {
                        acc[m][v] = _mm512_fmadd_ps(x, row[v], acc[m][v]);
                    }
                }
            }
        }
        for m in 0..R {
            let out = c[m];
            for v in 0..V {
                let mask = lanes(width, v);
                let at = out.wrapping_add(16 * v);
                let mut before = _mm512_loadu_ps(bias.as_ptr().add(16 * v));
                if add {
                    before = _mm512_add_ps(before, _mm512_maskz_loadu_ps(mask, at));
                }
                _mm512_mask_storeu_ps(at, mask, _mm512_add_ps(acc[m][v], before));
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn steps_avx512<const R: usize, const V: usize>(
    x: *const f32,
    steps: &[usize],
    b: &[f32],
    ldb: usize,
    c: *mut f32,
    ldc: usize,
    rows: usize,
    width: usize,
) {
    use std::arch::x86_64::*;
    // SAFETY: the caller's promise (`steps_tile`); the masks keep stores within `width`.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); V]; R];
        let mut b = b.as_ptr();
        for &s in steps {
            let p = x.add(s);
            let mut row = [_mm512_setzero_ps(); V];
            for v in 0..V {
                row[v] = _mm512_loadu_ps(b.add(16 * v));
            }
            b = b.wrapping_add(ldb);
            for m in 0..R {
                let a = _mm512_set1_ps(*p.add(m));
                for v in 0..V {
                    acc[m][v] = _mm512_fmadd_ps(a, row[v], acc[m][v]);
                }
            }
        }
        for m in 0..R {
            if m >= rows {
                break;
            }
            let out = c.add(m * ldc);
            for v in 0..V {
                let mask = lanes(width, v);
                let at = out.wrapping_add(16 * v);
                let before = _mm512_maskz_loadu_ps(mask, at);
                _mm512_mask_storeu_ps(at, mask, _mm512_add_ps(acc[m][v], before));
            }
        }
    }
}

/// Rows in small groups and half a strip at a time, so that NEON's registers hold the sums; the
/// compiler vectorises the inner loops.
#[inline(always)]
unsafe fn rows_portable<const R: usize, const FMA: bool>(
    a: &[*const f32],
    segs: &[usize],
    seg_len: usize,
    strip: &[f32],
    c: &[*mut f32],
    width: usize,
    bias: &[f32; NR],
    add: bool,
) {
    const G: usize = 4;
    const W: usize = 16;
    // SAFETY: the caller's promise (`rows_tile`).
    unsafe {
        for half in 0..NR / W {
            for m0 in (0..R).step_by(G) {
                let rows = G.min(R - m0);
                let mut acc = [[0f32; W]; G];
                let mut k = 0;
                for &seg in segs {
                    // Rows past the tile repeat the last one; their sums are not stored.
                    let p: [*const f32; G] =
                        std::array::from_fn(|m| a[(m0 + m).min(R - 1)].add(seg));
                    for i in 0..seg_len {
                        let b: &[f32; W] = &*strip.as_ptr().add(k * NR + half * W).cast();
                        for m in 0..G {
                            let v = *p[m].add(i);
                            for j in 0..W {
                                acc[m][j] = fused::<FMA>(v, b[j], acc[m][j]);
                            }
                        }
                        k += 1;
                    }
                }
                let n = width.saturating_sub(half * W).min(W);
                for m in 0..rows {
                    for j in 0..n {
                        let out = c[m0 + m].add(half * W + j);
                        let before = if add { *out } else { 0.0 };
                        *out = acc[m][j] + bias[half * W + j] + before;
                    }
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn steps_portable<const R: usize, const FMA: bool>(
    x: *const f32,
    steps: &[usize],
    b: &[f32],
    ldb: usize,
    c: *mut f32,
    ldc: usize,
    rows: usize,
    width: usize,
) {
    const G: usize = 4;
    const W: usize = 16;
    // SAFETY: the caller's promise (`steps_tile`); `SLACK` covers the group's rows past the tile.
    unsafe {
        for half in 0..width.div_ceil(W) {
            for m0 in (0..R).step_by(G) {
                let mut acc = [[0f32; W]; G];
                for (t, &s) in steps.iter().enumerate() {
                    let b: &[f32; W] = &*b.as_ptr().add(t * ldb + half * W).cast();
                    let p: &[f32; G] = &*x.add(s + m0).cast();
                    for m in 0..G {
                        for j in 0..W {
                            acc[m][j] = fused::<FMA>(p[m], b[j], acc[m][j]);
                        }
                    }
                }
                let n = width.saturating_sub(half * W).min(W);
                for m in 0..G.min(rows.saturating_sub(m0)) {
                    for j in 0..n {
                        *c.add((m0 + m) * ldc + half * W + j) += acc[m][j];
                    }
                }
            }
        }
    }
}
