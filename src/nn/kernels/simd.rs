//! Run-time choice of instruction set, and the transcendental functions that vectorise.

use std::sync::OnceLock;

/// What the processor can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(crate) enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

#[cfg(test)]
thread_local! {
    /// What [`isa`] says on this thread in its stead.
    static LOWERED: std::cell::Cell<Option<Isa>> = const { std::cell::Cell::new(None) };
}

/// Calls `f` once for every instruction set that this machine has, on threads of their own.
#[cfg(test)]
pub(crate) fn on_every_isa(f: impl Fn() + Sync) {
    let sets = [
        Isa::Portable,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2,
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon,
    ];
    for lowered in sets {
        if lowered > detect() {
            continue;
        }
        rayon::ThreadPoolBuilder::new()
            .num_threads(2)
            .start_handler(move |_| LOWERED.set(Some(lowered)))
            .build()
            .unwrap()
            .install(&f);
    }
}

/// The best instruction set of this machine; `VOKENBOARD_ISA`, `portable` or `avx2`, lowers it.
pub(crate) fn isa() -> Isa {
    #[cfg(test)]
    if let Some(lowered) = LOWERED.get() {
        return lowered;
    }
    static ISA: OnceLock<Isa> = OnceLock::new();
    *ISA.get_or_init(|| {
        let best = detect();
        match std::env::var("VOKENBOARD_ISA").as_deref() {
            Ok("portable") => Isa::Portable,
            #[cfg(target_arch = "x86_64")]
            Ok("avx2") if best >= Isa::Avx2 => Isa::Avx2,
            _ => best,
        }
    })
}

#[cfg(target_arch = "x86_64")]
fn detect() -> Isa {
    let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl");
    match (avx2, avx512) {
        (true, true) => Isa::Avx512,
        (true, false) => Isa::Avx2,
        (false, _) => Isa::Portable,
    }
}

/// Every 64-bit ARM processor has NEON.
#[cfg(target_arch = "aarch64")]
fn detect() -> Isa {
    Isa::Neon
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn detect() -> Isa {
    Isa::Portable
}

/// Compiles a function's body for AVX-512, for AVX2 and for the build's own target (which has NEON
/// wherever there is NEON), and calls
/// the best that this machine has; loops in the body are vectorised by the compiler.
macro_rules! dispatch {
    ($(#[$m:meta])* $vis:vis fn $name:ident($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$m])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? {
                    body($($arg),*)
                }
                match $crate::nn::kernels::simd::isa() {
                    $crate::nn::kernels::simd::Isa::Avx512 => {
                        // SAFETY: `isa` names only what the processor has.
                        return unsafe { avx512($($arg),*) };
                    }
                    $crate::nn::kernels::simd::Isa::Avx2 => {
                        // SAFETY: `isa` names only what the processor has.
                        return unsafe { avx2($($arg),*) };
                    }
                    $crate::nn::kernels::simd::Isa::Portable => {}
                }
            }
            body($($arg),*)
        }
    };
}
pub(crate) use dispatch;

/// Whether the build's own target multiplies and adds in one instruction.
pub(crate) const FUSED: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// `a * b + c`; rounded once only where that is one instruction, since it is a slow call elsewhere.
#[inline(always)]
pub(crate) fn fused<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// e^x within 2 ulp, branch-free so that it vectorises; NaN stays NaN, overflow gives infinity.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(x: f32) -> f32 {
    let clamped = if x > 88.8 { 88.8 } else { x };
    let clamped = if clamped < -87.3 { -87.3 } else { clamped };
    // Rounding by the magic constant: the integer part of x / ln 2 lands in the low bits.
    let shifted = fused::<FMA>(clamped, std::f32::consts::LOG2_E, 12_582_912.0);
    let n = shifted - 12_582_912.0;
    let r = fused::<FMA>(n, -0.693_359_4, clamped);
    let r = fused::<FMA>(n, 2.121_944_4e-4, r);
    let p = 1.987_569_1e-4_f32;
    let p = fused::<FMA>(p, r, 1.398_199_9e-3);
    let p = fused::<FMA>(p, r, 8.333_452e-3);
    let p = fused::<FMA>(p, r, 4.166_579_6e-2);
    let p = fused::<FMA>(p, r, 1.666_666_5e-1);
    let p = fused::<FMA>(p, r, 0.5);
    let p = fused::<FMA>(p * r, r, r) + 1.0;
    // Two factors, since 2^128 is no f32 though e^88.7 is.
    let bits = (shifted.to_bits() as i32).wrapping_sub(12_582_912.0_f32.to_bits() as i32);
    let half = bits >> 1;
    let a = f32::from_bits(((half + 127) << 23) as u32);
    let b = f32::from_bits(((bits - half + 127) << 23) as u32);
    let y = p * a * b;
    let y = if x < -87.3 { 0.0 } else { y };
    if x.is_nan() { x } else { y }
}

/// The error function within 4e-7: its series near zero, the Chebyshev fit of Numerical Recipes
/// (`erfc`) beyond.
#[inline(always)]
pub(crate) fn erf<const FMA: bool>(x: f32) -> f32 {
    let a = x.abs();
    let small = erf_series::<FMA>(x, x * x);
    let large = {
        let t = 1.0 / (1.0 + 0.5 * a);
        let p = 0.170_872_77_f32;
        let p = fused::<FMA>(p, t, -0.822_152_2);
        let p = fused::<FMA>(p, t, 1.488_515_9);
        let p = fused::<FMA>(p, t, -1.135_204);
        let p = fused::<FMA>(p, t, 0.278_868_07);
        let p = fused::<FMA>(p, t, -0.186_288_06);
        let p = fused::<FMA>(p, t, 0.096_784_18);
        let p = fused::<FMA>(p, t, 0.374_091_96);
        let p = fused::<FMA>(p, t, 1.000_023_7);
        let p = fused::<FMA>(p, t, -1.265_512_2);
        let tail = t * exp::<FMA>(fused::<FMA>(-a, a, p));
        (1.0 - tail).copysign(x)
    };
    if a < 0.5 { small } else { large }
}

/// Maclaurin series of erf for |x| < 0.5; the first term left out is below 1e-9.
#[inline(always)]
fn erf_series<const FMA: bool>(x: f32, s: f32) -> f32 {
    let p = -1.0 / 1320.0_f32;
    let p = fused::<FMA>(p, s, 1.0 / 216.0);
    let p = fused::<FMA>(p, s, -1.0 / 42.0);
    let p = fused::<FMA>(p, s, 0.1);
    let p = fused::<FMA>(p, s, -1.0 / 3.0);
    let p = fused::<FMA>(p, s, 1.0);
    std::f32::consts::FRAC_2_SQRT_PI * x * p
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_matches_f64() {
        for i in -8700..8870 {
            let x = i as f32 / 100.0;
            let want = f64::from(x).exp();
            let got = f64::from(exp::<true>(x));
            assert!((got - want).abs() <= 3e-7 * want, "{x}: {got} {want}");
            let got = f64::from(exp::<false>(x));
            assert!((got - want).abs() <= 3e-7 * want, "{x}: {got} {want}");
        }
        assert!(exp::<true>(f32::NAN).is_nan());
        assert_eq!(exp::<true>(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp::<true>(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn erf_matches_known_values() {
        for (x, want) in [
            (0.0, 0.0),
            (0.1, 0.112_462_916),
            (0.49, 0.511_668_3),
            (0.51, 0.529_243_6),
            (1.0, 0.842_700_8),
            (2.0, 0.995_322_3),
            (-1.5, -0.966_105_1),
            (5.0, 1.0),
        ] {
            for found in [erf::<true>(x), erf::<false>(x)] {
                assert!((found - want).abs() < 4e-7, "{x}: {found} {want}");
            }
        }
    }
}
