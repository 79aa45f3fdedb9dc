// By cooperative matrices of SIDE x SIDE numbers: f16 on both sides, sums in f32. The output is cut
// into UNITS parts of DOWN x ACROSS matrices, one for each subgroup; where subgroups are larger than
// they may be, some take several, one after the other. What is beyond f16 on the left is added in f32
// behind each BLOCK of columns, where a piece may end too: its sums are left in the output, from where
// the next one takes them.

const SIDE = SIDE_VALUEu;
const THREADS = THREADS_VALUEu;
const UNITS = UNITS_VALUEu;
const DOWN = DOWN_VALUEu;
const ACROSS = ACROSS_VALUEu;
const TOGETHER = TOGETHER_VALUEu;
const BLOCK = BLOCK_VALUEu;
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
var<workgroup> beyond: u32;

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
    // Beyond the last band nothing is added up. No branch leads around matrices where naga does not see
    // that a whole workgroup takes it, only the end of a loop.
    let outside = first_m >= s.m || first_n >= s.n;
    var rows: array<Row, A_LOADS>;
    for (var i = 0u; i < A_LOADS; i++) {
        rows[i] = row_at(first_m + (thread + i * THREADS) / (BK / 4u));
    }
    let own = thread % (BK / 4u) * 4u;
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
        if s.step > 0u {
            TAKEN_UP
        }
        // An invocation stages the same column of every row.
        var column = column_at(s.step * BLOCK + own);
        let last = select(min(s.k, s.steps * BLOCK), 0u, outside);
        for (var k = s.step * BLOCK; k < last; k += BK) {
            for (var i = 0u; i < A_LOADS; i++) {
                let at = thread + i * THREADS;
                let quad = at % (BK / 4u) * 4u;
                let v = load_a(rows[i], column);
                if any(abs(v) > vec4<f32>(LARGEST)) { atomicStore(&spilled, 1u); }
                let held = clamp(v, vec4<f32>(-LARGEST), vec4<f32>(LARGEST));
                for (var j = 0u; j < 4u; j++) {
                    a_tile[at / (BK / 4u) * A_PITCH + quad + j] = f16(held[j]);
                }
            }
            let row = column.row - own;
            column = further(column, BK);
            for (var i = 0u; i < B_LOADS; i++) {
                let at = thread + i * THREADS;
                let quad = at % COLUMNS * 4u;
                let v = load_b(row + at / COLUMNS, first_n + quad);
                for (var j = 0u; j < 4u; j++) {
                    b_tile[at / COLUMNS * B_PITCH + quad + j] = f16(v[j]);
                }
            }
            workgroupBarrier();
            for (var step = 0u; step < BK; step += SIDE) {
                PRODUCTS
            }
            workgroupBarrier();
            loop {
                if (k + BK) % BLOCK != 0u && k + BK < s.k { break; }
                if thread == 0u {
                    beyond = atomicLoad(&spilled);
                    atomicStore(&spilled, 0u);
                }
                let mends = workgroupUniformLoad(&beyond);
                if mends == 0u { break; }
                let from_k = k / BLOCK * BLOCK;
                // Only one of the subgroups that make the same part.
                let owned = done + subgroup < UNITS;
                MENDED
                break;
            }
        }
        if last < s.k {
            LEFT
        } else {
            STORES
        }
    }
}

// Four numbers of the output, from workgroup memory.
fn four_at(unit: u32, quad: u32) -> vec4<f32> {
    let at = unit * SIDE * SIDE + quad * 4u;
    return vec4<f32>(sum_tile[at], sum_tile[at + 1u], sum_tile[at + 2u], sum_tile[at + 3u]);
}

fn put_four(unit: u32, quad: u32, v: vec4<f32>) {
    let at = unit * SIDE * SIDE + quad * 4u;
    for (var j = 0u; j < 4u; j++) { sum_tile[at + j] = v[j]; }
}

// A matrix of the output: TOGETHER fours at a time become one.
fn store_sums(unit: u32, first_m: u32, first_n: u32, lane: u32, lanes: u32) {
    for (var quad = lane * TOGETHER; quad < SIDE * SIDE / 4u; quad += lanes * TOGETHER) {
        let m = first_m + quad / (SIDE / 4u);
        let n = first_n + quad % (SIDE / 4u) * 4u;
        if m < s.m && n < s.n {
            let v = four_at(unit, quad) + offset_at(n);
            WRITTEN
        }
    }
}

// A matrix of sums that another piece goes on with.
fn leave_sums(unit: u32, first_m: u32, first_n: u32, lane: u32, lanes: u32) {
    for (var quad = lane; quad < SIDE * SIDE / 4u; quad += lanes) {
        let m = first_m + quad / (SIDE / 4u);
        let n = first_n + quad % (SIDE / 4u) * 4u;
        if m < s.m && n < s.n { store(m, n, four_at(unit, quad)); }
    }
}

fn take_sums(unit: u32, first_m: u32, first_n: u32, lane: u32, lanes: u32) {
    for (var quad = lane; quad < SIDE * SIDE / 4u; quad += lanes) {
        let m = first_m + quad / (SIDE / 4u);
        let n = first_n + quad % (SIDE / 4u) * 4u;
        var v = vec4<f32>(0.0);
        if m < s.m && n < s.n { v = stored(m, n); }
        put_four(unit, quad, v);
    }
}

// Adds to a matrix of sums what is beyond f16 from one column on, up to another.
fn mend_sums(
    unit: u32, first_m: u32, first_n: u32, lane: u32, lanes: u32, from_k: u32, to_k: u32,
) {
    for (var quad = lane; quad < SIDE * SIDE / 4u; quad += lanes) {
        let row = row_at(first_m + quad / (SIDE / 4u));
        let n = first_n + quad % (SIDE / 4u) * 4u;
        var column = column_at(from_k);
        var sum = four_at(unit, quad);
        for (var k = from_k; k < to_k; k += 4u) {
            let v = load_a(row, column);
            let over = v - clamp(v, vec4<f32>(-LARGEST), vec4<f32>(LARGEST));
            let at = column.row;
            if any(over != vec4<f32>(0.0)) { sum += over.x * load_b(at, n) + over.y * load_b(at + 1u, n)
                + over.z * load_b(at + 2u, n) + over.w * load_b(at + 3u, n); }
            column = further(column, 4u);
        }
        put_four(unit, quad, sum);
    }
}
