//! Every operation against its plain composition, values and gradients, on edge shapes.

use super::*;
use crate::nn::noise;
use candle_core::{Device, Var};

fn draw(stream: u64, shape: &[usize]) -> Var {
    Var::from_tensor(&noise(7, stream, shape, &Device::Cpu).unwrap()).unwrap()
}

/// Largest difference relative to the largest reference value.
fn apart(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    if a.elem_count() == 0 {
        return 0.0;
    }
    let max = |t: Tensor| {
        t.abs()
            .unwrap()
            .flatten_all()
            .unwrap()
            .max(0)
            .unwrap()
            .to_scalar::<f32>()
            .unwrap()
    };
    max((a - b).unwrap()) / max(b.clone()).max(1e-3)
}

/// Compares `ours` with `reference` (both from the same variables): values and the gradients of a
/// fixed random weighting of the output.
fn same(vars: &[&Var], ours: impl Fn() -> Result<Tensor>, reference: impl Fn() -> Result<Tensor>) {
    let (a, b) = (ours().unwrap(), reference().unwrap());
    assert!(apart(&a, &b) < 2e-5, "values differ by {}", apart(&a, &b));
    let weight = noise(3, 9, a.dims(), &Device::Cpu).unwrap();
    let grads = |y: Tensor| {
        (y * &weight)
            .unwrap()
            .sum_all()
            .unwrap()
            .backward()
            .unwrap()
    };
    let (ga, gb) = (grads(a), grads(b));
    for (i, v) in vars.iter().enumerate() {
        let (x, y) = (
            ga.get(v).expect("gradient"),
            gb.get(v).expect("reference gradient"),
        );
        assert!(
            apart(x, y) < 1e-4,
            "gradient {i} differs by {}",
            apart(x, y)
        );
    }
}

#[test]
fn linear_matches() {
    for (rows, inp, out) in [
        (1, 1, 1),
        (3, 5, 7),
        (64, 33, 65),
        (129, 64, 96),
        (2, 300, 17),
    ] {
        let (x, w, b) = (draw(0, &[rows, inp]), draw(1, &[inp, out]), draw(2, &[out]));
        same(
            &[&x, &w, &b],
            || linear(&x, &w, Some(&b)),
            || plain::linear(&x, &w, Some(&b)),
        );
        same(
            &[&x, &w],
            || linear(&x, &w, None),
            || plain::linear(&x, &w, None),
        );
    }
}

#[test]
fn linear_takes_input_that_is_not_contiguous() {
    let (x, w) = (draw(0, &[5, 6]), draw(1, &[5, 4]));
    same(
        &[&x, &w],
        || linear(&x.t()?, &w, None),
        || plain::linear(&x.t()?, &w, None),
    );
}

#[test]
fn conv2d_matches() {
    let zeros = Padding::Zeros;
    for (b, h, w, cin, cout, k, stride, padding, upsample) in [
        (1, 1, 1, 1, 1, 1, 1, zeros(0), false),
        (1, 1, 1, 1, 1, 3, 1, zeros(1), false),
        (2, 5, 7, 3, 4, 3, 1, zeros(1), false),
        (1, 8, 8, 64, 33, 3, 1, zeros(1), false),
        (3, 9, 9, 17, 48, 3, 2, zeros(1), false),
        (2, 8, 8, 5, 6, 3, 2, Padding::BottomRight(1), false),
        (2, 7, 7, 5, 6, 3, 2, Padding::BottomRight(1), false),
        (1, 4, 3, 6, 40, 3, 1, zeros(1), true),
        (2, 6, 6, 8, 9, 1, 1, zeros(0), false),
        (2, 6, 6, 8, 9, 1, 2, zeros(0), false),
        (1, 14, 14, 3, 20, 7, 7, zeros(0), false),
        (1, 10, 10, 4, 4, 5, 1, zeros(2), false),
    ] {
        let o = ConvOptions {
            stride,
            padding,
            upsample,
        };
        let (x, wt, bias) = (
            draw(0, &[b, h, w, cin]),
            draw(1, &[k, k, cin, cout]),
            draw(2, &[cout]),
        );
        same(
            &[&x, &wt, &bias],
            || conv2d(&x, &wt, Some(&bias), o),
            || plain::conv2d(&x, &wt, Some(&bias), o),
        );
    }
}

#[test]
fn norms_match() {
    for (b, h, c, groups) in [(1, 2, 4, 2), (2, 5, 12, 3), (3, 8, 64, 8), (1, 40, 32, 32)] {
        let (x, g, s) = (draw(0, &[b, h, h, c]), draw(1, &[c]), draw(2, &[c]));
        for act in [Activation::None, Activation::Silu] {
            same(
                &[&x, &g, &s],
                || group_norm(&x, &g, &s, groups, 1e-5, act),
                || plain::group_norm(&x, &g, &s, groups, 1e-5, act),
            );
        }
    }
    for (rows, c) in [(1, 5), (3, 17), (200, 64)] {
        let (x, g, s) = (draw(0, &[rows, c]), draw(1, &[c]), draw(2, &[c]));
        same(
            &[&x, &g, &s],
            || layer_norm(&x, &g, &s, 1e-5),
            || plain::layer_norm(&x, &g, &s, 1e-5),
        );
        same(
            &[&x, &g],
            || rms_norm(&x, &g, 1e-6),
            || plain::rms_norm(&x, &g, 1e-6),
        );
    }
}

#[test]
fn attention_matches() {
    for (b, tq, tk, heads, kv, d) in [
        (1, 1, 1, 1, 1, 1),
        (2, 16, 16, 4, 4, 16),
        (2, 64, 24, 2, 2, 32),
        (1, 100, 100, 2, 1, 64),
        (2, 5, 9, 6, 2, 8),
        (1, 130, 7, 1, 1, 40),
    ] {
        let (q, k, v) = (
            draw(0, &[b, tq, heads * d]),
            draw(1, &[b, tk, kv * d]),
            draw(2, &[b, tk, kv * d]),
        );
        let mut masks = vec![Mask::None];
        if tq <= tk {
            masks.push(Mask::Causal);
        }
        let seen: Vec<f32> = (0..b * tk)
            .map(|i| if i % tk == 0 || i % 3 != 0 { 1.0 } else { 0.0 })
            .collect();
        masks.push(Mask::Keys(
            Tensor::from_vec(seen, (b, tk), &Device::Cpu).unwrap(),
        ));
        for m in masks {
            same(
                &[&q, &k, &v],
                || attention(&q, &k, &v, heads, kv, &m),
                || plain::attention(&q, &k, &v, heads, kv, &m),
            );
        }
    }
}

#[test]
fn attention_without_keys_is_zero() {
    let q = draw(0, &[1, 3, 8]);
    let k = Tensor::zeros((1, 0, 8), DType::F32, &Device::Cpu).unwrap();
    let y = attention(&q, &k, &k, 2, 2, &Mask::None).unwrap();
    assert_eq!(
        y.abs()
            .unwrap()
            .sum_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap(),
        0.0
    );
}

#[test]
fn elementwise_matches() {
    for shape in [vec![1, 2], vec![3, 34], vec![70, 512]] {
        let x = draw(0, &shape);
        same(&[&x], || silu(&x), || plain::silu(&x));
        same(&[&x], || gelu(&x), || plain::gelu(&x));
        same(&[&x], || quick_gelu(&x), || plain::quick_gelu(&x));
        same(&[&x], || geglu(&x), || plain::geglu(&x));
        same(&[&x], || softmax(&x), || plain::softmax(&x));
    }
    let (x, t) = (draw(0, &[2, 3, 4, 5]), draw(1, &[2, 5]));
    same(
        &[&x, &t],
        || add_channels(&x, &t),
        || plain::add_channels(&x, &t),
    );
}

#[test]
fn nan_and_infinity_pass_through() {
    let with = |bad: f32| {
        let mut v = vec![0.5f32; 64];
        v[3] = bad;
        Tensor::from_vec(v, (2, 32), &Device::Cpu).unwrap()
    };
    let ones = Tensor::ones(32, DType::F32, &Device::Cpu).unwrap();
    let w = Tensor::ones((32, 4), DType::F32, &Device::Cpu).unwrap();
    for bad in [f32::NAN, f32::INFINITY] {
        let x = with(bad);
        for y in [
            linear(&x, &w, None).unwrap(),
            layer_norm(&x, &ones, &ones, 1e-5).unwrap(),
            softmax(&x).unwrap(),
            silu(&x).unwrap(),
            gelu(&x).unwrap(),
        ] {
            let row: Vec<f32> = y.get(0).unwrap().to_vec1().unwrap();
            assert!(row.iter().any(|v| !v.is_finite()), "lost {bad}");
            let row: Vec<f32> = y.get(1).unwrap().to_vec1().unwrap();
            assert!(row.iter().all(|v| v.is_finite()), "spread {bad}");
        }
    }
}
