// Products of each token with the quantised matrices of the experts that were chosen for it, which
// lie one behind the other. Sixteen invocations share a row.

struct Sizes {
    at: vec4<u32>,
    rows: u32, columns: u32, products: u32, has_bias: u32,
    // Workgroups of rows along an axis, and products that read the same token.
    across: u32, share: u32, a: u32, b: u32,
}

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> numbers: array<u32>;
@group(0) @binding(2) var<storage, read> scales: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> chosen: array<u32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

const LANES = 16u;
const ROWS = 4u;

var<workgroup> parts: array<f32, ROWS * LANES>;

LOADER

@compute @workgroup_size(LANES, ROWS)
fn main(
    @builtin(workgroup_id) piece: vec3<u32>,
    @builtin(local_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let group = s.at.xyz + piece;
    let product = group.x;
    let row = (group.y + group.z * s.across) * ROWS + id.y;
    let octets = s.columns / 8u;
    let count = select(0u, octets, row < s.rows);
    let whole = chosen[product] * s.rows + row;
    let first = product / s.share * octets * 2u;
    var sum = 0.0;
    for (var octet = id.x; octet < count; octet += LANES) {
        let w = eight(whole * octets + octet);
        sum += dot(w.a, x[first + octet * 2u]) + dot(w.b, x[first + octet * 2u + 1u]);
    }
    parts[thread] = sum;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if id.x < half { parts[thread] += parts[thread + half]; }
        workgroupBarrier();
    }
    if id.x == 0u && row < s.rows {
        var offset = 0.0;
        if s.has_bias != 0u { offset = bias[whole]; }
        y[product * s.rows + row] = parts[thread] + offset;
    }
}
