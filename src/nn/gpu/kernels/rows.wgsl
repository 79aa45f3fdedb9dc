// Layer norm, or division by the root mean square: LANES invocations for each row.

struct Sizes { at: vec4<u32>, rows: u32, width: u32, eps: f32, unused: u32 }

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> gamma: array<f32>;
BETA_BINDING
@group(0) @binding(Y_BINDING) var<storage, read_write> y: array<f32>;

const LANES = LANES_VALUEu;
const ROWS = ROWS_VALUEu;
const THREADS = LANES * ROWS;
// Numbers of a row are added up in so many parts, however many invocations there are for it.
const PARTS = 256u;
const OF_LANE = PARTS / LANES;
var<workgroup> parts: array<f32, THREADS>;

SUM_OF_ALL

fn mean_of(first: u32, width: u32, lane: Lane) -> f32 {
    var own: array<f32, OF_LANE>;
    for (var part = 0u; part < OF_LANE; part++) {
        own[part] = 0.0;
        for (var i = lane.number + part * LANES; i < width; i += PARTS) { own[part] += x[first + i]; }
    }
    return sum_of_all(joined(own), lane) / f32(s.width);
}

// The parts of an invocation, added up as those of several would be.
fn joined(own: array<f32, OF_LANE>) -> f32 {
    var all = own;
    for (var half = OF_LANE / 2u; half > 0u; half /= 2u) {
        for (var part = 0u; part < half; part++) { all[part] += all[part + half]; }
    }
    return all[0];
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) piece: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,LANE_INPUTS
) {
    let lane = THIS_LANE;
    let row = (s.at.x + piece.x + (s.at.y + piece.y) * s.at.w) * ROWS + thread / LANES;
    // Too many rows still meet every barrier.
    let there = row < s.rows;
    let first = select(0u, row * s.width, there);
    let width = select(0u, s.width, there);
    let mean = MEAN;
    var own: array<f32, OF_LANE>;
    for (var part = 0u; part < OF_LANE; part++) {
        own[part] = 0.0;
        for (var i = lane.number + part * LANES; i < width; i += PARTS) {
            let off = x[first + i] - mean;
            own[part] += off * off;
        }
    }
    let scale = inverseSqrt(sum_of_all(joined(own), lane) / f32(s.width) + s.eps);
    for (var i = lane.number; i < width; i += LANES) {
        y[first + i] = (x[first + i] - mean) * scale * gamma[i] + BETA;
    }
}
