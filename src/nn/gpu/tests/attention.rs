//! Attention.

use super::attend::{Seen, attend as attend_in};
use super::attend_source::{WAYS, Way};
use super::*;
use crate::nn::{self, Mask};

/// The ways in which rows belong to invocations, for heads of that width on any GPU.
fn own_rows(gpu: &Gpu, width: usize) -> Vec<Way> {
    let own = WAYS
        .into_iter()
        .filter(|way| matches!(way, Way::Rows { .. }));
    own.filter(|way| way.fits(width, gpu.ways(), 1024))
        .collect()
}

#[test]
fn attention_is_that_of_the_processor() {
    everywhere(|gpu| {
        let up = |t: &Tensor| GpuTensor::upload(gpu, t).unwrap();
        let cases = [
            (1, 1, 1, 1, 1, 1),
            (2, 33, 77, 3, 3, 8),
            (1, 64, 64, 2, 1, 40),
            (2, 5, 70, 4, 2, 7),
            (1, 40, 35, 1, 1, 160),
            (1, 9, 50, 1, 1, 130),
            (1, 300, 65, 2, 2, 80),
            (1, 70, 90, 4, 2, 64),
            (1, 40, 33, 1, 1, 128),
            (1, 20, 40, 1, 1, 512),
        ];
        for (case, (batch, queries, keys, heads, kv, width)) in cases.into_iter().enumerate() {
            let own = own_rows(gpu, width);
            assert_eq!(own.is_empty(), width > 128);
            let q = draw(0, &[batch, queries, heads * width]);
            let k = draw(1, &[batch, keys, kv * width]);
            let v = draw(2, &[batch, keys, kv * width]);
            let seen: Vec<f32> = (0..batch * keys).map(|i| f32::from(i % 3 != 1)).collect();
            let seen = Tensor::from_vec(seen, (batch, keys), &Device::Cpu).unwrap();
            let mut masks = vec![Mask::None, Mask::Keys(seen)];
            if queries <= keys {
                masks.push(Mask::Causal);
            }
            for mask in masks {
                let want = nn::attention(&q, &k, &v, heads, kv, &mask).unwrap();
                let got = attend::attention(&up(&q), &up(&k), &up(&v), (heads, kv), &mask).unwrap();
                let what = format!("{queries} to {keys} by {heads} of {width} {mask:?}");
                same(&got, &want, &what);
                // One of the others each, and so all of them.
                if own.is_empty() {
                    continue;
                }
                let way = own[case % own.len()];
                let got =
                    attend::attention_in(&up(&q), &up(&k), &up(&v), (heads, kv), &mask, Some(way));
                same(&got.unwrap(), &want, &format!("{what}, {}", way.name()));
            }
        }
    });
}

#[test]
fn heads_that_share_keys_windows_caps_sinks_and_pictures_are_seen_as_they_should() {
    everywhere(|gpu| {
        let up = |t: &Tensor| GpuTensor::upload(gpu, t).unwrap();
        let (heads, kv, width) = (6, 2, 12);
        for (queries, keys) in [(1, 40), (5, 70), (33, 33)] {
            let q = draw(0, &[1, queries, heads * width]);
            let (k, v) = (
                draw(1, &[1, keys, kv * width]),
                draw(2, &[1, keys, kv * width]),
            );
            let sinks = draw(3, &[heads]);
            for (window, cap, sunk, picture) in [
                (None, None, false, None),
                (Some(7), None, false, None),
                (Some(200), Some(2.0), false, None),
                (None, Some(0.5), true, None),
                (Some(9), None, true, None),
                (None, None, false, Some(keys)),
                (Some(12), None, false, Some(keys)),
            ] {
                let there = up(&sinks);
                let how = CausalAttention {
                    heads: (heads, kv),
                    scale: 0.3,
                    window,
                    cap,
                    sinks: sunk.then_some(&there),
                    picture,
                };
                let got = up(&q).causal_attention(&up(&k), &up(&v), how).unwrap();
                let want = seen(&q, &k, &v, &how, &sinks);
                let what = format!("{queries} to {keys}, {window:?} {cap:?} {sunk} {picture:?}");
                same(&got, &want, &what);
                let way = Way::Rows {
                    invocations: 32,
                    each: 2,
                };
                let seen = Seen::Causal(how);
                let got = attend_in(
                    &up(&q),
                    &up(&k),
                    &up(&v),
                    (how.heads, 0.3),
                    &seen,
                    Some(way),
                );
                same(&got.unwrap(), &want, &format!("{what}, rows of their own"));
            }
        }
    });
}

/// Attention number by number.
fn seen(q: &Tensor, k: &Tensor, v: &Tensor, how: &CausalAttention, sinks: &Tensor) -> Tensor {
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (queries, keys) = (q.dims()[1], k.dims()[1]);
    let (heads, kv) = how.heads;
    let width = q.dims()[2] / heads;
    let (q, k, v, sinks) = (flat(q), flat(k), flat(v), flat(sinks));
    let mut y = vec![0.0f32; queries * heads * width];
    for query in 0..queries {
        let at = query + keys - queries;
        let from = how
            .window
            .map_or(0, |window| (at + 1).saturating_sub(window));
        let to = how.picture.unwrap_or(at + 1);
        for head in 0..heads {
            let one = &q[(query * heads + head) * width..][..width];
            let row = |of: &[f32], key: usize| {
                of[(key * kv + head / (heads / kv)) * width..][..width].to_vec()
            };
            let scores: Vec<f32> = (from..to)
                .map(|key| {
                    let dot: f32 = row(&k, key).iter().zip(one).map(|(a, b)| a * b).sum();
                    let score = dot * how.scale;
                    how.cap.map_or(score, |cap| cap * (score / cap).tanh())
                })
                .collect();
            let sink = how.sinks.map(|_| sinks[head]);
            let most = scores.iter().copied().chain(sink).fold(f32::MIN, f32::max);
            let weights: Vec<f32> = scores.iter().map(|s| (s - most).exp()).collect();
            let more = sink.map_or(0.0, |sink| (sink - most).exp());
            let total: f32 = weights.iter().sum::<f32>() + more;
            for (key, weight) in (from..to).zip(&weights) {
                let out = &mut y[(query * heads + head) * width..][..width];
                for (out, value) in out.iter_mut().zip(row(&v, key)) {
                    *out += weight / total * value;
                }
            }
        }
    }
    Tensor::from_vec(y, (1, queries, heads * width), &Device::Cpu).unwrap()
}
