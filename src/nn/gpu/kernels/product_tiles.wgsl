// Each invocation makes TM x 4 of the output. With f16 arithmetic the tiles and the sums of BK products
// are f16, all further sums f32; of what overflowed those products are made once more in f32. A piece
// that ends before the last column of A leaves its sums in the output, from where the next one takes
// them.

const TM = TM_VALUEu;
const ROWS = BM / TM;
const THREADS = COLUMNS * ROWS;
// Four columns of A at a time; one more than there are keeps rows on other banks.
const PITCH = BK / 4u + 1u;
const A_LOADS = BM * BK / 4u / THREADS;

alias Four = vec4<TILE_NUMBER>;
var<workgroup> a_tile: array<Four, BM * PITCH>;

TILES
HALVES

@compute @workgroup_size(COLUMNS, ROWS)
fn main(
    @builtin(workgroup_id) piece: vec3<u32>,
    @builtin(local_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
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
    var sums: array<vec4<f32>, TM>;
    let n = first_n + id.x * 4u;
    let own_m = first_m + id.y * TM;
    for (var i = 0u; i < TM; i++) {
        sums[i] = vec4<f32>(0.0);
        if s.step > 0u && own_m + i < s.m && n < s.n { sums[i] = stored(own_m + i, n); }
    }
    BEFORE

    // An invocation stages the same column of every row.
    let own = thread % (BK / 4u) * 4u;
    var column = column_at(s.step * BK + own);
    let last = min(s.k, s.steps * BK);
    for (var k = s.step * BK; k < last; k += BK) {
        for (var i = 0u; i < A_LOADS; i++) {
            let at = thread + i * THREADS;
            let quad = at % (BK / 4u);
            let v = load_a(rows[i], column);
            LOOKED_AT
            a_tile[at / (BK / 4u) * PITCH + quad] = Four(v);
        }
        let row = column.row - own;
        column = further(column, BK);
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

    if last < s.k {
        for (var i = 0u; i < TM; i++) {
            if own_m + i < s.m && n < s.n { store(own_m + i, n, sums[i]); }
        }
        return;
    }
    let offset = offset_at(n);
    for (var i = 0u; i < TM; i++) {
        let m = own_m + i;
        WRITTEN
    }
}
