//! Beside others that use the GPU.

use super::*;
use crate::nn::Mask;
use std::sync::atomic::{AtomicBool, Ordering};

/// Another program, here one with a device of its own, keeps the GPU busy: both have right numbers,
/// and neither holds the GPU for long.
#[test]
fn two_devices_work_side_by_side() {
    let (Some(one), Some(other)) = (gpu(GpuOptions::default()), gpu(GpuOptions::default())) else {
        return;
    };
    let (done, busy) = (AtomicBool::new(false), AtomicBool::new(false));
    /// Ends the other thread even where an assertion fails.
    struct Ends<'a>(&'a AtomicBool);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        let _ends = Ends(&done);
        scope.spawn(|| {
            let x = draw(0, &[1, 300, 128]);
            let want = crate::nn::attention(&x, &x, &x, 2, 2, &Mask::None).unwrap();
            let x = GpuTensor::upload(&other, &x).unwrap();
            while !done.load(Ordering::Relaxed) {
                let y = attend::attention(&x, &x, &x, (2, 2), &Mask::None).unwrap();
                same(&y, &want, "the other program's");
                busy.store(true, Ordering::Relaxed);
            }
        });
        while !busy.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let (x, w) = (draw(1, &[1, 300, 200]), draw(2, &[200, 150]));
        let want = crate::nn::linear(&x, &w, None).unwrap();
        let up = |t: &Tensor| GpuTensor::upload(&one, t).unwrap();
        let (x, w) = (up(&x), up(&w));
        // The processor, which is the GPU here, may have other work as well: the best of a few.
        let mut longest = f64::INFINITY;
        for _ in 0..20 {
            for gpu in [&one, &other] {
                gpu.restart_longest();
            }
            for _ in 0..3 {
                let y = product::linear(&x, &w, None, Epilogue::Nothing).unwrap();
                same(&y, &want, "ours");
            }
            longest = longest.min(one.counts().longest.max(other.counts().longest));
            if longest < 0.05 {
                break;
            }
        }
        assert!(longest < 0.05, "{longest}");
    });
    for gpu in [&one, &other] {
        let counts = gpu.counts();
        assert!(counts.submissions > 1, "{counts:?}");
        assert!(counts.most_waiting <= 2, "{counts:?}");
    }
}

/// Looking which adapters there are opens none, and neither does choosing one that is not there or
/// the processor; a GPU that is opened is one, and closed again.
#[test]
fn a_gpu_is_opened_only_to_compute() {
    let before = opened_by_this_thread();
    let all = adapters();
    assert!(Gpu::open(Some(all.len()), GpuOptions::default()).is_err());
    assert!(Gpu::counting(1 << 30, false).counts_only());
    assert_eq!(opened_by_this_thread(), before);
    if let Some(gpu) = gpu(GpuOptions::default()) {
        assert_eq!(opened_by_this_thread(), before + 1);
        drop(gpu);
    }
}
