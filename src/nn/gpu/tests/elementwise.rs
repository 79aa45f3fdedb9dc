//! Norms, what is done number by number, and copies.

use super::*;
use crate::nn::{self, Activation};

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
            let want = nn::rms_norm(&x, &gamma, 1e-5).unwrap();
            let got = up(&x).rms_norm(&up(&gamma), 1e-5).unwrap();
            same(
                &got,
                &want,
                &format!("{rows} rows of {width} by their mean square"),
            );
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
            for by in ACTIVATIONS {
                let (got, want) = (there.activated(by), x.activated(by));
                same(&got.unwrap(), &want.unwrap(), &format!("{by:?}"));
            }
            for how in [Gate::Silu, Gate::GeluTanh, Gate::Clamped] {
                let got = there.gated(&up(&z), how).unwrap();
                same(&got, &gated(&x, &z, how), &format!("{how:?}"));
            }
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
