//! Formulas written again in plain numbers, and properties that hold for every scheduler.

use super::*;
use crate::diffusion::Prediction;
use candle_core::{Device, Tensor};
use serde_json::{Value, json};

const T: usize = 1000;

/// Shares of signal by the definition, apart from the code under test.
fn alphas() -> Vec<f64> {
    let mut product = 1.0;
    (0..T)
        .map(|i| {
            let r = 0.00085f64.sqrt()
                + (0.012f64.sqrt() - 0.00085f64.sqrt()) * i as f64 / (T - 1) as f64;
            product *= 1.0 - r * r;
            product
        })
        .collect()
}

/// A stand-in for the UNet that depends on sample and time: a made-up smooth noise.
fn epsilon(x: f64, t: usize) -> f64 {
    (0.3 * x + 0.001 * t as f64).sin()
}

const SPACINGS: [TimestepSpacing; 3] = [
    TimestepSpacing::Leading,
    TimestepSpacing::Trailing,
    TimestepSpacing::Linspace,
];

/// Stable Diffusion's file with other values laid over it.
fn file(over: Value) -> SchedulerConfig {
    let mut keys = json!({
        "_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "steps_offset": 1, "skip_prk_steps": true,
        "set_alpha_to_one": false, "clip_sample": false,
    });
    if let (Value::Object(keys), Value::Object(over)) = (&mut keys, over) {
        keys.extend(over);
    }
    serde_json::from_value(keys).unwrap()
}

fn config(spacing: TimestepSpacing, prediction: Prediction) -> SchedulerConfig {
    file(json!({"timestep_spacing": spacing, "prediction_type": prediction}))
}

/// Runs the scheduler on one number, answering as the prediction type asks.
fn run(kind: SchedulerKind, c: &SchedulerConfig, steps: usize, start: f64) -> Vec<f64> {
    let a = alphas();
    let mut s = Scheduler::new(kind, c, steps).unwrap();
    let number = |t: &Tensor| f64::from(t.to_vec1::<f32>().unwrap()[0]);
    let tensor = |v: f64| Tensor::new(&[v as f32], &Device::Cpu).unwrap();
    let mut x = tensor(start * s.init_noise_sigma());
    let mut path = Vec::new();
    for (i, t) in s.timesteps().into_iter().enumerate() {
        let t = t as usize;
        let seen = number(&s.scale_input(&x, i).unwrap());
        let e = epsilon(seen, t);
        let answer = match c.prediction() {
            Prediction::Epsilon => e,
            // From seen = sqrt(a) x0 + sqrt(1-a) e and v = sqrt(a) e - sqrt(1-a) x0.
            Prediction::VPrediction => {
                let x0 = (seen - (1.0 - a[t]).sqrt() * e) / a[t].sqrt();
                a[t].sqrt() * e - (1.0 - a[t]).sqrt() * x0
            }
            Prediction::Sample => (seen - (1.0 - a[t]).sqrt() * e) / a[t].sqrt(),
        };
        let noise = tensor(0.3 - 0.1 * i as f64);
        x = s.step(&tensor(answer), i, &x, Some(&noise)).unwrap();
        path.push(number(&x));
    }
    path
}

fn assert_close(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() < 1e-4 * (1.0 + w.abs()), "{got:?} {want:?}");
    }
}

#[test]
fn euler_follows_its_plain_formula() {
    let a = alphas();
    // 5 steps, leading, offset 1.
    let times = [801, 601, 401, 201, 1];
    let sigma = |t: usize| ((1.0 - a[t]) / a[t]).sqrt();
    let mut x = 0.7 * (sigma(801).powi(2) + 1.0).sqrt();
    let mut want = Vec::new();
    for (i, &t) in times.iter().enumerate() {
        let next = times.get(i + 1).map_or(0.0, |&t| sigma(t));
        let derivative = epsilon(x / (sigma(t).powi(2) + 1.0).sqrt(), t);
        x += derivative * (next - sigma(t));
        want.push(x);
    }
    for prediction in [Prediction::Epsilon, Prediction::VPrediction] {
        let c = config(TimestepSpacing::Leading, prediction);
        assert_close(&run(SchedulerKind::Euler, &c, 5, 0.7), &want);
    }
}

#[test]
fn dpm_solver_follows_its_plain_formula() {
    let a = alphas();
    // 5 steps, trailing.
    let times = [999, 799, 599, 399, 199];
    let lambda = |t: usize| (a[t].sqrt() / (1.0 - a[t]).sqrt()).ln();
    let mut x = 0.7;
    let mut want = Vec::new();
    let mut clean: Vec<f64> = Vec::new();
    for (i, &t) in times.iter().enumerate() {
        clean.push((x - (1.0 - a[t]).sqrt() * epsilon(x, t)) / a[t].sqrt());
        let Some(&next) = times.get(i + 1) else {
            want.push(clean[i]);
            break;
        };
        let h = lambda(next) - lambda(t);
        let mut d = clean[i];
        if i > 0 {
            let r = (lambda(t) - lambda(times[i - 1])) / h;
            d += 0.5 / r * (clean[i] - clean[i - 1]);
        }
        x = (1.0 - a[next]).sqrt() / (1.0 - a[t]).sqrt() * x
            - a[next].sqrt() * ((-h).exp() - 1.0) * d;
        want.push(x);
    }
    for prediction in [Prediction::Epsilon, Prediction::VPrediction] {
        let c = config(TimestepSpacing::Trailing, prediction);
        assert_close(&run(SchedulerKind::DpmSolverPp, &c, 5, 0.7), &want);
    }
}

#[test]
fn all_predictions_take_the_same_way() {
    // PNDM weighs the answers themselves, so that its ways differ.
    let others = SchedulerKind::ALL
        .iter()
        .filter(|k| **k != SchedulerKind::Pndm);
    for &kind in others {
        let way = |p| run(kind, &config(TimestepSpacing::Leading, p), 8, 0.7);
        let noise = way(Prediction::Epsilon);
        // Karras levels lie between timesteps, where this stand-in can't be asked.
        if kind.method().karras {
            continue;
        }
        assert_close(&way(Prediction::VPrediction), &noise);
        assert_close(&way(Prediction::Sample), &noise);
    }
}

#[test]
fn every_kind_gives_the_clean_latents_of_a_knowing_model() {
    // A model that knows x0 = 0.5 answers so; all solvers must arrive there.
    for &kind in SchedulerKind::ALL {
        for spacing in SPACINGS {
            let c = config(spacing, Prediction::Sample);
            let c = c.with("set_alpha_to_one", true).unwrap();
            let mut s = Scheduler::new(kind, &c, 10).unwrap();
            let mut x = Tensor::new(&[1f32], &Device::Cpu).unwrap();
            let (zero, known) = ((&x * 0.0).unwrap(), (&x * 0.5).unwrap());
            x = (x * s.init_noise_sigma()).unwrap();
            for i in 0..s.timesteps().len() {
                x = s.step(&known, i, &x, Some(&zero)).unwrap();
            }
            let end = x.to_vec1::<f32>().unwrap()[0];
            // PNDM extrapolates from what it was told before.
            let near = if kind == SchedulerKind::Pndm {
                0.3
            } else {
                1e-3
            };
            assert!((end - 0.5).abs() < near, "{kind} {spacing:?}: {end}");
        }
    }
}

#[test]
fn any_number_of_steps_stays_within_training() {
    for &kind in SchedulerKind::ALL {
        for spacing in SPACINGS {
            let c = config(spacing, Prediction::Epsilon);
            for steps in [1, 2, 3, 7, 30, 333, 1000] {
                if kind == SchedulerKind::Lcm && steps > 50 {
                    let why = Scheduler::new(kind, &c, steps).err().unwrap();
                    assert!(why.to_string().contains("50"), "{why}");
                    continue;
                }
                let s = Scheduler::new(kind, &c, steps).unwrap();
                let times = s.timesteps();
                let more = usize::from(kind == SchedulerKind::Pndm && steps > 1);
                assert_eq!(times.len(), steps + more);
                assert!(times.iter().all(|&t| t < T as f64));
                assert!(times.windows(2).all(|w| w[0] >= w[1]), "{kind} {steps}");
                let levels = s.sigmas().map(|levels| levels.len());
                assert!(levels.is_none_or(|n| n == steps + 1));
            }
            assert!(Scheduler::new(kind, &c, 0).is_err());
            assert!(Scheduler::new(kind, &c, 1001).is_err());
        }
    }
}

#[test]
fn a_key_that_is_left_out_is_as_the_class_that_runs_has_it() {
    // PNDM's file says nothing of the spacing: leading for DDIM, linspace for Euler.
    let c = file(json!({}));
    let times = |kind| Scheduler::new(kind, &c, 4).unwrap().timesteps();
    assert_eq!(times(SchedulerKind::Ddim), [751.0, 501.0, 251.0, 1.0]);
    assert_eq!(times(SchedulerKind::Euler), [999.0, 666.0, 333.0, 0.0]);
    assert_eq!(times(SchedulerKind::EulerAncestral)[3], 0.0);
    // Fractions are kept.
    let seven = Scheduler::new(SchedulerKind::Euler, &c, 7)
        .unwrap()
        .timesteps();
    assert_eq!(seven[1], 832.5);
    assert!(
        c.clone()
            .with_own_defaults()
            .keys(SchedulerKind::Euler)
            .unwrap()
            .next_listed
    );
}

#[test]
fn ddim_steps_by_whole_strides_and_models_of_our_own_to_the_next() {
    let c = file(json!({"timestep_spacing": "trailing"}));
    let end = |c: &SchedulerConfig| run(SchedulerKind::Ddim, c, 7, 0.7);
    let (whole, listed) = (end(&c), end(&c.clone().with_own_defaults()));
    assert_ne!(whole[0], listed[0]);
    let four = |c: &SchedulerConfig| run(SchedulerKind::Ddim, c, 4, 0.7);
    // But for what PyTorch's table rounds.
    let (theirs, ours) = (four(&c), four(&c.with_own_defaults()));
    let mut pairs = theirs.iter().zip(&ours);
    assert!(
        pairs.all(|(a, b)| (a - b).abs() < 1e-5),
        "{theirs:?} {ours:?}"
    );
}

#[test]
fn clean_latents_are_cut_where_the_file_says_so() {
    let last = |over: Value| {
        let c = file(over).with("set_alpha_to_one", true).unwrap();
        let mut s = Scheduler::new(SchedulerKind::Ddim, &c, 1).unwrap();
        let x = Tensor::new(&[[1f32, 5.0, -3.0, 0.5]], &Device::Cpu).unwrap();
        let end = s.step(&x, 0, &x, None).unwrap();
        let end = end.to_vec2::<f32>().unwrap()[0].clone();
        end.iter()
            .map(|v| (v * 1e4).round() / 1e4)
            .collect::<Vec<f32>>()
    };
    let sample = |over: Value| {
        let Value::Object(mut keys) = over else {
            unreachable!()
        };
        keys.insert("prediction_type".into(), "sample".into());
        last(keys.into())
    };
    assert_eq!(sample(json!({})), [1.0, 5.0, -3.0, 0.5]);
    assert_eq!(sample(json!({"clip_sample": true})), [1.0, 1.0, -1.0, 0.5]);
    let wider = json!({"clip_sample": true, "clip_sample_range": 4.0});
    assert_eq!(sample(wider), [1.0, 4.0, -3.0, 0.5]);
    let dynamic =
        json!({"thresholding": true, "dynamic_thresholding_ratio": 0.5, "sample_max_value": 10.0});
    // The middle of 0.5, 1, 3, 5 is 2.
    assert_eq!(sample(dynamic), [0.5, 1.0, -1.0, 0.25]);
}

#[test]
fn what_is_not_computed_is_named() {
    let refused = |kind, over: Value, word: &str| {
        let why = Scheduler::new(kind, &file(over), 5)
            .err()
            .unwrap()
            .to_string();
        // Without the backtrace that candle appends when one is asked for.
        let why = why.lines().next().unwrap();
        assert!(why.contains(word), "{why}");
    };
    use SchedulerKind::{Ddim, DpmSolverPp, Euler, Pndm, UniPc};
    let why = Scheduler::new(Pndm, &file(json!({"skip_prk_steps": false})), 3).err();
    let why = why.map(|why| why.to_string()).unwrap_or_default();
    assert!(why.contains("skip_prk_steps"), "{why}");
    refused(
        Pndm,
        json!({"rescale_betas_zero_snr": true}),
        "rescale_betas_zero_snr",
    );
    refused(
        Euler,
        json!({"interpolation_type": "log_linear"}),
        "interpolation_type",
    );
    refused(
        DpmSolverPp,
        json!({"algorithm_type": "sde-dpmsolver++"}),
        "algorithm_type",
    );
    refused(DpmSolverPp, json!({"solver_order": 3}), "solver_order");
    refused(UniPc, json!({"predict_x0": false}), "predict_x0");
    // What a class of tomorrow knows is no secret of its file; another class passes it over.
    let tomorrow = json!({"_class_name": "EulerDiscreteScheduler", "beta_warp": 2.5});
    refused(Euler, tomorrow.clone(), "beta_warp is 2.5");
    assert!(Scheduler::new(Ddim, &file(tomorrow), 5).is_ok());
    let carried = json!({
        "_class_name": "EulerDiscreteScheduler", "skip_prk_steps": true, "beta_warp": null,
        "clip_sample": false, "set_alpha_to_one": false, "_diffusers_version": "0.40",
    });
    assert!(Scheduler::new(Euler, &file(carried), 5).is_ok());
    let blind = json!({"rescale_betas_zero_snr": true, "timestep_spacing": "trailing"});
    refused(Ddim, blind, "rescale_betas_zero_snr");
    let heun = file(json!({"_class_name": "HeunDiscreteScheduler"}));
    let why = heun.kind().unwrap_err().to_string();
    assert!(why.contains("HeunDiscreteScheduler"), "{why}");
    let broken = serde_json::from_value::<SchedulerConfig>(json!({"beta_schedule": "sigmoid"}));
    assert!(broken.unwrap_err().to_string().contains("sigmoid"));
}

#[test]
fn a_file_is_as_configured_and_written_as_it_was() {
    let c = file(json!({"_class_name": "EulerDiscreteScheduler", "sample_max_value": null}));
    assert_eq!(c.kind().unwrap(), SchedulerKind::Euler);
    let back = serde_json::to_value(&c).unwrap();
    assert_eq!(back["_class_name"], "EulerDiscreteScheduler");
    assert_eq!(serde_json::from_value::<SchedulerConfig>(back).unwrap(), c);
    for kind in SchedulerKind::ALL {
        assert_eq!(kind.to_string().parse::<SchedulerKind>().unwrap(), *kind);
    }
    let why = "heun".parse::<SchedulerKind>().unwrap_err();
    assert!(
        why.contains("euler-a-karras") && why.contains(" or lcm"),
        "{why}"
    );
}

/// Final samples of diffusers 0.42.1 in f64, for a model that answers `0.4 x + 0.2 cos(t / 100)`.
#[test]
fn pndm_with_runge_kutta_steps_ends_where_diffusers_does() {
    let recorded = [
        ("epsilon", 10, [1.890_817_716, -3.587_802_016]),
        ("epsilon", 7, [1.481_446_214, -3.248_801_540]),
        ("v_prediction", 10, [0.309_462_803, -0.681_743_720]),
        ("v_prediction", 7, [0.251_181_446, -0.697_922_957]),
    ];
    for (prediction, steps, wanted) in recorded {
        let config = file(json!({"skip_prk_steps": false, "prediction_type": prediction}));
        let mut scheduler = Scheduler::new(SchedulerKind::Pndm, &config, steps).unwrap();
        let times = scheduler.timesteps();
        assert_eq!(times.len(), steps + 9);
        if steps == 7 {
            assert_eq!(times[..4], [853.0, 782.0, 782.0, 711.0]);
        }
        let mut x = Tensor::new(&[0.7f64, -1.3], &Device::Cpu).unwrap();
        for (i, t) in times.iter().enumerate() {
            let answer = x.affine(0.4, 0.2 * (t / 100.0).cos()).unwrap();
            x = scheduler.step(&answer, i, &x, None).unwrap();
        }
        assert_close(&x.to_vec1::<f64>().unwrap(), &wanted);
    }
}
