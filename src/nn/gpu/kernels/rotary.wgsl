// Rotary position embedding of every head of a row.

struct Sizes { count: u32, row: u32, head: u32, pairs: u32 }

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> turns: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = id.x + id.y * groups.x * 256u;
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
