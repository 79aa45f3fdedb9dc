//! Each kernel against the processor, over shapes that nothing divides.

use super::epilogue::Epilogue;
use super::*;
use crate::nn::{ActivationFunction, Array, noise};
use candle_core::{Device, Tensor};

mod attention;
mod elementwise;
mod guest;
mod neighbours;
mod products;
mod quantised;
mod sampling;
mod variants;

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

const ACTIVATIONS: [ActivationFunction; 5] = [
    ActivationFunction::Silu,
    ActivationFunction::Gelu,
    ActivationFunction::QuickGelu,
    ActivationFunction::GeluTanh,
    ActivationFunction::Relu,
];

/// What a gate makes of two tensors.
fn gated(gate: &Tensor, up: &Tensor, how: Gate) -> Tensor {
    let activated = |by| gate.activated(by).unwrap();
    match how {
        Gate::Silu => (activated(ActivationFunction::Silu) * up).unwrap(),
        Gate::GeluTanh => (activated(ActivationFunction::GeluTanh) * up).unwrap(),
        Gate::Clamped => {
            let gate = gate.minimum(7f32).unwrap();
            let gate = gate.activated(ActivationFunction::QuickGelu).unwrap();
            let up = up.clamp(-7f32, 7f32).unwrap();
            (gate * (up + 1.0).unwrap()).unwrap()
        }
    }
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

/// One that multiplies by f16 in this way, if the adapter can.
fn computing(arithmetic: Arithmetic) -> Option<Gpu> {
    let gpu = gpu(GpuOptions {
        arithmetic: Some(arithmetic),
        ..GpuOptions::default()
    })?;
    let ways = gpu.ways();
    let can = match arithmetic {
        Arithmetic::F32 => true,
        Arithmetic::F16 => ways.f16,
        Arithmetic::Matrices => ways.f16 && ways.matrices.is_some(),
    };
    if !can {
        eprintln!(
            "{} does not compute in {}: nothing is tested",
            gpu.info().name,
            arithmetic.name()
        );
    }
    can.then_some(gpu)
}
