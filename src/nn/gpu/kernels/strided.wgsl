// Copies numbers between strided places: cuts, joins, turned axes, repeated rows.

struct Sizes {
    count: u32, start: u32, goal: u32, unused: u32,
    dims: array<vec4<u32>, 2>,
    read: array<vec4<u32>, 2>,
    write: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
    let i = id.x + id.y * groups.x * 256u;
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
