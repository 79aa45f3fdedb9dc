//! Products and convolutions.

use super::*;
use crate::nn::{self, Conv2d, ConvOptions, Linear, Mask, Padding};
use candle_core::DType;

#[test]
fn products_are_those_of_the_processor() {
    everywhere(|gpu| {
        let shapes = [
            (1, 1, 1),
            (2, 3, 5),
            (77, 64, 48),
            (33, 20, 130),
            (130, 36, 68),
            (7, 129, 31),
        ];
        for (m, k, n) in shapes {
            let (x, w, b) = (draw(0, &[1, m, k]), draw(1, &[k, n]), draw(2, &[n]));
            let up = |t: &Tensor| GpuTensor::upload(gpu, t).unwrap();
            let want = nn::linear(&x, &w, Some(&b)).unwrap();
            let got = product::linear(&up(&x), &up(&w), Some(&up(&b)), Epilogue::Nothing).unwrap();
            same(&got, &want, &format!("{m}x{k}x{n}"));
            let more = draw(3, &[1, m, n]);
            let there = up(&more);
            let onto = Epilogue::Plus(&there);
            let got = product::linear(&up(&x), &up(&w), Some(&up(&b)), onto).unwrap();
            let want = (&want + &more).unwrap();
            same(&got, &want, &format!("{m}x{k}x{n} onto others"));
            for kind in [DType::F16, DType::BF16] {
                let held = w.to_dtype(kind).unwrap();
                let stored = GpuTensor::upload_weight(gpu, &held).unwrap();
                assert!(stored.is_half());
                let want = nn::linear(&x, &held.to_dtype(DType::F32).unwrap(), None).unwrap();
                let got = product::linear(&up(&x), &stored, None, Epilogue::Nothing).unwrap();
                assert!(apart(&got, &want) < 1e-4, "{m}x{k}x{n} by {kind:?}");
            }
        }
        // Large enough for the large tiles.
        let (x, w) = (draw(3, &[1600, 20]), draw(4, &[20, 500]));
        let up = |t: &Tensor| GpuTensor::upload(gpu, t).unwrap();
        let got = product::linear(&up(&x), &up(&w), None, Epilogue::Nothing).unwrap();
        same(&got, &nn::linear(&x, &w, None).unwrap(), "large tiles");
    });
}

#[test]
fn weights_too_large_for_f16_are_kept_in_f32() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let w = Tensor::new(&[[1e6f32, -2.0]], &Device::Cpu).unwrap();
    let w = w.to_dtype(DType::BF16).unwrap();
    let stored = GpuTensor::upload_weight(&gpu, &w).unwrap();
    assert!(!stored.is_half());
}

#[test]
fn convolutions_are_those_of_the_processor() {
    everywhere(|gpu| {
        let up = |t: &Tensor| GpuTensor::upload(gpu, t).unwrap();
        let down = |padding| ConvOptions {
            stride: 2,
            padding,
            upsample: false,
        };
        let doubled = ConvOptions {
            upsample: true,
            ..ConvOptions::same(3)
        };
        let cases = [
            ([1, 1, 1, 1], 1, 3, ConvOptions::same(3)),
            ([2, 5, 7, 3], 8, 3, ConvOptions::same(3)),
            ([1, 9, 6, 8], 12, 1, ConvOptions::same(1)),
            ([2, 9, 5, 4], 36, 3, down(Padding::Zeros(1))),
            ([1, 8, 10, 8], 3, 3, down(Padding::BottomRight(1))),
            ([1, 3, 5, 12], 4, 3, doubled),
            // Channels in slabs of sixteen.
            ([1, 6, 5, 16], 3, 3, ConvOptions::same(3)),
            ([2, 7, 6, 48], 20, 3, down(Padding::Zeros(1))),
            ([1, 5, 4, 32], 9, 3, doubled),
            (
                [1, 12, 12, 5],
                7,
                5,
                ConvOptions {
                    stride: 3,
                    padding: Padding::Zeros(0),
                    upsample: false,
                },
            ),
        ];
        for (shape, out, kernel, options) in cases {
            let x = draw(0, &shape);
            let w = draw(1, &[kernel, kernel, shape[3], out]);
            let b = draw(2, &[out]);
            let want = nn::conv2d(&x, &w, Some(&b), options).unwrap();
            let got = product::conv2d(
                &up(&x),
                &up(&w),
                (Some(&up(&b)), Epilogue::Nothing),
                options,
            )
            .unwrap();
            same(&got, &want, &format!("{shape:?} {options:?}"));
            let t = draw(3, &[shape[0], out]);
            let channels = up(&t);
            let onto = Epilogue::PlusChannels(&channels);
            let got = product::conv2d(&up(&x), &up(&w), (Some(&up(&b)), onto), options);
            let want = nn::add_channels(&want, &t).unwrap();
            same(
                &got.unwrap(),
                &want,
                &format!("{shape:?} {options:?} and channels"),
            );
        }
    });
}

#[test]
fn products_in_f16_are_near_and_what_overflows_is_done_in_f32() {
    for arithmetic in [Arithmetic::F16, Arithmetic::Matrices] {
        if let Some(gpu) = computing(arithmetic) {
            near_in_f16(&gpu);
            let what = match arithmetic {
                Arithmetic::Matrices => "by matrices",
                _ => "in f16",
            };
            let kernels = gpu.by_kernel();
            assert!(
                kernels.keys().all(|name| name.contains(what)),
                "{kernels:?}"
            );
        }
    }
}

fn near_in_f16(gpu: &Gpu) {
    let up = |t: &Tensor| GpuTensor::upload(gpu, t).unwrap();
    let halved = |t: &Tensor| t.to_dtype(DType::F16).unwrap();
    for (m, k, n) in [
        (1, 3, 5),
        (77, 64, 48),
        (33, 20, 130),
        (1600, 320, 64),
        (7, 129, 31),
    ] {
        let (x, w, b) = (
            draw(0, &[1, m, k]),
            halved(&draw(1, &[k, n])),
            draw(2, &[n]),
        );
        let stored = GpuTensor::upload_weight(gpu, &w).unwrap();
        let wide = w.to_dtype(DType::F32).unwrap();
        let near = |x: &Tensor, limit: f32, what: &str| {
            let want = nn::linear(x, &wide, Some(&b)).unwrap();
            let got = product::linear(&up(x), &stored, Some(&up(&b)), Epilogue::Nothing).unwrap();
            let apart = apart(&got, &want);
            assert!(apart < limit, "{what} {m}x{k}x{n}: {apart} apart");
        };
        near(&x, 2e-3, "as it is");
        // What f16 can't hold, and what it holds but whose sums it can't: done in f32.
        near(&(&x * 1e6).unwrap(), 1e-4, "too large");
        near(
            &(x.ones_like().unwrap() * 6e4).unwrap(),
            1e-3,
            "sums too large",
        );
    }
    for channels in [4, 48] {
        let x = draw(0, &[2, 9, 5, channels]);
        let w = halved(&draw(1, &[3, 3, channels, 36]));
        let stored = GpuTensor::upload_weight(gpu, &w).unwrap();
        let wide = w.to_dtype(DType::F32).unwrap();
        for (scale, limit) in [(1.0, 2e-3), (1e5, 1e-4)] {
            let x = (&x * scale).unwrap();
            let want = nn::conv2d(&x, &wide, None, ConvOptions::same(3)).unwrap();
            let plain = (None, Epilogue::Nothing);
            let got = product::conv2d(&up(&x), &stored, plain, ConvOptions::same(3)).unwrap();
            let apart = apart(&got, &want);
            assert!(
                apart < limit,
                "a picture of {channels} channels times {scale}: {apart} apart"
            );
        }
    }
}

/// A linear layer on a GPU, and on the processor.
fn layer(k: usize, n: usize) -> Linear {
    Linear::new(draw(1, &[k, n]), Some(draw(2, &[n])))
}

#[test]
fn what_follows_a_product_is_done_before_it_is_written() {
    everywhere(|gpu| {
        let up = |t: &Tensor| GpuTensor::upload(gpu, t).unwrap();
        for (m, k, n) in [(1, 4, 8), (7, 129, 30), (33, 20, 136), (1600, 20, 512)] {
            let (x, z) = (draw(0, &[1, m, k]), draw(3, &[1, m, n]));
            let own = layer(k, n);
            let (there, placed) = (up(&x), own.placed(gpu).unwrap());
            let wide = own.forward(&x).unwrap();
            let what = |of: &str| format!("{m}x{k}x{n} and {of}");
            for by in ACTIVATIONS {
                let got = placed.forward_activated(&there, by).unwrap();
                same(
                    &got,
                    &wide.activated(by).unwrap(),
                    &what(&format!("{by:?}")),
                );
            }
            let got = placed.forward_geglu(&there).unwrap();
            same(&got, &nn::geglu(&wide).unwrap(), &what("GEGLU"));
            for how in [Gate::Silu, Gate::GeluTanh, Gate::Clamped] {
                let got = there.linear_gated(&placed, &up(&z), how).unwrap();
                same(&got, &gated(&z, &wide, how), &what(&format!("{how:?}")));
            }
            assert!(
                there
                    .linear_plus(&placed, &there.scaled(1.0).unwrap())
                    .is_err()
                    || k == n
            );
        }
        let x = draw(0, &[2, 5, 6, 3]);
        let conv = Conv2d::new(draw(1, &[3, 3, 3, 10]), None, ConvOptions::same(3));
        for by in ACTIVATIONS {
            let got = conv.placed(gpu).unwrap().forward_activated(&up(&x), by);
            let want = conv.forward_activated(&x, by).unwrap();
            same(&got.unwrap(), &want, &format!("a convolution and {by:?}"));
        }
    });
    for arithmetic in [Arithmetic::F16, Arithmetic::Matrices] {
        let Some(gpu) = computing(arithmetic) else {
            continue;
        };
        for (m, k, n) in [(33, 20, 136), (1600, 64, 512)] {
            let (x, w) = (draw(0, &[1, m, k]), draw(1, &[k, n]));
            let w = w.to_dtype(DType::F16).unwrap();
            let wide = nn::linear(&x, &w.to_dtype(DType::F32).unwrap(), None).unwrap();
            let stored = GpuTensor::upload_weight(&gpu, &w).unwrap();
            let there = GpuTensor::upload(&gpu, &x).unwrap();
            let got = product::linear(&there, &stored, None, Epilogue::Geglu).unwrap();
            let apart = apart(&got, &nn::geglu(&wide).unwrap());
            assert!(
                apart < 4e-3,
                "{m}x{k}x{n} by {}: {apart}",
                arithmetic.name()
            );
        }
    }
}

/// Pieces of a run may end in the middle of its sums, and nothing depends on where.
#[test]
fn work_that_pauses_gives_the_same_numbers() {
    let half = |t: Tensor| t.to_dtype(DType::F16).unwrap();
    let all = [Arithmetic::F32, Arithmetic::F16, Arithmetic::Matrices];
    for arithmetic in all {
        let Some(gpu) = computing(arithmetic) else {
            continue;
        };
        let up = |t: &Tensor| GpuTensor::upload(&gpu, t).unwrap();
        let weight = |t: Tensor| GpuTensor::upload_weight(&gpu, &t).unwrap();
        // Sums that f16 can't hold are among them.
        let x = draw(0, &[1, 150, 300]);
        let scales: Vec<f32> = (0..150).map(|i| if i == 40 { 1e5 } else { 1.0 }).collect();
        let scales = Tensor::from_vec(scales, (1, 150, 1), &Device::Cpu).unwrap();
        let x = up(&x.broadcast_mul(&scales).unwrap());
        let (w, odd) = (
            weight(half(draw(1, &[300, 132]))),
            weight(draw(2, &[300, 131])),
        );
        let pictures = [12, 48].map(|channels| {
            let kernel = weight(half(draw(4, &[3, 3, channels, 20])));
            (up(&draw(3, &[1, 9, 10, channels])), kernel)
        });
        let b = up(&draw(5, &[132]));
        let q = up(&draw(6, &[1, 40, 2 * 512]));
        let (k, v) = (up(&draw(7, &[1, 700, 512])), up(&draw(8, &[1, 700, 512])));
        let (odd_q, odd_k) = (up(&draw(9, &[1, 37, 509])), up(&draw(10, &[1, 650, 509])));
        let (own_q, own_k) = (up(&draw(11, &[1, 40, 128])), up(&draw(12, &[1, 700, 64])));
        let own = attend_source::Way::Rows {
            invocations: 32,
            each: 8,
        };
        let all = |slow: bool| -> Vec<Vec<u32>> {
            let first = || {
                if slow {
                    gpu.believe_slow();
                }
            };
            let before = gpu.counts();
            let mut made = Vec::new();
            let mut run = |run: &dyn Fn() -> crate::nn::Result<GpuTensor>| {
                first();
                made.push(run().unwrap().words().unwrap());
            };
            let act = Epilogue::Activation(ActivationFunction::Gelu);
            run(&|| product::linear(&x, &w, Some(&b), act));
            run(&|| product::linear(&x, &odd, None, Epilogue::Nothing));
            for (picture, kernel) in &pictures {
                run(&|| {
                    let same = ConvOptions::same(3);
                    product::conv2d(picture, kernel, (None, Epilogue::Nothing), same)
                });
            }
            for mask in [Mask::None, Mask::Causal] {
                run(&|| attend::attention(&q, &k, &v, (2, 1), &mask));
                run(&|| attend::attention(&odd_q, &odd_k, &odd_k, (1, 1), &mask));
                run(&|| {
                    let (q, k) = (&own_q, &own_k);
                    attend::attention_in(q, k, k, (2, 1), &mask, Some(own))
                });
            }
            let submissions = gpu.counts().since(&before, 1).submissions;
            assert!(submissions > 18 || !slow, "{submissions} submissions");
            made
        };
        // What is new to a GPU may be tried in pieces too.
        all(true);
        assert!(all(false) == all(true), "{}", arithmetic.name());
    }
}
