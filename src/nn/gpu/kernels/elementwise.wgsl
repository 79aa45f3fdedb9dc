// One number of the output an invocation.

// `at`: the first workgroup of this piece of the run, and how many the whole run has across.
struct Sizes { at: vec4<u32>, count: u32, row: u32, each: u32, by: f32 }

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>;
BINDINGS

FUNCTIONS

@compute @workgroup_size(THREADS_VALUE)
fn main(@builtin(workgroup_id) piece: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (s.at.x + piece.x + (s.at.y + piece.y) * s.at.w) * THREADS_VALUEu + thread;
    if i >= s.count { return; }
    y[i] = WRITTEN;
}
