// One number of the output an invocation.

// `at`: the first workgroup of this piece of the run, and how many the whole run has across.
struct Sizes { at: vec4<u32>, count: u32, row: u32, each: u32, by: f32 }

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>;
BINDINGS

fn sigmoid(v: f32) -> f32 { return 1.0 / (1.0 + exp(-v)); }

// Abramowitz and Stegun, 7.1.26: off by 1.5e-7 at most.
fn erf(v: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(v));
    let sum = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t
        + 0.254829592) * t;
    return sign(v) * (1.0 - sum * exp(-v * v));
}

fn silu(v: f32) -> f32 { return v * sigmoid(v); }
fn gelu(v: f32) -> f32 { return 0.5 * v * (1.0 + erf(v * 0.70710678)); }
fn gelu_tanh(v: f32) -> f32 { return v * sigmoid(1.5957692 * (v + 0.044715 * v * v * v)); }
fn quick_gelu(v: f32) -> f32 { return v * sigmoid(1.702 * v); }

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) piece: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (s.at.x + piece.x + (s.at.y + piece.y) * s.at.w) * 256u + thread;
    if i >= s.count { return; }
    y[i] = VALUE;
}
