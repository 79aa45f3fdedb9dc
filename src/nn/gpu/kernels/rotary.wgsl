// Rotary position embedding of every head of a row.

struct Sizes { at: vec4<u32>, count: u32, row: u32, head: u32, pairs: u32 }

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> turns: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(THREADS_VALUE)
fn main(@builtin(workgroup_id) piece: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (s.at.x + piece.x + (s.at.y + piece.y) * s.at.w) * THREADS_VALUEu + thread;
    if i >= s.count { return; }
    let at = i % s.row % s.head;
    if at >= 2u * s.pairs {
        y[i] = x[i];
        return;
    }
    // Which pair, and whether this is its second number.
    let pair = PAIR;
    let second = SECOND;
    let apart = APART;
    let turn = turns[i / s.row * s.pairs + pair];
    if second {
        y[i] = x[i - apart] * turn.y + x[i] * turn.x;
    } else {
        y[i] = x[i] * turn.x - x[i + apart] * turn.y;
    }
}
