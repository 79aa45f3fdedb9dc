//! What follows a product before it is written, in the same pass.

use super::tensor::GpuTensor;
use crate::nn::{ActivationFunction, Result};

/// What becomes of each number of a product.
#[derive(Clone, Copy)]
pub(super) enum Epilogue<'a> {
    Nothing,
    Activation(ActivationFunction),
    /// A tensor of the product's shape is added.
    Plus(&'a GpuTensor),
    /// `[B,n]` is added: the same at every place of a sample.
    PlusChannels(&'a GpuTensor),
    /// A tensor of the product's shape is the gate of it.
    Gated(&'a GpuTensor, Gate),
    /// The first half of the columns times GELU of the second: half as many are written. Only of
    /// halves that come in fours.
    Geglu,
}

/// What stands between the products of a feed-forward part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// SiLU of the gate.
    Silu,
    /// GELU of the gate, by the tangent.
    GeluTanh,
    /// gpt-oss: `gate * sigmoid(1.702 gate) * (up + 1)`, the gate at most 7, the other from -7 to 7.
    Clamped,
}

impl Gate {
    /// In WGSL: what it makes of these two.
    pub(super) fn value(self, gate: &str, up: &str) -> String {
        match self {
            Gate::Silu => format!("silu({gate}) * {up}"),
            Gate::GeluTanh => format!("gelu_tanh({gate}) * {up}"),
            Gate::Clamped => format!("clamped_gate({gate}, {up})"),
        }
    }
}

/// The name of a function in WGSL.
pub(super) fn function(of: ActivationFunction) -> &'static str {
    match of {
        ActivationFunction::Silu => "silu",
        ActivationFunction::Gelu => "gelu",
        ActivationFunction::QuickGelu => "quick_gelu",
        ActivationFunction::GeluTanh => "gelu_tanh",
        ActivationFunction::Relu => "relu",
    }
}

/// Functions in WGSL, of a number or of four.
pub(super) fn functions(numbers: &str) -> String {
    include_str!("kernels/functions.wgsl").replace("NUMBERS", numbers)
}

impl<'a> Epilogue<'a> {
    /// Names it within a kernel's name.
    pub(super) fn name(&self) -> String {
        match self {
            Epilogue::Nothing => String::new(),
            Epilogue::Activation(of) => format!(" with {}", function(*of)),
            Epilogue::Plus(_) | Epilogue::PlusChannels(_) => " onto others".to_owned(),
            Epilogue::Gated(_, how) => format!(" gated by {how:?}"),
            Epilogue::Geglu => " with GEGLU".to_owned(),
        }
    }

    /// What it reads beside a product of shape `dims`, and how many of its rows share one of that.
    pub(super) fn reads(&self, dims: &[usize]) -> Result<(Option<&'a GpuTensor>, usize)> {
        let (more, wanted, each) = match *self {
            Epilogue::Nothing | Epilogue::Activation(_) | Epilogue::Geglu => return Ok((None, 1)),
            Epilogue::Plus(more) | Epilogue::Gated(more, _) => (more, dims.to_vec(), 1),
            Epilogue::PlusChannels(t) => {
                let ends = [dims.first(), dims.last()].map(|end| end.copied().unwrap_or(0));
                let all: usize = dims.iter().product();
                (t, ends.to_vec(), all / (ends[0] * ends[1]).max(1))
            }
        };
        if more.dims() != wanted {
            candle_core::bail!("{:?} beside a product of {dims:?}", more.dims());
        }
        Ok((Some(more), each))
    }

    /// In WGSL: what becomes of `v`, beside `more`.
    pub(super) fn value(&self, v: &str, more: &str) -> String {
        match self {
            Epilogue::Nothing | Epilogue::Geglu => v.to_owned(),
            Epilogue::Activation(of) => format!("{}({v})", function(*of)),
            Epilogue::Plus(_) | Epilogue::PlusChannels(_) => format!("{v} + {more}"),
            Epilogue::Gated(_, how) => how.value(more, v),
        }
    }
}
