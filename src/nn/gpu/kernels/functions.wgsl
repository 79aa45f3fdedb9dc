// Functions of each number.

fn sigmoid(v: NUMBERS) -> NUMBERS { return 1.0 / (1.0 + exp(-v)); }

// Abramowitz and Stegun, 7.1.26: off by 1.5e-7 at most.
fn erf(v: NUMBERS) -> NUMBERS {
    let t = 1.0 / (1.0 + 0.3275911 * abs(v));
    let sum = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t
        + 0.254829592) * t;
    return sign(v) * (1.0 - sum * exp(-v * v));
}

fn silu(v: NUMBERS) -> NUMBERS { return v * sigmoid(v); }
fn gelu(v: NUMBERS) -> NUMBERS { return 0.5 * v * (1.0 + erf(v * 0.70710678)); }
fn gelu_tanh(v: NUMBERS) -> NUMBERS { return v * sigmoid(1.5957692 * (v + 0.044715 * v * v * v)); }
fn quick_gelu(v: NUMBERS) -> NUMBERS { return v * sigmoid(1.702 * v); }
fn relu(v: NUMBERS) -> NUMBERS { return max(v, NUMBERS(0.0)); }
fn clamped_gate(gate: NUMBERS, v: NUMBERS) -> NUMBERS {
    let up = clamp(v, NUMBERS(-7.0), NUMBERS(7.0)) + 1.0;
    return quick_gelu(min(gate, NUMBERS(7.0))) * up;
}
