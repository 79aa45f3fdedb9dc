//! The work between the products: attention over the cache, SwiGLU.
//!
//! Written as plain loops that the compiler turns into vector code once per instruction set.

use super::super::kernels::simd::FUSED;
#[cfg(target_arch = "x86_64")]
use super::InstructionSet;

const LANES: usize = 16;

/// Makes a function that runs `$body` compiled for the best instruction set there is.
macro_rules! dispatch {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),*) = $body:ident) => {
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx2,fma")]
                fn avx512($($arg: $type),*) { $body::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) { $body::<true>($($arg),*) }
                match InstructionSet::best() {
                    InstructionSet::Avx512 => {
                        // SAFETY: the processor has been asked for these instructions.
                        return unsafe { avx512($($arg),*) };
                    }
                    InstructionSet::Avx2 => {
                        // SAFETY: the processor has been asked for these instructions.
                        return unsafe { avx2($($arg),*) };
                    }
                    InstructionSet::Portable => {}
                }
            }
            $body::<FUSED>($($arg),*)
        }
    };
}

dispatch! {
    /// `scale * q.k` of a query, `[width]`, with each of `keys`, `[positions, width]`.
    pub fn scores(query: &[f32], keys: &[f32], scale: f32, scores: &mut [f32]) = scores_body
}

#[inline(always)]
fn scores_body<const FMA: bool>(query: &[f32], keys: &[f32], scale: f32, scores: &mut [f32]) {
    for (score, key) in scores.iter_mut().zip(keys.chunks_exact(query.len())) {
        *score = scale * dot::<FMA>(query, key);
    }
}

dispatch! {
    /// `cap * tanh(x / cap)` of every number.
    pub fn cap(x: &mut [f32], cap: f32) = cap_body
}

#[inline(always)]
fn cap_body<const FMA: bool>(x: &mut [f32], cap: f32) {
    for x in x {
        // By way of the size, since e to a large power would lose the difference.
        let small = exp::<FMA>(-2.0 * (*x / cap).abs());
        *x = (cap * (1.0 - small) / (1.0 + small)).copysign(*x);
    }
}

dispatch! {
    /// The softmax of `scores`, in their place, beside one more of `sink` that is dropped.
    pub fn softmax(scores: &mut [f32], sink: f32) = softmax_body
}

#[inline(always)]
fn softmax_body<const FMA: bool>(scores: &mut [f32], sink: f32) {
    let largest = largest(scores).max(sink);
    for score in scores.iter_mut() {
        *score = exp::<FMA>(*score - largest);
    }
    let total = total(scores);
    let total = match sink > f32::NEG_INFINITY {
        true => total + exp::<FMA>(sink - largest),
        false => total,
    };
    let share = 1.0 / total;
    for score in scores.iter_mut() {
        *score *= share;
    }
}

/// The largest of some numbers; minus infinity of none.
#[inline(always)]
fn largest(x: &[f32]) -> f32 {
    let (parts, rest) = x.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for part in parts {
        for lane in 0..LANES {
            // Not `max`, which has a rule for what is no number.
            most[lane] = if part[lane] > most[lane] {
                part[lane]
            } else {
                most[lane]
            };
        }
    }
    most.iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, b| a.max(*b))
}

/// The sum of some numbers, in lanes.
#[inline(always)]
fn total(x: &[f32]) -> f32 {
    let (parts, rest) = x.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for part in parts {
        for lane in 0..LANES {
            sums[lane] += part[lane];
        }
    }
    let rest: f32 = rest.iter().sum();
    folded(sums) + rest
}

/// The sum of all lanes, halves onto halves, which takes a step for each halving.
#[inline(always)]
fn folded(mut sums: [f32; LANES]) -> f32 {
    let mut step = LANES / 2;
    while step > 0 {
        for lane in 0..step {
            sums[lane] += sums[lane + step];
        }
        step /= 2;
    }
    sums[0]
}

dispatch! {
    /// RMS norm of every row of `x`, `[rows, weight]`, in its place.
    pub fn rms_norm(x: &mut [f32], weight: &[f32], epsilon: f32) = rms_norm_body
}

#[inline(always)]
fn rms_norm_body<const FMA: bool>(x: &mut [f32], weight: &[f32], epsilon: f32) {
    for x in x.chunks_exact_mut(weight.len()) {
        let mut sums = [0.0f64; LANES];
        let (parts, rest) = x.as_chunks::<LANES>();
        for part in parts {
            for lane in 0..LANES {
                sums[lane] += f64::from(part[lane] * part[lane]);
            }
        }
        let rest: f64 = rest.iter().map(|x| f64::from(x * x)).sum();
        let mean = ((sums.iter().sum::<f64>() + rest) / weight.len() as f64) as f32;
        let scale = 1.0 / (mean + epsilon).sqrt();
        for (x, weight) in x.iter_mut().zip(weight) {
            *x = *x * scale * weight;
        }
    }
}

dispatch! {
    /// Adds `values`, `[positions, width]`, to `out`, `[width]`, each times its weight.
    pub fn mix(weights: &[f32], values: &[f32], out: &mut [f32]) = mix_body
}

#[inline(always)]
fn mix_body<const FMA: bool>(weights: &[f32], values: &[f32], out: &mut [f32]) {
    for (weight, value) in weights.iter().zip(values.chunks_exact(out.len())) {
        for (out, value) in out.iter_mut().zip(value) {
            *out = fused::<FMA>(*weight, *value, *out);
        }
    }
}

dispatch! {
    /// SwiGLU: `gate = silu(gate) * up`, element by element.
    pub fn swiglu(gate: &mut [f32], up: &[f32]) = swiglu_body
}

#[inline(always)]
fn swiglu_body<const FMA: bool>(gate: &mut [f32], up: &[f32]) {
    for (gate, up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp::<FMA>(-*gate)) * up;
    }
}

dispatch! {
    /// `gate = gelu(gate) * up`, with the approximation by the tangent.
    pub fn geglu_tanh(gate: &mut [f32], up: &[f32]) = geglu_tanh_body
}

#[inline(always)]
fn geglu_tanh_body<const FMA: bool>(gate: &mut [f32], up: &[f32]) {
    // (1 + tanh(y)) / 2 is the logistic function of 2 y.
    const TWICE: f32 = 2.0 * 0.797_884_6;
    for (gate, up) in gate.iter_mut().zip(up) {
        let x = *gate;
        let y = TWICE * (x + 0.044_715 * x * x * x);
        *gate = x / (1.0 + exp::<FMA>(-y)) * up;
    }
}

dispatch! {
    /// gpt-oss: `gate = gate * sigmoid(1.702 gate) * (up + 1)`, the gate at most 7, the other from
    /// -7 to 7.
    pub fn clamped_glu(gate: &mut [f32], up: &[f32]) = clamped_glu_body
}

#[inline(always)]
fn clamped_glu_body<const FMA: bool>(gate: &mut [f32], up: &[f32]) {
    const LIMIT: f32 = 7.0;
    for (gate, up) in gate.iter_mut().zip(up) {
        let x = gate.min(LIMIT);
        *gate = x / (1.0 + exp::<FMA>(-1.702 * x)) * (up.clamp(-LIMIT, LIMIT) + 1.0);
    }
}

#[inline(always)]
fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (a, a_rest) = a.as_chunks::<LANES>();
    let (b, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] = fused::<FMA>(a[lane], b[lane], sums[lane]);
        }
    }
    for (lane, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[lane] = fused::<FMA>(*a, *b, sums[lane]);
    }
    folded(sums)
}

/// `a * b + c`; rounded once only where that is one instruction, since it is a slow call elsewhere.
#[inline(always)]
fn fused<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// e to the power of x within 2 units in the last place, without a branch or a call so that loops
/// over it become vector code. Cephes' `expf`: reduce by powers of two, then a polynomial.
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    // Adding and taking away 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let power = fused::<FMA>(x, std::f32::consts::LOG2_E, ROUND) - ROUND;
    let rest = fused::<FMA>(power, -0.693_359_4, x);
    let rest = fused::<FMA>(power, 2.121_944_4e-4, rest);
    let mut sum = 1.987_569_2e-4;
    for coefficient in [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        sum = fused::<FMA>(sum, rest, coefficient);
    }
    let sum = fused::<FMA>(sum * rest, rest, rest + 1.0);
    sum * f32::from_bits((((power as i32) + 127) << 23).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_a_few_units_of_the_exact_one() {
        for i in -8600..8700 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            for found in [exp::<true>(x), exp::<false>(x)] {
                let error = (f64::from(found) - exact).abs() / exact;
                assert!(error < 3e-7, "exp({x}) = {found}, not {exact}");
            }
        }
    }

    #[test]
    fn attention_is_a_softmax_weighted_mean_of_the_values() {
        let width = 32;
        let positions = 7;
        let number = |i: usize| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0;
        let query: Vec<f32> = (0..width).map(number).collect();
        let keys: Vec<f32> = (100..100 + width * positions).map(number).collect();
        let values: Vec<f32> = (900..900 + width * positions).map(number).collect();
        let mut out = vec![0.0; width];
        let mut found = [0.0; 7];
        scores(&query, &keys, 0.5, &mut found);
        softmax(&mut found, f32::NEG_INFINITY);
        mix(&found, &values, &mut out);
        let weights: Vec<f64> = keys
            .chunks_exact(width)
            .map(|key| {
                let dot: f64 = key
                    .iter()
                    .zip(&query)
                    .map(|(k, q)| f64::from(*k) * f64::from(*q))
                    .sum();
                (0.5 * dot).exp()
            })
            .collect();
        let total: f64 = weights.iter().sum();
        for (i, found) in out.iter().enumerate() {
            let expected: f64 = weights
                .iter()
                .enumerate()
                .map(|(t, w)| w / total * f64::from(values[t * width + i]))
                .sum();
            assert!((f64::from(*found) - expected).abs() < 1e-5);
        }
    }

    #[test]
    fn caps_and_gates_are_those_of_their_formulas() {
        let x: Vec<f32> = (-60..60).map(|i| i as f32 / 4.0).collect();
        let up: Vec<f32> = x.iter().map(|x| 0.5 - x).collect();
        let mut capped = x.clone();
        cap(&mut capped, 3.0);
        let mut gelu = x.clone();
        geglu_tanh(&mut gelu, &up);
        let mut clamped = x.clone();
        clamped_glu(&mut clamped, &up);
        for (i, (x, up)) in x.iter().zip(&up).enumerate() {
            let (x, up) = (f64::from(*x), f64::from(*up));
            let near = |found: f32, want: f64| {
                let error = (f64::from(found) - want).abs();
                assert!(error < 1e-6 * (1.0 + want.abs()), "{x}: {found} {want}");
            };
            near(capped[i], 3.0 * (x / 3.0).tanh());
            let y = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            near(gelu[i], 0.5 * x * (1.0 + y.tanh()) * up);
            let gate = x.min(7.0);
            let sigmoid = 1.0 / (1.0 + (-1.702 * gate).exp());
            near(clamped[i], gate * sigmoid * (up.clamp(-7.0, 7.0) + 1.0));
        }
    }

    #[test]
    fn norms_and_long_softmaxes_are_those_of_their_formulas() {
        let x: Vec<f32> = (0..2 * 100)
            .map(|i| ((i * 37) % 101) as f32 / 10.0 - 4.0)
            .collect();
        let weight: Vec<f32> = (0..100).map(|i| 0.5 + i as f32 / 100.0).collect();
        let mut normed = x.clone();
        rms_norm(&mut normed, &weight, 1e-5);
        for (row, normed) in x.chunks(100).zip(normed.chunks(100)) {
            let mean: f64 = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>() / 100.0;
            for i in 0..100 {
                let want = f64::from(row[i]) / (mean + 1e-5).sqrt() * f64::from(weight[i]);
                assert!((f64::from(normed[i]) - want).abs() < 1e-5);
            }
        }
        let mut found = x.clone();
        softmax(&mut found, f32::NEG_INFINITY);
        let all: f64 = x.iter().map(|x| f64::from(*x).exp()).sum();
        for (found, x) in found.iter().zip(&x) {
            assert!((f64::from(*found) - f64::from(*x).exp() / all).abs() < 1e-6);
        }
    }

    #[test]
    fn a_sink_takes_its_share() {
        let mut found = [0.0, 1.0];
        softmax(&mut found, 2.0);
        let total: f64 = [0.0f64, 1.0, 2.0].iter().map(|x| x.exp()).sum();
        assert!((f64::from(found[1]) - 1f64.exp() / total).abs() < 1e-6);
    }
}
