//! What only language models have: quantised matrices with what follows them, experts, rotary
//! positions. That every format is unpacked rightly is tested beside `nn::quant`.

use super::*;
use crate::nn::quant::{QuantMatrix, QuantType};

/// A matrix in 8 or 4 bits or in f16, and the same in f32, `[columns, rows]`.
pub(super) fn matrix(kind: QuantType, rows: usize, columns: usize) -> (QuantMatrix, Tensor) {
    let wide = draw(rows as u64, &[rows, columns]);
    let values = wide.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let mut bytes = Vec::new();
    let mut held = Vec::new();
    for block in values.chunks(32) {
        let most = block.iter().fold(0f32, |m, v| m.max(v.abs()));
        let (scale, low, high) = match kind {
            QuantType::Q8_0 => (most / 127.0, -127.0, 127.0),
            _ => (most / 7.0, -8.0, 7.0),
        };
        let scale = half::f16::from_f32(scale);
        let whole = |v: &f32| (v / scale.to_f32()).round().clamp(low, high);
        let numbers: Vec<f32> = block.iter().map(whole).collect();
        held.extend(numbers.iter().map(|n| n * scale.to_f32()));
        bytes.extend(scale.to_le_bytes());
        match kind {
            QuantType::Q8_0 => bytes.extend(numbers.iter().map(|n| *n as i8 as u8)),
            // Four bits: the first half of a block is in the low ones.
            _ => bytes.extend((0..16).map(|i| {
                let nibble = |n: f32| (n + 8.0) as u8;
                nibble(numbers[i]) | nibble(numbers[i + 16]) << 4
            })),
        }
    }
    let matrix = QuantMatrix::from_bytes(&bytes, rows, columns, kind).unwrap();
    let held = Tensor::from_vec(held, (rows, columns), &Device::Cpu).unwrap();
    (matrix, held.t().unwrap().contiguous().unwrap())
}

#[test]
fn quantised_products_are_followed_by_what_follows_others() {
    everywhere(|gpu| {
        let up = |t: &Tensor| GpuTensor::upload(gpu, t).unwrap();
        for kind in [QuantType::Q8_0, QuantType::Q4_0] {
            // A few tokens by rows, and more in tiles.
            for (rows, columns, tokens) in [(1, 32, 1), (37, 96, 5), (70, 64, 9), (130, 64, 70)] {
                let (packed, wide) = matrix(kind, rows, columns);
                let there = GpuQuantMatrix::upload(gpu, &packed, None).unwrap();
                let x = draw(1, &[1, tokens, columns]);
                let z = draw(2, &[1, tokens, rows]);
                let want = crate::nn::linear(&x, &wide, None).unwrap();
                let what = format!("{kind:?} {rows}x{columns}, {tokens}");
                same(&there.multiply(&up(&x)).unwrap(), &want, &what);
                let got = there.multiply_plus(&up(&x), &up(&z)).unwrap();
                same(&got, &(&want + &z).unwrap(), &format!("{what} onto others"));
                for how in [Gate::Silu, Gate::GeluTanh, Gate::Clamped] {
                    let got = there.multiply_gated(&up(&x), &up(&z), how).unwrap();
                    same(&got, &gated(&z, &want, how), &format!("{what} {how:?}"));
                }
                assert!(
                    there.multiply_gated(&up(&x), &up(&x), Gate::Silu).is_err() || rows == columns
                );
            }
        }
    });
}

#[test]
fn each_token_goes_through_its_best_experts() {
    everywhere(|gpu| {
        let up = |t: &Tensor| GpuTensor::upload(gpu, t).unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for (experts, used, tokens, rows) in [(1, 1, 1, 1), (5, 2, 3, 9), (7, 3, 66, 6)] {
            let columns = 32;
            let all: Vec<_> = (0..experts)
                .map(|i| matrix(QuantType::Q8_0, rows + 100 * i, columns))
                .map(|(_, wide)| wide.narrow(1, 0, rows).unwrap().contiguous().unwrap())
                .collect();
            // The same numbers as matrices of the experts.
            let packed: Vec<QuantMatrix> = all
                .iter()
                .map(|wide| {
                    let rows = flat(&wide.t().unwrap().contiguous().unwrap());
                    let bytes: Vec<u8> = rows.iter().flat_map(|v| v.to_le_bytes()).collect();
                    QuantMatrix::from_bytes(&bytes, rows.len() / columns, columns, QuantType::F32)
                        .unwrap()
                })
                .collect();
            let bias: Vec<f32> = (0..rows).map(|i| i as f32).collect();
            let given: Vec<_> = packed.iter().map(|one| (one, Some(&bias[..]))).collect();
            let there = GpuExperts::upload(gpu, &given).unwrap();
            let (x, logits) = (draw(2, &[tokens, columns]), draw(3, &[tokens, experts]));
            let chosen = ChosenExperts::best(&up(&logits), used).unwrap();
            let made = there.multiply(&up(&x), &chosen).unwrap();
            let got = chosen.joined(&made).unwrap();
            let mut want = Vec::new();
            for token in 0..tokens {
                let logits = flat(&logits.get(token).unwrap());
                let mut order: Vec<usize> = (0..experts).collect();
                order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
                let weights: Vec<f32> = order[..used].iter().map(|i| logits[*i].exp()).collect();
                let total: f32 = weights.iter().sum();
                let mut sum = vec![0f32; rows];
                for (expert, weight) in order.iter().zip(&weights) {
                    let x = x.narrow(0, token, 1).unwrap();
                    let one = flat(&x.matmul(&all[*expert]).unwrap());
                    for (i, sum) in sum.iter_mut().enumerate() {
                        *sum += weight / total * (one[i] + bias[i]);
                    }
                }
                want.extend(sum);
            }
            let want = Tensor::from_vec(want, (tokens, rows), &Device::Cpu).unwrap();
            same(&got, &want, &format!("{used} of {experts} for {tokens}"));
            assert!(ChosenExperts::best(&up(&logits), experts + 1).is_err());
        }
    });
}

#[test]
fn heads_are_turned_by_their_places() {
    everywhere(|gpu| {
        for (tokens, heads, head, pairs) in [(1, 1, 2, 1), (5, 3, 10, 5), (33, 2, 12, 4)] {
            for halves in [false, true] {
                let row = heads * head;
                let (x, angles) = (draw(0, &[1, tokens, row]), draw(1, &[tokens, pairs]));
                let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let (values, angles) = (flat(&x), flat(&angles));
                let turns: Vec<f32> = angles.iter().flat_map(|a| [a.cos(), a.sin()]).collect();
                let mut want = values.clone();
                for token in 0..tokens {
                    for start in (0..heads).map(|h| token * row + h * head) {
                        for pair in 0..pairs {
                            let (a, b) = match halves {
                                true => (start + pair, start + pair + pairs),
                                false => (start + 2 * pair, start + 2 * pair + 1),
                            };
                            let (sin, cos) = angles[token * pairs + pair].sin_cos();
                            want[a] = values[a] * cos - values[b] * sin;
                            want[b] = values[a] * sin + values[b] * cos;
                        }
                    }
                }
                let up = |t: &Tensor| GpuTensor::upload(gpu, t).unwrap();
                let turns = Tensor::from_vec(turns, (tokens, pairs, 2), &Device::Cpu).unwrap();
                let got = up(&x).rotary(&up(&turns), head, pairs, halves).unwrap();
                let want = Tensor::from_vec(want, (1, tokens, row), &Device::Cpu).unwrap();
                same(
                    &got,
                    &want,
                    &format!("{tokens}, {heads} of {head}, {pairs}"),
                );
            }
        }
    });
}
