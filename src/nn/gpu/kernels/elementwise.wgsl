// One number of the output an invocation.

struct Sizes { count: u32, row: u32, each: u32, by: f32 }

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
fn quick_gelu(v: f32) -> f32 { return v * sigmoid(1.702 * v); }

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = id.x + id.y * groups.x * 256u;
    if i >= s.count { return; }
    y[i] = VALUE;
}
