//! Every operation against its plain composition in f64, on every instruction set that the machine
//! has: values, and gradients, which are also compared with finite differences.

mod attention;

use super::*;
use crate::nn::kernels::simd::on_every_isa;
use crate::nn::noise;
use candle_core::Var;
use std::collections::HashMap;

const CPU: Device = Device::Cpu;

fn draw(stream: u64, shape: &[usize]) -> Var {
    Var::from_tensor(&noise(7, stream, shape, &CPU).unwrap()).unwrap()
}

fn values(t: &Tensor) -> Vec<f64> {
    let t = t.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    t.to_vec1().unwrap()
}

/// Largest difference relative to the largest reference value.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let (a, b) = (values(a), values(b));
    let largest = b.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
    a.iter()
        .zip(&b)
        .map(|(a, b)| (a - b).abs() / largest)
        .fold(0.0, f64::max)
}

/// Compares `ours` in f32 with `reference` in f64 on the same values: the outputs, and the
/// gradients of a fixed random weighting of the outputs.
fn same(
    vars: &[Var],
    ours: impl Fn(&[Tensor]) -> Result<Tensor> + Sync,
    reference: impl Fn(&[Tensor]) -> Result<Tensor>,
) {
    let wide: Vec<Var> = vars
        .iter()
        .map(|v| Var::from_tensor(&v.to_dtype(DType::F64).unwrap()).unwrap())
        .collect();
    let tensors =
        |vars: &[Var]| -> Vec<Tensor> { vars.iter().map(|v| v.as_tensor().clone()).collect() };
    let exact = reference(&tensors(&wide)).unwrap();
    let weight = noise(3, 9, exact.dims(), &CPU).unwrap();
    let weighted = |y: &Tensor| -> Tensor {
        let weight = weight.to_dtype(y.dtype()).unwrap();
        (y * weight).unwrap().sum_all().unwrap()
    };
    let exact_grads = weighted(&exact).backward().unwrap();
    // The reference's gradients are right if they agree with how its output changes.
    const STEP: f64 = 1e-5;
    for (i, var) in wide.iter().enumerate() {
        let grad = values(exact_grads.get(var).expect("reference gradient"));
        let largest = grad.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
        for pick in 0..3 {
            let at = (pick * 7919 + 5) % grad.len();
            let moved = |by: f64| {
                let mut all = tensors(&wide);
                let mut v = values(&all[i]);
                v[at] += by;
                all[i] = Tensor::from_vec(v, all[i].shape(), &CPU).unwrap();
                let y = weighted(&reference(&all).unwrap());
                y.to_scalar::<f64>().unwrap()
            };
            let slope = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            assert!(
                (slope - grad[at]).abs() < 1e-4 * largest,
                "reference gradient {i}[{at}] is {} where the slope is {slope}",
                grad[at]
            );
        }
    }
    on_every_isa(|| {
        let y = ours(&tensors(vars)).unwrap();
        let difference = apart(&y, &exact);
        assert!(difference < 2e-5, "values differ by {difference}");
        let grads = weighted(&y).backward().unwrap();
        for (i, (var, wide)) in vars.iter().zip(&wide).enumerate() {
            let grad = grads.get(var).expect("gradient");
            let difference = apart(grad, exact_grads.get(wide).unwrap());
            assert!(difference < 5e-5, "gradient {i} differs by {difference}");
        }
    });
}

#[test]
fn linear_matches() {
    for (rows, inp, out) in [
        (1, 1, 1),
        (3, 5, 7),
        (64, 33, 65),
        (129, 64, 96),
        (2, 300, 17),
        (40, 700, 40),
    ] {
        let vars = [draw(0, &[rows, inp]), draw(1, &[inp, out]), draw(2, &[out])];
        same(
            &vars,
            |v| linear(&v[0], &v[1], Some(&v[2])),
            |v| plain::linear(&v[0], &v[1], Some(&v[2])),
        );
        same(
            &vars[..2],
            |v| linear(&v[0], &v[1], None),
            |v| plain::linear(&v[0], &v[1], None),
        );
    }
}

#[test]
fn input_that_is_not_contiguous_is_taken() {
    same(
        &[draw(0, &[5, 6]), draw(1, &[4, 5])],
        |v| linear(&v[0].t()?, &v[1].t()?, None),
        |v| plain::linear(&v[0].t()?, &v[1].t()?, None),
    );
    let channels_first = [
        draw(0, &[2, 9, 8, 8]),
        draw(1, &[3, 3, 9, 10]),
        draw(2, &[9]),
    ];
    let o = ConvOptions::same(3);
    let last = |t: &Tensor| t.permute((0, 2, 3, 1));
    same(
        &channels_first[..2],
        |v| conv2d(&last(&v[0])?, &v[1].transpose(0, 1)?, None, o),
        |v| plain::conv2d(&last(&v[0])?, &v[1].transpose(0, 1)?, None, o),
    );
    same(
        &[channels_first[0].clone(), channels_first[2].clone()],
        |v| group_norm(&last(&v[0])?, &v[1], &v[1], 3, 1e-5, Activation::Silu),
        |v| plain::group_norm(&last(&v[0])?, &v[1], &v[1], 3, 1e-5, Activation::Silu),
    );
    let tokens = [
        draw(0, &[8, 2, 5]),
        draw(1, &[8, 2, 5]),
        draw(2, &[8, 2, 5]),
    ];
    let token = |t: &Tensor| t.permute((1, 2, 0));
    same(
        &tokens,
        |v| {
            attention(
                &token(&v[0])?,
                &token(&v[1])?,
                &token(&v[2])?,
                2,
                2,
                &Mask::Causal,
            )
        },
        |v| {
            plain::attention(
                &token(&v[0])?,
                &token(&v[1])?,
                &token(&v[2])?,
                2,
                2,
                &Mask::Causal,
            )
        },
    );
    same(
        &tokens[..1],
        |v| silu(&token(&v[0])?)? + softmax(&token(&v[0])?)?,
        |v| plain::silu(&token(&v[0])?)? + plain::softmax(&token(&v[0])?)?,
    );
    same(
        &[tokens[0].clone(), draw(3, &[8]), draw(4, &[8])],
        |v| {
            let x = token(&v[0])?;
            layer_norm(&x, &v[1], &v[2], 1e-5)? + rms_norm(&x, &v[1], 1e-6)?
        },
        |v| {
            let x = token(&v[0])?;
            plain::layer_norm(&x, &v[1], &v[2], 1e-5)? + plain::rms_norm(&x, &v[1], 1e-6)?
        },
    );
    let turns = rotations(5, 8, 100.0, &CPU).unwrap();
    let wide = turns.to_dtype(DType::F64).unwrap();
    same(
        &tokens[..1],
        |v| geglu(&rotary(&token(&v[0])?, &turns)?.transpose(0, 1)?),
        |v| plain::geglu(&plain::rotary(&token(&v[0])?, &wide)?.transpose(0, 1)?),
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
        // Winograd: whole tiles, ragged tiles and channels, no padding, one-sided padding,
        // upsampling, several chunks of channels, several groups of tiles.
        (2, 8, 8, 16, 32, 3, 1, zeros(1), false),
        (3, 7, 9, 17, 33, 3, 1, zeros(1), false),
        (1, 14, 10, 9, 8, 3, 1, zeros(0), false),
        (1, 13, 13, 8, 9, 3, 1, Padding::BottomRight(1), false),
        (2, 5, 6, 20, 9, 3, 1, zeros(1), true),
        (1, 12, 8, 300, 270, 3, 1, zeros(1), false),
        (2, 28, 24, 40, 8, 3, 1, zeros(1), false),
    ] {
        let o = ConvOptions {
            stride,
            padding,
            upsample,
        };
        let vars = [
            draw(0, &[b, h, w, cin]),
            draw(1, &[k, k, cin, cout]),
            draw(2, &[cout]),
        ];
        same(
            &vars,
            |v| conv2d(&v[0], &v[1], Some(&v[2]), o),
            |v| plain::conv2d(&v[0], &v[1], Some(&v[2]), o),
        );
    }
}

#[test]
fn norms_match() {
    for (b, h, c, groups) in [
        (2, 5, 1, 1),
        (1, 2, 4, 2),
        (2, 5, 12, 3),
        (3, 8, 64, 8),
        (1, 40, 32, 32),
    ] {
        let vars = [draw(0, &[b, h, h, c]), draw(1, &[c]), draw(2, &[c])];
        for act in [Activation::None, Activation::Silu] {
            same(
                &vars,
                |v| group_norm(&v[0], &v[1], &v[2], groups, 1e-5, act),
                |v| plain::group_norm(&v[0], &v[1], &v[2], groups, 1e-5, act),
            );
        }
    }
    for (rows, c) in [(1, 5), (3, 17), (200, 64)] {
        let vars = [draw(0, &[rows, c]), draw(1, &[c]), draw(2, &[c])];
        same(
            &vars,
            |v| layer_norm(&v[0], &v[1], &v[2], 1e-5),
            |v| plain::layer_norm(&v[0], &v[1], &v[2], 1e-5),
        );
        same(
            &vars[..2],
            |v| rms_norm(&v[0], &v[1], 1e-6),
            |v| plain::rms_norm(&v[0], &v[1], 1e-6),
        );
    }
}

#[test]
fn packed_layers_are_those_of_rounded_weights() {
    use crate::nn::Params;
    let f = |stream, shape: &[usize]| draw(stream, shape).as_tensor().detach();
    let tensors = HashMap::from([
        ("wide.weight".to_string(), f(0, &[70, 37])),
        ("wide.bias".to_string(), f(1, &[70])),
        ("kernel.weight".to_string(), f(2, &[20, 16, 1, 1])),
        ("kernel.bias".to_string(), f(3, &[20])),
        ("large.weight".to_string(), f(4, &[8, 16, 3, 3])),
        ("large.bias".to_string(), f(5, &[8])),
    ]);
    let all = |bf16: bool| -> Vec<Tensor> {
        let p = Params::from_tensors(tensors.clone(), false, &CPU).in_bf16(bf16);
        let wide = p.pp("wide").linear(37, 70, true).unwrap();
        let kernel = p
            .pp("kernel")
            .conv2d(16, 20, 1, ConvOptions::same(1))
            .unwrap();
        let large = p
            .pp("large")
            .conv2d(16, 8, 3, ConvOptions::same(3))
            .unwrap();
        assert_eq!(wide.weight().dims(), [37, 70]);
        let picture = f(7, &[2, 3, 5, 16]);
        vec![
            wide.forward(&f(6, &[3, 11, 37])).unwrap(),
            kernel.forward(&picture).unwrap(),
            large.forward(&picture).unwrap(),
        ]
    };
    for (i, (packed, plain)) in all(true).iter().zip(&all(false)).enumerate() {
        let off = apart(packed, plain);
        assert!(off < 1e-2, "layer {i}: {off}");
        // Kernels of 3x3 and processors without such products stay as they are.
        let rounds = i < 2 && crate::nn::multiplies_bf16();
        assert_eq!(off > 1e-6, rounds, "layer {i}: {off}");
    }
}

#[test]
fn activations_in_half_precision_give_nearly_the_same() {
    let f = |stream, shape: &[usize]| draw(stream, shape).as_tensor().detach();
    let (x, picture) = (f(0, &[2, 6, 16]), f(1, &[2, 6, 6, 16]));
    let (w, kernel) = (f(2, &[16, 16]), f(3, &[3, 3, 16, 16]));
    let (gamma, beta) = (f(4, &[16]), f(5, &[16]));
    let turns = rotations(6, 8, 100.0, &CPU).unwrap();
    let all = |x: &Tensor, picture: &Tensor| -> Vec<Tensor> {
        let attended = attention(x, x, x, 2, 2, &Mask::None);
        vec![
            linear(x, &w, Some(&beta)).unwrap(),
            layer_norm(x, &gamma, &beta, 1e-5).unwrap(),
            rms_norm(x, &gamma, 1e-5).unwrap(),
            attended.unwrap(),
            rotary(x, &turns).unwrap(),
            geglu(x).unwrap(),
            conv2d(picture, &kernel, Some(&beta), ConvOptions::same(3)).unwrap(),
            group_norm(picture, &gamma, &beta, 4, 1e-5, Activation::Silu).unwrap(),
            add_channels(picture, &x.narrow(1, 0, 1).unwrap().squeeze(1).unwrap()).unwrap(),
        ]
    };
    let whole = all(&x, &picture);
    let half = |t: &Tensor| t.to_dtype(DType::F16).unwrap();
    for (i, (half, whole)) in all(&half(&x), &half(&picture))
        .iter()
        .zip(&whole)
        .enumerate()
    {
        assert_eq!(half.dtype(), DType::F16, "operation {i}");
        assert!(
            apart(half, whole) < 5e-3,
            "operation {i}: {}",
            apart(half, whole)
        );
    }
    // A sum of squares that f16 has no room for.
    let large = half(&(&x * 300.0).unwrap());
    let normed = rms_norm(&large, &gamma, 1e-5).unwrap();
    assert!(apart(&normed, &whole[2]) < 5e-3);
}

#[test]
fn swiglu_matches() {
    for shape in [&[1usize][..], &[3, 17], &[2, 5, 64]] {
        let vars = [draw(0, shape), draw(1, shape)];
        same(
            &vars,
            |v| swiglu(&v[0], &v[1]),
            |v| plain::swiglu(&v[0], &v[1]),
        );
    }
}

#[test]
fn elementwise_matches() {
    for shape in [vec![1, 2], vec![3, 34], vec![70, 512]] {
        let x = [draw(0, &shape)];
        same(&x, |v| silu(&v[0]), |v| plain::silu(&v[0]));
        same(&x, |v| gelu(&v[0]), |v| plain::gelu(&v[0]));
        same(&x, |v| gelu_tanh(&v[0]), |v| plain::gelu_tanh(&v[0]));
        same(&x, |v| quick_gelu(&v[0]), |v| plain::quick_gelu(&v[0]));
        same(&x, |v| geglu(&v[0]), |v| plain::geglu(&v[0]));
        same(&x, |v| softmax(&v[0]), |v| plain::softmax(&v[0]));
        same(&x, |v| mean_square(&v[0]), |v| plain::mean_square(&v[0]));
    }
    same(
        &[draw(0, &[2, 3, 4, 5]), draw(1, &[2, 5])],
        |v| add_channels(&v[0], &v[1]),
        |v| plain::add_channels(&v[0], &v[1]),
    );
    same(
        &[draw(0, &[2, 3, 1, 5])],
        |v| upsample_nearest(&v[0]),
        |v| plain::upsample_nearest(&v[0]),
    );
}

#[test]
fn rotary_matches() {
    for (b, t, heads, d) in [(1, 1, 1, 2), (2, 7, 3, 8), (1, 40, 2, 64)] {
        let turns = rotations(t, d, 10_000.0, &CPU).unwrap();
        let wide = turns.to_dtype(DType::F64).unwrap();
        same(
            &[draw(0, &[b, t, heads * d])],
            |v| rotary(&v[0], &turns),
            |v| plain::rotary(&v[0], &wide),
        );
    }
    // The first pair turns by one radian a position.
    let x = Tensor::new(&[[[1f32, 0.0], [1.0, 0.0]]], &CPU).unwrap();
    let y = values(&rotary(&x, &rotations(2, 2, 10_000.0, &CPU).unwrap()).unwrap());
    for (found, expected) in y.iter().zip([1.0, 0.0, 1f64.cos(), 1f64.sin()]) {
        assert!((found - expected).abs() < 1e-6);
    }
    let four = rotations(4, 2, 10_000.0, &CPU).unwrap();
    assert!(rotary(&x, &four).is_err());
}

#[test]
fn embedding_matches_and_only_marked_rows_learn() {
    let table = [draw(0, &[5, 3])];
    let ids = Tensor::new(&[[4u32, 1, 4], [0, 2, 1]], &CPU).unwrap();
    let learns = [false, true, false, true, true];
    same(
        &table,
        |v| embedding_masked(&v[0], &ids, &learns),
        |v| plain::embedding_masked(&v[0], &ids, &learns),
    );
    let y = embedding_masked(&table[0], &ids, &learns).unwrap();
    let grads = y.sum_all().unwrap().backward().unwrap();
    let grad: Vec<Vec<f32>> = grads.get(&table[0]).unwrap().to_vec2().unwrap();
    assert_eq!(grad, [[0.0; 3], [2.0; 3], [0.0; 3], [0.0; 3], [2.0; 3]]);
    same(
        &table,
        |v| embedding(&v[0], &ids),
        |v| plain::embedding_masked(&v[0], &ids, &[true; 5]),
    );
    let beyond = Tensor::new(&[5u32], &CPU).unwrap();
    assert!(embedding_masked(&table[0], &beyond, &learns).is_err());
    assert!(embedding_masked(&table[0], &ids, &[true]).is_err());
}

#[test]
fn nan_and_infinity_pass_through() {
    on_every_isa(|| {
        let ones = Tensor::ones(32, DType::F32, &CPU).unwrap();
        let w = Tensor::ones((32, 4), DType::F32, &CPU).unwrap();
        let kernel = Tensor::ones((3, 3, 32, 8), DType::F32, &CPU).unwrap();
        let turns = rotations(1, 32, 100.0, &CPU).unwrap();
        for bad in [f32::NAN, f32::INFINITY] {
            // Two samples; the first has one bad number.
            let with = |shape: &[usize]| {
                let mut v = vec![0.5f32; shape.iter().product()];
                v[3] = bad;
                Tensor::from_vec(v, shape, &CPU).unwrap()
            };
            let x = with(&[2, 32]);
            let tokens = with(&[2, 1, 32]);
            let good = Tensor::ones((2, 1, 32), DType::F32, &CPU).unwrap();
            let picture = with(&[2, 8, 8, 32]);
            let attend = |q, k, v| attention(q, k, v, 2, 2, &Mask::None);
            for (name, y) in [
                ("linear", linear(&x, &w, None)),
                ("layer norm", layer_norm(&x, &ones, &ones, 1e-5)),
                ("rms norm", rms_norm(&x, &ones, 1e-5)),
                ("softmax", softmax(&x)),
                ("silu", silu(&x)),
                ("gelu", gelu(&x)),
                ("gelu by the tangent", gelu_tanh(&x)),
                ("quick gelu", quick_gelu(&x)),
                ("geglu", geglu(&x)),
                ("swiglu", swiglu(&x, &x)),
                ("rotary", rotary(&tokens, &turns)),
                ("attention, values", attend(&good, &good, &tokens)),
                (
                    "conv2d",
                    conv2d(&picture, &kernel, None, ConvOptions::same(3)),
                ),
                (
                    "group norm",
                    group_norm(&picture, &ones, &ones, 4, 1e-5, Activation::Silu),
                ),
                ("add channels", add_channels(&picture, &x)),
                ("upsample", upsample_nearest(&picture)),
            ] {
                let y = y.unwrap();
                let row = values(&y.get(0).unwrap());
                assert!(row.iter().any(|v| !v.is_finite()), "{name} lost {bad}");
                let row = values(&y.get(1).unwrap());
                assert!(row.iter().all(|v| v.is_finite()), "{name} spread {bad}");
            }
        }
        let tokens = Tensor::full(f32::NAN, (1, 2, 8), &CPU).unwrap();
        let y = attention(&tokens, &tokens, &tokens, 1, 1, &Mask::None).unwrap();
        assert!(values(&y).iter().all(|v| v.is_nan()));
        assert!(values(&mean_square(&tokens).unwrap())[0].is_nan());
    });
}
