//! Whether gradients are the slopes of a loss, for tests.

use candle_core::{Device, Tensor};

use super::{Params, noise};

/// Fails unless every parameter has a gradient of `loss` which is its slope in a random direction, to
/// `relative` of it and `absolute`. The slope is measured over steps of length `step`, which may
/// depend on the gradient.
pub(crate) fn check_gradients(
    params: &Params,
    (relative, absolute): (f64, f64),
    step: impl Fn(f64) -> f64,
    loss: impl Fn() -> Tensor,
) {
    let number = |t: Tensor| f64::from(t.to_scalar::<f32>().unwrap());
    let grads = loss().backward().unwrap();
    for (i, (name, var)) in params.vars().iter().enumerate() {
        let grad = grads.get(var).unwrap_or_else(|| panic!("{name} has none"));
        let before = var.as_tensor().copy().unwrap();
        let along = noise(7, i as u64, var.dims(), &Device::Cpu).unwrap();
        let want = number((grad * &along).unwrap().sum_all().unwrap());
        let at = |step: f64| {
            var.set(&(&before + (&along * step).unwrap()).unwrap())
                .unwrap();
            let value = number(loss());
            var.set(&before).unwrap();
            value
        };
        // Fourth-order differences: their own error is far below f32's rounding.
        let h = step(want);
        let got = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
        let close = (got - want).abs() < relative * want.abs() + absolute;
        assert!(close, "{name}: slope {got}, gradient {want}");
    }
}
