// By cooperative matrices of SIDE x SIDE numbers: f16 on both sides, sums in f32. The output is cut
// into UNITS parts of DOWN x ACROSS matrices, one for each subgroup; where subgroups are larger than
// they may be, some take several, one after the other.

const SIDE = SIDE_VALUEu;
const THREADS = THREADS_VALUEu;
const UNITS = UNITS_VALUEu;
const DOWN = DOWN_VALUEu;
const ACROSS = ACROSS_VALUEu;
const TOGETHER = TOGETHER_VALUEu;
const UNITS_ACROSS = BN / (ACROSS * SIDE);
const A_LOADS = BM * BK / 4u / THREADS;
const B_LOADS = BK * COLUMNS / THREADS;
// Eight more than there are keep rows on other banks.
const A_PITCH = BK + 8u;
const B_PITCH = BN + 8u;

alias Left = MATRIX<f16, A>;
alias Right = MATRIX<f16, B>;
alias Sum = MATRIX<f32, C>;

var<workgroup> a_tile: array<f16, BM * A_PITCH>;
var<workgroup> b_tile: array<f16, BK * B_PITCH>;
var<workgroup> sum_tile: array<f32, UNITS * SIDE * SIDE>;
var<workgroup> working: u32;

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) piece: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
    @builtin(subgroup_invocation_id) lane: u32,
    @builtin(subgroup_size) lanes: u32,
) {
    let first = tile_at(s.at.xyz + piece);
    let first_m = first.x;
    let first_n = first.y;
    // Beyond the last band; the same for the whole workgroup.
    if first_m >= s.m || first_n >= s.n { return; }
    var rows: array<Row, A_LOADS>;
    for (var i = 0u; i < A_LOADS; i++) {
        rows[i] = row_at(first_m + (thread + i * THREADS) / (BK / 4u));
    }
    if thread == 0u {
        working = subgroups;
        atomicStore(&spilled, 0u);
    }
    let together = workgroupUniformLoad(&working);
    for (var done = 0u; done < UNITS; done += together) {
        // Subgroups beyond the last part do it once more.
        let unit = min(done + subgroup, UNITS - 1u);
        let down = unit / UNITS_ACROSS * DOWN * SIDE;
        let across = unit % UNITS_ACROSS * ACROSS * SIDE;
        NO_SUMS
        for (var k = 0u; k < s.k; k += BK) {
            for (var i = 0u; i < A_LOADS; i++) {
                let at = thread + i * THREADS;
                let quad = at % (BK / 4u) * 4u;
                let v = load_a(rows[i], k + quad);
                if any(abs(v) > vec4<f32>(65504.0)) { atomicStore(&spilled, 1u); }
                for (var j = 0u; j < 4u; j++) {
                    a_tile[at / (BK / 4u) * A_PITCH + quad + j] = f16(v[j]);
                }
            }
            for (var i = 0u; i < B_LOADS; i++) {
                let at = thread + i * THREADS;
                let quad = at % COLUMNS * 4u;
                let v = load_b(k + at / COLUMNS, first_n + quad);
                for (var j = 0u; j < 4u; j++) {
                    b_tile[at / COLUMNS * B_PITCH + quad + j] = f16(v[j]);
                }
            }
            workgroupBarrier();
            for (var step = 0u; step < BK; step += SIDE) {
                PRODUCTS
            }
            workgroupBarrier();
        }
        STORES
    }
}

// Four numbers of the output, from workgroup memory.
fn four_at(unit: u32, quad: u32, m: u32, n: u32) -> vec4<f32> {
    let at = unit * SIDE * SIDE + quad * 4u;
    var sum = vec4<f32>(sum_tile[at], sum_tile[at + 1u], sum_tile[at + 2u], sum_tile[at + 3u]);
    if atomicLoad(&spilled) != 0u { sum = exactly(m, n); }
    return sum + offset_at(n);
}

// A matrix of the output: TOGETHER fours at a time become one.
fn store_sums(unit: u32, first_m: u32, first_n: u32, lane: u32, lanes: u32) {
    for (var quad = lane * TOGETHER; quad < SIDE * SIDE / 4u; quad += lanes * TOGETHER) {
        let m = first_m + quad / (SIDE / 4u);
        let n = first_n + quad % (SIDE / 4u) * 4u;
        if m < s.m && n < s.n {
            let v = four_at(unit, quad, m, n);
            WRITTEN
        }
    }
}
