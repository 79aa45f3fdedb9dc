//! Variants of kernels, one of which is measured to be the quickest: all give the same numbers.

use super::quantised::matrix;
use super::*;
use crate::nn::quant::QuantType;
use crate::nn::{Mask, Result};

#[test]
fn variants_give_the_same_numbers() {
    let temp = tempfile::tempdir().unwrap();
    let Some(gpu) = gpu(GpuOptions {
        store: Some(temp.path().to_path_buf()),
        ..GpuOptions::default()
    }) else {
        return;
    };
    gpu.take_kept_for_short_runs();
    let up = |t: &Tensor| GpuTensor::upload(&gpu, t).unwrap();
    // What was kept as the quickest is what runs.
    let alike = |kind: &str, variants: &[&str], run: &dyn Fn() -> Result<GpuTensor>| {
        let mut first: Option<Vec<u32>> = None;
        for variant in variants {
            gpu.keep_variant(kind, variant);
            let words = run().unwrap().words().unwrap();
            let ran = gpu.by_kernel();
            assert!(
                ran.keys().any(|name| name.contains(variant)),
                "{variant}: {ran:?}"
            );
            match &first {
                None => first = Some(words),
                Some(first) => assert!(*first == words, "{kind}: {variant}"),
            }
        }
    };
    let (q, k) = (draw(0, &[1, 70, 80]), draw(1, &[1, 90, 40]));
    let (q, k) = (up(&q), up(&k));
    for (mask, kind) in [
        (Mask::None, "attention 40 in fours of some rows"),
        (Mask::Causal, "attention 40 in fours causal of some rows"),
    ] {
        let mut rows = vec!["32 rows", "16 rows"];
        // 64 rows take more than what every GPU has.
        if gpu.ways().shared >= 32 << 10 {
            rows.push("64 rows");
        }
        alike(kind, &rows, &|| {
            attend::attention(&q, &k, &k, (2, 1), &mask)
        });
        let tiles = attend::attention(&q, &k, &k, (2, 1), &mask).unwrap();
        let own = ["64 with 1 rows", "32 with 1 rows", "32 with 2 rows"];
        let own = own.map(|way| format!("{way} of their own"));
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        alike(kind, &own, &|| attend::attention(&q, &k, &k, (2, 1), &mask));
        let rows = attend::attention(&q, &k, &k, (2, 1), &mask).unwrap();
        same(&rows, &tiles.download().unwrap(), "rows of their own");
        let before = rows.words().unwrap();
        for each in [4, 8] {
            let invocations = 32;
            let way = attend_source::Way::Rows { invocations, each };
            let got = attend::attention_in(&q, &k, &k, (2, 1), &mask, Some(way)).unwrap();
            assert!(got.words().unwrap() == before, "{}", way.name());
        }
    }
    for (rows, kind) in [(37, "norms of a few rows"), (1500, "norms of many rows")] {
        let (x, gamma) = (up(&draw(2, &[rows, 333])), up(&draw(3, &[333])));
        let cuts = [
            "by 64 for 1",
            "by 64 for 2",
            "by 64 for 4",
            "by 128 for 1",
            "by 256 for 1",
        ];
        alike(kind, &cuts, &|| norm::layer_norm(&x, &gamma, &gamma, 1e-5));
        alike(kind, &cuts, &|| x.rms_norm(&gamma, 1e-5));
        let all = x.rms_norm(&gamma, 1e-5).unwrap().download().unwrap();
        gpu.keep_variant(kind, "by subgroups");
        same(&x.rms_norm(&gamma, 1e-5).unwrap(), &all, "by subgroups");
    }
    let (packed, _) = matrix(QuantType::Q8_0, 70, 96);
    let there = GpuQuantMatrix::upload(&gpu, &packed, None).unwrap();
    let x = up(&draw(4, &[3, 96]));
    let rows = ["4 rows", "8 rows", "16 rows"];
    alike("quantised products of 8 bits", &rows, &|| {
        there.multiply(&x)
    });
    let picture = up(&draw(5, &[2, 9, 11, 6]));
    let threads = ["64", "128", "256"];
    alike("element-wise kernels", &threads, &|| {
        picture.activated(ActivationFunction::Silu)
    });
    alike("element-wise kernels", &threads, &|| {
        picture.turn(&[0, 3, 1, 2])
    });
    let gamma = up(&draw(6, &[6]));
    alike("element-wise kernels", &threads, &|| {
        let act = crate::nn::Activation::Silu;
        norm::group_norm(&picture, &gamma, &gamma, 3, 1e-5, act)
    });
}

/// The first long run of a kind measures, later ones and other openings don't; a name that is none
/// is measured anew.
#[test]
fn each_kind_is_measured_once() {
    let temp = tempfile::tempdir().unwrap();
    let open = || {
        gpu(GpuOptions {
            store: Some(temp.path().to_path_buf()),
            ..GpuOptions::default()
        })
    };
    let Some(first) = open() else {
        return;
    };
    let kinds = [
        "attention 64 in fours",
        "norms of many rows",
        "element-wise kernels",
    ];
    let run = |gpu: &Gpu| {
        let x = GpuTensor::upload(gpu, &draw(0, &[1, 1100, 256])).unwrap();
        attend::attention(&x, &x, &x, (4, 4), &Mask::None).unwrap();
        let gamma = GpuTensor::upload(gpu, &draw(1, &[256])).unwrap();
        norm::layer_norm(&x, &gamma, &gamma, 1e-5).unwrap();
        x.scaled(2.0).unwrap();
        gpu.finish().unwrap();
        let dispatches = gpu.counts().dispatches;
        (dispatches, kinds.map(|kind| gpu.variant(kind)))
    };
    let (dispatches, measured) = run(&first);
    assert!(measured.iter().all(Option::is_some), "{measured:?}");
    assert!(dispatches > 20, "{dispatches}");
    drop(first);
    let again = open().unwrap();
    assert_eq!(run(&again), (3, measured.clone()));
    // What ran before makes no difference to what is too short to be measured.
    let up = |shape: &[usize]| GpuTensor::upload(&again, &draw(2, shape)).unwrap();
    let (q, k) = (up(&[1, 300, 64]), up(&[1, 1, 64]));
    attend::attention(&q, &k, &k, (1, 1), &Mask::None).unwrap();
    let ran = again.by_kernel();
    let usual = "attention 64 in fours by 32 rows";
    assert!(ran.keys().any(|name| name == usual), "{ran:?}");
    again.keep_variant(kinds[0], "no such rows");
    let (dispatches, anew) = run(&again);
    assert!(
        dispatches > 10 && anew[0].as_deref() != Some("no such rows"),
        "{anew:?}"
    );
}
