//! Candidates of the next token.

use super::*;

/// Logits of a vocabulary, with equals, impossible ones and what is no number.
fn logits(count: usize) -> Vec<f32> {
    let drawn = draw(7, &[count]).flatten_all().unwrap();
    let mut logits = drawn.to_vec1::<f32>().unwrap();
    for (i, logit) in logits.iter_mut().enumerate() {
        // In steps, so that many are alike.
        *logit = (*logit * 40.0).round() / 10.0;
        match i % 97 {
            13 => *logit = f32::NEG_INFINITY,
            17 => *logit = f32::NAN,
            19 => *logit = -0.0,
            23 => *logit = 0.0,
            _ => {}
        }
    }
    logits
}

#[test]
fn the_likeliest_tokens_are_those_of_the_processor() {
    everywhere(|gpu| {
        for count in [1, 5, 128, 129, 1024, 1025, 9000, 150_001] {
            let mut logits = logits(count);
            let up = |values: &[f32]| {
                GpuTensor::upload(gpu, &Tensor::new(values, &Device::Cpu).unwrap()).unwrap()
            };
            let there = up(&logits);
            // Penalties, and tokens that are never drawn.
            let used: Vec<u32> = (0..count as u32).step_by(61).take(64).collect();
            let never: Vec<u32> = (0..count as u32).skip(2).step_by(7).collect();
            let ids = |ids: &[u32]| up(&ids.iter().map(|id| *id as f32).collect::<Vec<_>>());
            there.penalise(&ids(&used), Some(2.0)).unwrap();
            there.penalise(&ids(&never), None).unwrap();
            for id in &used {
                let logit = &mut logits[*id as usize];
                *logit = if *logit > 0.0 {
                    *logit / 2.0
                } else {
                    *logit * 2.0
                };
            }
            for id in &never {
                logits[*id as usize] = f32::NEG_INFINITY;
            }
            let (temperature, least) = (0.7, 1e-3);
            let found = there.candidates(temperature, least).unwrap();
            let mut want: Vec<(u32, f32)> = (0u32..).zip(logits.iter().copied()).collect();
            let rank = |logit: f32| {
                if logit.is_nan() {
                    f32::NEG_INFINITY
                } else {
                    logit
                }
            };
            want.sort_by(|a, b| {
                rank(b.1)
                    .partial_cmp(&rank(a.1))
                    .unwrap()
                    .then(a.0.cmp(&b.0))
            });
            let wanted = want.iter().filter(|(_, logit)| !logit.is_nan());
            let wanted: Vec<_> = wanted.take(128).collect();
            assert_eq!(found.tokens.len(), count.min(128));
            for (got, want) in found.tokens.iter().zip(&wanted) {
                assert_eq!(got, *want, "{count}");
            }
            let largest = want[0].1;
            let weights = logits.iter().filter(|logit| !logit.is_nan());
            let weights = weights.map(|logit| ((logit - largest) / temperature).exp());
            let total: f32 = weights.filter(|weight| *weight >= least).sum();
            let off = (found.total - total).abs() / total.max(1.0);
            assert!(
                off < 1e-4 || !largest.is_finite(),
                "{count}: {} {total}",
                found.total
            );
        }
    });
}
