// Layer norm, or division by the root mean square: a workgroup for each row.

struct Sizes { at: vec4<u32>, rows: u32, width: u32, eps: f32, unused: u32 }

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gamma: array<f32>;
BETA_BINDING
@group(0) @binding(Y_BINDING) var<storage, read_write> y: array<f32>;

const THREADS = 64u;
var<workgroup> parts: array<f32, THREADS>;

SUM_OF_ALL

fn mean_of(first: u32, width: u32, thread: u32, lane: Lane) -> f32 {
    var own = 0.0;
    for (var i = thread; i < width; i += THREADS) { own += x[first + i]; }
    return sum_of_all(own, lane) / f32(s.width);
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) piece: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,LANE_INPUTS
) {
    let lane = THIS_LANE;
    let row = s.at.x + piece.x + (s.at.y + piece.y) * s.at.w;
    // Too many rows are the same for a whole workgroup, which still meets every barrier.
    let there = row < s.rows;
    let first = select(0u, row * s.width, there);
    let width = select(0u, s.width, there);
    let mean = MEAN;
    var own = 0.0;
    for (var i = thread; i < width; i += THREADS) {
        let off = x[first + i] - mean;
        own += off * off;
    }
    let scale = inverseSqrt(sum_of_all(own, lane) / f32(s.width) + s.eps);
    for (var i = thread; i < width; i += THREADS) {
        y[first + i] = (x[first + i] - mean) * scale * gamma[i] + BETA;
    }
}
