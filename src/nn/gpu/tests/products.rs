//! Products and convolutions.

use super::*;
use crate::nn::{self, ConvOptions, Padding};
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
            let got = product::linear(&up(&x), &up(&w), Some(&up(&b)), None).unwrap();
            same(&got, &want, &format!("{m}x{k}x{n}"));
            let more = draw(3, &[1, m, n]);
            let onto = Some(product::Onto::All(&up(&more)));
            let got = product::linear(&up(&x), &up(&w), Some(&up(&b)), onto).unwrap();
            let want = (&want + &more).unwrap();
            same(&got, &want, &format!("{m}x{k}x{n} onto others"));
            for kind in [DType::F16, DType::BF16] {
                let held = w.to_dtype(kind).unwrap();
                let stored = GpuTensor::upload_weight(gpu, &held).unwrap();
                assert!(stored.is_half());
                let want = nn::linear(&x, &held.to_dtype(DType::F32).unwrap(), None).unwrap();
                let got = product::linear(&up(&x), &stored, None, None).unwrap();
                assert!(apart(&got, &want) < 1e-4, "{m}x{k}x{n} by {kind:?}");
            }
        }
        // Large enough for the large tiles.
        let (x, w) = (draw(3, &[1600, 20]), draw(4, &[20, 500]));
        let up = |t: &Tensor| GpuTensor::upload(gpu, t).unwrap();
        let got = product::linear(&up(&x), &up(&w), None, None).unwrap();
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
            let got = product::conv2d(&up(&x), &up(&w), (Some(&up(&b)), None), options).unwrap();
            same(&got, &want, &format!("{shape:?} {options:?}"));
            let t = draw(3, &[shape[0], out]);
            let onto = Some(product::Onto::Channels(&up(&t)));
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
            let got = product::linear(&up(x), &stored, Some(&up(&b)), None).unwrap();
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
    let x = draw(0, &[2, 9, 5, 4]);
    let w = halved(&draw(1, &[3, 3, 4, 36]));
    let stored = GpuTensor::upload_weight(gpu, &w).unwrap();
    let wide = w.to_dtype(DType::F32).unwrap();
    for (scale, limit) in [(1.0, 2e-3), (1e5, 1e-4)] {
        let x = (&x * scale).unwrap();
        let want = nn::conv2d(&x, &wide, None, ConvOptions::same(3)).unwrap();
        let got = product::conv2d(&up(&x), &stored, (None, None), ConvOptions::same(3)).unwrap();
        let apart = apart(&got, &want);
        assert!(apart < limit, "a picture times {scale}: {apart} apart");
    }
}
