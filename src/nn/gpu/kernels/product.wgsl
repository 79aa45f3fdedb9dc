// Matrix product, and convolution as one whose left side is gathered from the picture (implicit
// im2col). Each workgroup makes BM x BN of the output from tiles of BK columns in workgroup memory,
// each invocation TM x 4 of it. With f16 arithmetic the tiles and the sums of BK products are f16,
// all further sums f32; what overflowed is done once more in f32.

struct Sizes {
    // The first workgroup of this piece of the run.
    at: vec4<u32>,
    // Tiles of the output run along a band of so many columns of tiles, then down its rows.
    m: u32, n: u32, k: u32, band: u32,
    // Of a convolution: the picture that is read, and how.
    h: u32, w: u32, c: u32, out_h: u32,
    out_w: u32, kernel_w: u32, stride: u32, pad: u32,
    double: u32, has_bias: u32, unused_a: u32, unused_b: u32,
}

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> a: array<A_ITEM>;
BINDINGS

const BM = BM_VALUEu;
const BN = BN_VALUEu;
const BK = 16u;
const TM = TM_VALUEu;
const COLUMNS = BN / 4u;
const ROWS = BM / TM;
const THREADS = COLUMNS * ROWS;
// Four columns of A at a time; one more than there are keeps rows on other banks.
const PITCH = BK / 4u + 1u;
const A_LOADS = BM * BK / 4u / THREADS;

alias Four = vec4<TILE_NUMBER>;
var<workgroup> a_tile: array<Four, BM * PITCH>;

// Where a row of A begins: of a product its number and nothing else, of a convolution the picture
// and the top left corner under the kernel.
struct Row { picture: u32, top: i32, left: i32, there: bool }

fn row_at(m: u32) -> Row {
    if IS_CONV {
        let x = m % s.out_w;
        let rest = m / s.out_w;
        return Row(
            rest / s.out_h,
            i32(rest % s.out_h * s.stride) - i32(s.pad),
            i32(x * s.stride) - i32(s.pad),
            m < s.m,
        );
    }
    return Row(m, 0, 0, m < s.m);
}

fn a_at(row: Row, k: u32) -> u32 {
    if IS_CONV {
        let tap = k / s.c;
        let up = row.top + i32(tap / s.kernel_w);
        let across = row.left + i32(tap % s.kernel_w);
        let inside = up >= 0 && across >= 0
            && up < i32(s.h << s.double) && across < i32(s.w << s.double);
        if !inside { return NOWHERE; }
        let place = (row.picture * s.h + (u32(up) >> s.double)) * s.w + (u32(across) >> s.double);
        return place * s.c + k % s.c;
    }
    return row.picture * s.k + k;
}

const NOWHERE = 0xffffffffu;

LOADERS

@compute @workgroup_size(COLUMNS, ROWS)
fn main(
    @builtin(workgroup_id) piece: vec3<u32>,
    @builtin(local_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let group = s.at.xyz + piece;
    let first_m = group.y * BM;
    let first_n = (group.z * s.band + group.x) * BN;
    // Beyond the last band; the same for the whole workgroup.
    if first_n >= s.n { return; }
    var rows: array<Row, A_LOADS>;
    for (var i = 0u; i < A_LOADS; i++) {
        rows[i] = row_at(first_m + (thread + i * THREADS) / (BK / 4u));
    }
    var sums: array<vec4<f32>, TM>;
    for (var i = 0u; i < TM; i++) { sums[i] = vec4<f32>(0.0); }
    BEFORE

    for (var k = 0u; k < s.k; k += BK) {
        for (var i = 0u; i < A_LOADS; i++) {
            let at = thread + i * THREADS;
            let quad = at % (BK / 4u);
            let v = load_a(rows[i], k + quad * 4u);
            LOOKED_AT
            a_tile[at / (BK / 4u) * PITCH + quad] = Four(v);
        }
        STAGE_B
        workgroupBarrier();
        SOME_BEGIN
        for (var quad = 0u; quad < BK / 4u; quad++) {
            let b0 = b_row(quad * 4u, id.x);
            let b1 = b_row(quad * 4u + 1u, id.x);
            let b2 = b_row(quad * 4u + 2u, id.x);
            let b3 = b_row(quad * 4u + 3u, id.x);
            for (var i = 0u; i < TM; i++) {
                let v = a_tile[(id.y * TM + i) * PITCH + quad];
                SOME[i] += v.x * b0 + v.y * b1 + v.z * b2 + v.w * b3;
            }
        }
        SOME_END
        workgroupBarrier();
    }

    let n = first_n + id.x * 4u;
    var offset = vec4<f32>(0.0);
    if s.has_bias != 0u {
        for (var j = 0u; j < 4u; j++) {
            if n + j < s.n { offset[j] = bias[n + j]; }
        }
    }
    for (var i = 0u; i < TM; i++) {
        let m = first_m + id.y * TM + i;
        MENDED
        if m < s.m && n < s.n {
            store(m, n, sums[i] + offset);
        }
    }
}
