// Products of a quantised matrix, rows by columns, with the columns of a few tokens. The weights of
// a few rows are unpacked once for four tokens; sixteen invocations share a row.

struct Sizes { at: vec4<u32>, rows: u32, columns: u32, tokens: u32, has_bias: u32, across: u32, a: u32, b: u32, c: u32 }

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> numbers: array<u32>;
@group(0) @binding(2) var<storage, read> scales: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
MORE_BINDING
@group(0) @binding(Y_BINDING) var<storage, read_write> y: array<f32>;

const LANES = 16u;
const ROWS = ROWS_VALUEu;
const TOKENS = 4u;

var<workgroup> parts: array<vec4<f32>, ROWS * LANES>;

LOADER

FUNCTIONS

@compute @workgroup_size(LANES, ROWS)
fn main(
    @builtin(workgroup_id) piece: vec3<u32>,
    @builtin(local_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let group = s.at.xyz + piece;
    let row = (group.y + group.z * s.across) * ROWS + id.y;
    let first = group.x * TOKENS;
    let octets = s.columns / 8u;
    let count = select(0u, octets, row < s.rows);
    var sums = vec4<f32>(0.0);
    for (var octet = id.x; octet < count; octet += LANES) {
        let w = eight(row * octets + octet);
        for (var t = 0u; t < TOKENS; t++) {
            if first + t < s.tokens {
                let at = (first + t) * octets * 2u + octet * 2u;
                sums[t] += dot(w.a, x[at]) + dot(w.b, x[at + 1u]);
            }
        }
    }
    parts[thread] = sums;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if id.x < half { parts[thread] += parts[thread + half]; }
        workgroupBarrier();
    }
    if id.x < TOKENS && first + id.x < s.tokens && row < s.rows {
        var offset = 0.0;
        if s.has_bias != 0u { offset = bias[row]; }
        let at = (first + id.x) * s.rows + row;
        let v = parts[id.y * LANES][id.x] + offset;
        y[at] = AFTERWARDS;
    }
}
