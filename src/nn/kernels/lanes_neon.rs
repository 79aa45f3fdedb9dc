//! [`Lanes`] with NEON: four registers of four floats.

use std::arch::aarch64::*;

use super::lanes::{ERF, LANES, Lanes};

/// Lanes 0 to 3, 4 to 7, and so on.
#[derive(Clone, Copy)]
pub(super) struct Quad(float32x4_t, float32x4_t, float32x4_t, float32x4_t);

/// Cody and Waite's reduction by powers of two, then Cephes' polynomial. The bounds let NaN pass.
#[inline(always)]
unsafe fn exp(x: float32x4_t) -> float32x4_t {
    // SAFETY: every processor that this is compiled for has NEON.
    unsafe {
        let all = |value: f32| vdupq_n_f32(value);
        let x = vminq_f32(all(89.0), vmaxq_f32(all(-104.0), x));
        let n = vrndnq_f32(vmulq_f32(x, all(std::f32::consts::LOG2_E)));
        let r = vfmaq_f32(x, n, all(-0.693_359_4));
        let r = vfmaq_f32(r, n, all(2.121_944_4e-4));
        let p = all(1.987_569_1e-4);
        let p = vfmaq_f32(all(1.398_199_9e-3), p, r);
        let p = vfmaq_f32(all(8.333_452e-3), p, r);
        let p = vfmaq_f32(all(4.166_579_6e-2), p, r);
        let p = vfmaq_f32(all(1.666_666_5e-1), p, r);
        let p = vfmaq_f32(all(0.5), p, r);
        let p = vfmaq_f32(r, vmulq_f32(r, r), p);
        let p = vaddq_f32(p, all(1.0));
        // 2^n as two factors, since neither 2^128 nor 2^-150 is a whole f32.
        let n = vcvtq_s32_f32(n);
        let half = vshrq_n_s32::<1>(n);
        let power = |n: int32x4_t| {
            let biased = vaddq_s32(n, vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(biased))
        };
        let rest = vsubq_s32(n, half);
        vmulq_f32(vmulq_f32(p, power(half)), power(rest))
    }
}

/// `x` times a polynomial for erf(|x|)/|x| in each quarter of 0 to 4, looked up; 1 beyond.
#[inline(always)]
unsafe fn erf(x: float32x4_t) -> float32x4_t {
    // SAFETY: every processor that this is compiled for has NEON; rows of the table hold 64 bytes.
    unsafe {
        let four = vdupq_n_f32(4.0);
        let a = vabsq_f32(x);
        // Where one is NaN, this takes the other.
        let quarters = vmulq_f32(vminnmq_f32(four, a), four);
        let rest = vsubq_f32(quarters, vrndq_f32(quarters));
        let piece = vcvtq_u32_f32(quarters);
        // The four bytes of a float; those of the seventeenth, which is beyond, are zero.
        let bytes = vmlaq_n_u32(vdupq_n_u32(0x0302_0100), piece, 0x0404_0404);
        let bytes = vreinterpretq_u8_u32(bytes);
        let mut p = vdupq_n_f32(0.0);
        for terms in ERF.iter().rev() {
            let term = vqtbl4q_u8(vld1q_u8_x4(terms.as_ptr().cast()), bytes);
            p = vfmaq_f32(vreinterpretq_f32_u8(term), p, rest);
        }
        let one = vbslq_f32(vdupq_n_u32(1 << 31), x, vdupq_n_f32(1.0));
        vbslq_f32(vcgeq_f32(a, four), one, vmulq_f32(x, p))
    }
}

/// `$op` of each quarter.
macro_rules! each {
    ($op:ident, $($a:expr),*) => {
        // SAFETY: every processor that this is compiled for has NEON.
        unsafe {
            Quad($op($($a.0),*), $op($($a.1),*), $op($($a.2),*), $op($($a.3),*))
        }
    };
}

// SAFETY: every processor that this is compiled for has NEON.
unsafe impl Lanes for Quad {
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: see above.
        unsafe { Self::splat(0.0) }
    }

    #[inline(always)]
    unsafe fn load(at: *const f32, n: usize) -> Self {
        let mut lanes = [0.0; LANES];
        // SAFETY: the caller has `n` floats at `at`, and the array has LANES.
        unsafe {
            let at = match n >= LANES {
                true => at,
                false => {
                    std::ptr::copy_nonoverlapping(at, lanes.as_mut_ptr(), n);
                    lanes.as_ptr()
                }
            };
            Quad(
                vld1q_f32(at),
                vld1q_f32(at.add(4)),
                vld1q_f32(at.add(8)),
                vld1q_f32(at.add(12)),
            )
        }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut f32, n: usize) {
        let mut lanes = [0.0; LANES];
        // SAFETY: the caller has room for `n` floats at `at`, and the array for LANES.
        unsafe {
            let to = match n >= LANES {
                true => at,
                false => lanes.as_mut_ptr(),
            };
            vst1q_f32(to, self.0);
            vst1q_f32(to.add(4), self.1);
            vst1q_f32(to.add(8), self.2);
            vst1q_f32(to.add(12), self.3);
            if n < LANES {
                std::ptr::copy_nonoverlapping(lanes.as_ptr(), at, n);
            }
        }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        each!(vaddq_f32, self, other)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        each!(vsubq_f32, self, other)
    }

    #[inline(always)]
    unsafe fn times(self, k: f32, other: Self) -> Self {
        // SAFETY: see above.
        unsafe { self.fma(Self::splat(k), other) }
    }

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        // SAFETY: see above.
        let four = unsafe { vdupq_n_f32(value) };
        Quad(four, four, four, four)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        each!(vmulq_f32, self, other)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        each!(vdivq_f32, self, other)
    }

    #[inline(always)]
    unsafe fn fma(self, by: Self, other: Self) -> Self {
        each!(vfmaq_f32, other, self, by)
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        each!(vmaxq_f32, self, other)
    }

    #[inline(always)]
    unsafe fn exp(self) -> Self {
        each!(exp, self)
    }

    #[inline(always)]
    unsafe fn erf(self) -> Self {
        each!(erf, self)
    }

    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        // SAFETY: see above.
        unsafe {
            let halves = vaddq_f32(vaddq_f32(self.0, self.1), vaddq_f32(self.2, self.3));
            vaddvq_f32(halves)
        }
    }

    #[inline(always)]
    unsafe fn highest(self) -> f32 {
        // SAFETY: see above.
        unsafe {
            let halves = vmaxq_f32(vmaxq_f32(self.0, self.1), vmaxq_f32(self.2, self.3));
            vmaxvq_f32(halves)
        }
    }
}
