//! Each kernel against the processor, over shapes that nothing divides.

use super::*;
use crate::nn::{self, Activation, Array, ConvOptions, Mask, Padding, noise};
use candle_core::{DType, Device, Tensor};

/// What there is to test on, software too; a sentence is printed where there is nothing.
fn gpu(options: GpuOptions) -> Option<Gpu> {
    if adapters().is_empty() {
        eprintln!(
            "no adapter of Vulkan, Metal or DirectX 12 is on this machine: nothing is tested"
        );
        return None;
    }
    Some(Gpu::open(Some(0), options).unwrap())
}

fn draw(stream: u64, shape: &[usize]) -> Tensor {
    noise(0x9f, stream, shape, &Device::Cpu).unwrap()
}

/// Largest difference, as a share of the largest value.
fn apart(got: &GpuTensor, want: &Tensor) -> f32 {
    assert_eq!(got.dims(), want.dims());
    let largest = |t: &Tensor| {
        let t = t.abs().unwrap().flatten_all().unwrap();
        t.max(0).unwrap().to_scalar::<f32>().unwrap()
    };
    let got = got.download().unwrap();
    let finite = got.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(finite.iter().all(|v| v.is_finite()), "not finite");
    largest(&(got - want).unwrap()) / largest(want).max(1e-6)
}

fn same(got: &GpuTensor, want: &Tensor, what: &str) {
    let apart = apart(got, want);
    assert!(apart < 1e-4, "{what}: {apart} apart");
}

/// On the device as it is, and on one with the lowest limits and no feature.
fn everywhere(test: impl Fn(&Gpu)) {
    for lowest in [false, true] {
        let options = GpuOptions {
            lowest,
            ..GpuOptions::default()
        };
        if let Some(gpu) = gpu(options) {
            test(&gpu);
        }
    }
}

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
            let got = product::linear(&up(&x), &up(&w), Some(&up(&b))).unwrap();
            same(&got, &want, &format!("{m}x{k}x{n}"));
            for kind in [DType::F16, DType::BF16] {
                let held = w.to_dtype(kind).unwrap();
                let stored = GpuTensor::upload_weight(gpu, &held).unwrap();
                assert!(stored.is_half());
                let want = nn::linear(&x, &held.to_dtype(DType::F32).unwrap(), None).unwrap();
                let got = product::linear(&up(&x), &stored, None).unwrap();
                assert!(apart(&got, &want) < 1e-4, "{m}x{k}x{n} by {kind:?}");
            }
        }
        // Large enough for the large tiles.
        let (x, w) = (draw(3, &[1600, 20]), draw(4, &[20, 500]));
        let up = |t: &Tensor| GpuTensor::upload(gpu, t).unwrap();
        let got = product::linear(&up(&x), &up(&w), None).unwrap();
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
            let got = product::conv2d(&up(&x), &up(&w), Some(&up(&b)), options).unwrap();
            same(&got, &want, &format!("{shape:?} {options:?}"));
        }
    });
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
        ];
        for (batch, queries, keys, heads, kv, width) in cases {
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
                same(
                    &got,
                    &want,
                    &format!("{queries} to {keys} by {heads} of {width} {mask:?}"),
                );
            }
        }
    });
}

#[test]
fn norms_are_those_of_the_processor() {
    everywhere(|gpu| {
        let up = |t: &Tensor| GpuTensor::upload(gpu, t).unwrap();
        for (shape, groups) in [
            ([1, 1, 1, 1], 1),
            ([2, 5, 7, 6], 3),
            ([1, 33, 31, 40], 8),
            ([3, 16, 16, 320], 32),
        ] {
            // Far from zero, where sums of squares lose everything.
            let x = (draw(0, &shape) + 300.0).unwrap();
            let (gamma, beta) = (draw(1, &[shape[3]]), draw(2, &[shape[3]]));
            for act in [Activation::None, Activation::Silu] {
                let want = nn::group_norm(&x, &gamma, &beta, groups, 1e-5, act).unwrap();
                let got = norm::group_norm(&up(&x), &up(&gamma), &up(&beta), groups, 1e-5, act);
                let apart = apart(&got.unwrap(), &want);
                assert!(apart < 1e-3, "{shape:?} {groups} {act:?}: {apart}");
            }
        }
        for (rows, width) in [(1, 1), (3, 5), (77, 768), (2, 5000), (70_000, 3)] {
            let x = draw(0, &[rows, width]);
            let (gamma, beta) = (draw(1, &[width]), draw(2, &[width]));
            let want = nn::layer_norm(&x, &gamma, &beta, 1e-5).unwrap();
            let got = norm::layer_norm(&up(&x), &up(&gamma), &up(&beta), 1e-5).unwrap();
            same(&got, &want, &format!("{rows} rows of {width}"));
        }
    });
}

#[test]
fn what_is_done_number_by_number_is_that_of_the_processor() {
    everywhere(|gpu| {
        let up = |t: &Tensor| GpuTensor::upload(gpu, t).unwrap();
        for shape in [[1, 1, 1, 2], [2, 3, 5, 6], [1, 40, 41, 8]] {
            let x = (draw(0, &shape) * 4.0).unwrap();
            let z = draw(1, &shape);
            let there = up(&x);
            same(&there.silu().unwrap(), &nn::silu(&x).unwrap(), "silu");
            same(&there.gelu().unwrap(), &nn::gelu(&x).unwrap(), "gelu");
            same(
                &there.quick_gelu().unwrap(),
                &nn::quick_gelu(&x).unwrap(),
                "quick gelu",
            );
            same(&there.geglu().unwrap(), &nn::geglu(&x).unwrap(), "geglu");
            same(
                &there.scaled(-1.5).unwrap(),
                &(&x * -1.5).unwrap(),
                "scaled",
            );
            same(&there.plus(&up(&z)).unwrap(), &(&x + &z).unwrap(), "sum");
            same(
                &there.times(&up(&z)).unwrap(),
                &(&x * &z).unwrap(),
                "product",
            );
            let t = draw(2, &[shape[0], shape[3]]);
            let want = nn::add_channels(&x, &t).unwrap();
            same(&there.add_channels(&up(&t)).unwrap(), &want, "channels");
            let row = draw(3, &[1, 1, shape[3]]);
            same(
                &there.plus(&up(&row)).unwrap(),
                &x.broadcast_add(&row).unwrap(),
                "row",
            );
            let want = nn::upsample_nearest(&x).unwrap();
            same(&there.upsample_nearest().unwrap(), &want, "doubled");
        }
    });
}

#[test]
fn parts_are_cut_joined_turned_and_repeated() {
    everywhere(|gpu| {
        let up = |t: &Tensor| GpuTensor::upload(gpu, t).unwrap();
        let x = draw(0, &[2, 3, 5, 7]);
        let there = up(&x);
        for (axis, start, len) in [(0, 1, 1), (1, 0, 2), (2, 2, 3), (3, 6, 1)] {
            let want = x.narrow(axis, start, len).unwrap().contiguous().unwrap();
            let got = there.cut(axis, start, len).unwrap();
            same(&got, &want, "cut");
            let joined = GpuTensor::join(&[&got, &there, &got], axis).unwrap();
            same(
                &joined,
                &Tensor::cat(&[&want, &x, &want], axis).unwrap(),
                "joined",
            );
        }
        let turned = there.turn(&[0, 2, 3, 1]).unwrap();
        same(&turned, &Array::turn(&x, &[0, 2, 3, 1]).unwrap(), "turned");
        let picked = there.select(&[4, 0, 1, 2, 2], 2).unwrap();
        same(
            &picked,
            &Array::select(&x, &[4, 0, 1, 2, 2], 2).unwrap(),
            "picked",
        );
        let row = draw(1, &[1, 3, 1]);
        let want = Array::repeat_to(&row, &[4, 3, 5]).unwrap();
        same(&up(&row).repeat_to(&[4, 3, 5]).unwrap(), &want, "repeated");
        assert!(there.cut(1, 2, 2).is_err());
        assert!(there.reshape(&[3, 3]).is_err());
        assert!(there.plus(&up(&row)).is_err());
    });
}

#[test]
fn a_lost_gpu_is_one_sentence() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let x = GpuTensor::upload(&gpu, &draw(0, &[64, 64])).unwrap();
    let y = product::linear(&x, &x, None).unwrap();
    gpu.lose();
    let error = y.download().unwrap_err().to_string();
    assert!(
        error.contains("was lost") && error.contains("--device cpu"),
        "{error}"
    );
    let error = product::linear(&x, &x, None).unwrap_err().to_string();
    assert!(error.contains("was lost"), "{error}");
    assert!(matches!(gpu.fault(), Some(GpuError::Lost { .. })));
}

#[test]
fn memory_that_is_refused_is_one_sentence() {
    let Some(gpu) = gpu(GpuOptions {
        lowest: true,
        ..GpuOptions::default()
    }) else {
        return;
    };
    // More than one buffer may have by the lowest limits.
    let large = gpu.buffer(300 << 20, false).err().unwrap().to_string();
    assert!(large.contains("smaller picture"), "{large}");
    let Some(full) = self::gpu(GpuOptions {
        budget: Some(1),
        ..GpuOptions::default()
    }) else {
        return;
    };
    // Nothing is written into them, so that the test takes none of the memory.
    let mut held = Vec::new();
    let refused = (0..32).find_map(|_| match full.buffer(96 << 20, true) {
        Ok(buffer) => {
            held.push(buffer);
            None
        }
        Err(error) => Some(error.to_string()),
    });
    match refused {
        Some(error) => assert!(error.contains("not enough free memory"), "{error}"),
        None => eprintln!(
            "{} has no memory budget: a refusal is not tested",
            full.info().name
        ),
    }
}

/// One that multiplies in f16 wherever it can, if the adapter does.
fn in_f16(store: Option<&std::path::Path>) -> Option<Gpu> {
    let gpu = gpu(GpuOptions {
        half: Some(true),
        store: store.map(std::path::Path::to_path_buf),
        ..GpuOptions::default()
    })?;
    if !gpu.ways().f16 {
        eprintln!(
            "{} does not compute in f16: nothing is tested",
            gpu.info().name
        );
        return None;
    }
    Some(gpu)
}

#[test]
fn products_in_f16_are_near_and_what_overflows_is_done_in_f32() {
    let Some(gpu) = in_f16(None) else {
        return;
    };
    let up = |t: &Tensor| GpuTensor::upload(&gpu, t).unwrap();
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
        let stored = GpuTensor::upload_weight(&gpu, &w).unwrap();
        let wide = w.to_dtype(DType::F32).unwrap();
        let near = |x: &Tensor, limit: f32, what: &str| {
            let want = nn::linear(x, &wide, Some(&b)).unwrap();
            let got = product::linear(&up(x), &stored, Some(&up(&b))).unwrap();
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
    let stored = GpuTensor::upload_weight(&gpu, &w).unwrap();
    let wide = w.to_dtype(DType::F32).unwrap();
    for (scale, limit) in [(1.0, 2e-3), (1e5, 1e-4)] {
        let x = (&x * scale).unwrap();
        let want = nn::conv2d(&x, &wide, None, ConvOptions::same(3)).unwrap();
        let got = product::conv2d(&up(&x), &stored, None, ConvOptions::same(3)).unwrap();
        let apart = apart(&got, &want);
        assert!(apart < limit, "a picture times {scale}: {apart} apart");
    }
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

/// A layer of Stable Diffusion 1.5 on a slow GPU: cut into pieces, none of which keeps the window
/// waiting.
#[test]
fn long_work_goes_in_pieces_between_which_the_window_is_drawn() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let x = GpuTensor::upload(&gpu, &draw(0, &[1, 64, 64, 320])).unwrap();
    let w = GpuTensor::upload(&gpu, &draw(1, &[3, 3, 320, 160])).unwrap();
    let run = || {
        product::conv2d(&x, &w, None, ConvOptions::same(3)).unwrap();
        gpu.finish().unwrap();
    };
    run();
    let before = gpu.counts();
    let start = std::time::Instant::now();
    run();
    let seconds = start.elapsed().as_secs_f64();
    let counts = gpu.counts().since(&before, 1);
    assert_eq!(counts.dispatches, 1);
    // The mean, since this machine may be busy with other tests as well.
    let mean = seconds / counts.submissions as f64;
    assert!(
        mean < 0.05,
        "{} pieces of {mean} s, the longest of {} s",
        counts.submissions,
        counts.longest
    );
}

#[test]
fn compiled_kernels_and_measurements_are_kept_and_damaged_ones_made_anew() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("gpu");
    let options = || GpuOptions {
        store: Some(folder.clone()),
        ..GpuOptions::default()
    };
    let x = draw(0, &[400, 320]);
    let w = draw(1, &[320, 640]).to_dtype(DType::F16).unwrap();
    let run = |gpu: &Gpu| -> Vec<f32> {
        let w = GpuTensor::upload_weight(gpu, &w).unwrap();
        let y = product::linear(&GpuTensor::upload(gpu, &x).unwrap(), &w, None).unwrap();
        let y = y.download().unwrap().flatten_all().unwrap();
        y.to_vec1().unwrap()
    };
    let Some(gpu) = gpu(options()) else {
        return;
    };
    let first = run(&gpu);
    // Every variant was tried.
    assert!(gpu.counts().compiled > 3, "{:?}", gpu.counts());
    drop(gpu);
    let files = || -> Vec<std::path::PathBuf> {
        let all = std::fs::read_dir(&folder).unwrap();
        all.map(|entry| entry.unwrap().path()).collect()
    };
    let kept = files();
    assert!(
        kept.iter()
            .any(|file| file.extension().is_some_and(|e| e == "json"))
    );
    let again = self::gpu(options()).unwrap();
    assert_eq!(run(&again), first);
    // Only the one that was the quickest.
    assert_eq!(again.counts().compiled, 1);
    drop(again);
    for file in kept {
        std::fs::write(file, b"damaged").unwrap();
    }
    let mended = self::gpu(options()).unwrap();
    let third = run(&mended);
    let largest = first.iter().fold(0f32, |m, v| m.max(v.abs()));
    let off = first.iter().zip(&third).map(|(a, b)| (a - b).abs());
    // Whether f16 or f32 is quicker may be measured otherwise.
    assert!(off.fold(0f32, f32::max) / largest < 4e-3);
    drop(mended);
    assert!(
        files()
            .iter()
            .all(|file| std::fs::read(file).unwrap() != b"damaged")
    );
}

#[test]
fn memory_is_used_again() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let x = GpuTensor::upload(&gpu, &draw(0, &[64, 64])).unwrap();
    let chain = || {
        let mut y = x.clone();
        for _ in 0..20 {
            y = y.scaled(0.5).unwrap();
        }
        y.download().unwrap()
    };
    let first = chain();
    let held = gpu.counts().most_held;
    let second = chain();
    assert_eq!(gpu.counts().most_held, held);
    // The tensor, the first copy and the next one.
    assert!(held <= 4 * 64 * 64 * 4, "{held}");
    let same = |t: Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(same(first), same(second));
}

#[test]
fn numbers_of_adapters_that_are_not_there_say_which_are() {
    let all = adapters();
    let error = Gpu::open(Some(99), GpuOptions::default()).err().unwrap();
    let error = error.to_string();
    assert!(
        error.contains("99") && error.contains("vokenboard devices"),
        "{error}"
    );
    if all
        .iter()
        .all(|adapter| adapter.kind == AdapterKind::Software)
    {
        let error = Gpu::open(None, GpuOptions::default())
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("--device cpu"), "{error}");
    }
}
