// Copies numbers between strided places: cuts, joins, turned axes, repeated rows.

struct Sizes {
    at: vec4<u32>,
    count: u32, start: u32, goal: u32, unused: u32,
    dims: array<vec4<u32>, 2>,
    read: array<vec4<u32>, 2>,
    write: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(THREADS_VALUE)
fn main(@builtin(workgroup_id) piece: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (s.at.x + piece.x + (s.at.y + piece.y) * s.at.w) * THREADS_VALUEu + thread;
    if i >= s.count { return; }
    var rest = i;
    var reads_at = s.start;
    var writes_at = s.goal;
    for (var axis = 8u; axis > 0u; axis--) {
        let quad = (axis - 1u) / 4u;
        let part = (axis - 1u) % 4u;
        let at = rest % s.dims[quad][part];
        rest /= s.dims[quad][part];
        reads_at += at * s.read[quad][part];
        writes_at += at * s.write[quad][part];
    }
    y[writes_at] = x[reads_at];
}
