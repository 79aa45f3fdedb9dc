//! How it behaves beside others: lost, refused memory, in pieces, kept on the disk.

use super::*;
use crate::nn::ConvOptions;
use candle_core::DType;

#[test]
fn a_lost_gpu_is_one_sentence() {
    let Some(gpu) = gpu(GpuOptions::default()) else {
        return;
    };
    let x = GpuTensor::upload(&gpu, &draw(0, &[64, 64])).unwrap();
    let y = product::linear(&x, &x, None, Epilogue::Nothing).unwrap();
    gpu.lose();
    let error = y.download().unwrap_err().to_string();
    assert!(
        error.contains("was lost") && error.contains("--device cpu"),
        "{error}"
    );
    let error = product::linear(&x, &x, None, Epilogue::Nothing)
        .unwrap_err()
        .to_string();
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
    // A driver may need a few per cent of it for itself.
    let opened = [1, 3, 10, 30, 60].into_iter().find_map(|budget| {
        let budget = Some(budget);
        Gpu::open(
            Some(0),
            GpuOptions {
                budget,
                ..GpuOptions::default()
            },
        )
        .ok()
    });
    let Some(full) = opened else {
        eprintln!("no budget is large enough to open it: a refusal is not tested");
        return;
    };
    // Nothing is written into them, so that the test takes none of the memory.
    let mut held = Vec::new();
    let refused = (0..200).find_map(|_| match full.buffer(96 << 20, true) {
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
        product::conv2d(&x, &w, (None, Epilogue::Nothing), ConvOptions::same(3)).unwrap();
        gpu.finish().unwrap();
    };
    run();
    // The mean of the best of a few, since this machine may be busy with other work as well.
    let measured = || {
        let before = gpu.counts();
        let start = std::time::Instant::now();
        run();
        let seconds = start.elapsed().as_secs_f64();
        let counts = gpu.counts().since(&before, 1);
        assert_eq!(counts.dispatches, 1);
        seconds / counts.submissions as f64
    };
    let means: Vec<f64> = std::iter::repeat_with(measured).take(3).collect();
    assert!(
        means.iter().any(|mean| *mean < 0.05),
        "pieces of {means:?} s"
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
        let y = product::linear(
            &GpuTensor::upload(gpu, &x).unwrap(),
            &w,
            None,
            Epilogue::Nothing,
        )
        .unwrap();
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
