// A tile has ROWS rows and 32 keys; sixteen invocations share a row.

const TILE = 32u;
const ROWS = ROWS_VALUEu;
const FOURS = ROWS / 4u;
const THREADS = 4u * ROWS;
// Quads of four columns: of a head that are multiplied at a time, and of the output that are summed.
const QUADS = QUADS_VALUEu;
const PITCH = QUADS + 1u;
const PARTS = PARTS_VALUEu;
const OUT_PARTS = OUT_PARTS_VALUEu;
const SCORE_PITCH = 33u;
const SOME_PITCH = 17u;

var<workgroup> staged: array<vec4<f32>, STAGED_VALUEu>;
var<workgroup> weights: array<f32, ROWS * SCORE_PITCH>;
var<workgroup> largest: array<f32, ROWS * SOME_PITCH>;

// The sum of what the sixteen invocations of a row have.
fn whole(row: u32, across: u32, part: f32) -> f32 {
    workgroupBarrier();
    largest[row * SOME_PITCH + across] = part;
    workgroupBarrier();
    var sum = 0.0;
    for (var j = 0u; j < 16u; j++) { sum += largest[row * SOME_PITCH + j]; }
    return sum;
}

@compute @workgroup_size(16, FOURS)
fn main(
    @builtin(workgroup_id) piece: vec3<u32>,
    @builtin(local_invocation_id) id: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let group = s.at.xyz + piece;
    let together = s.heads / s.key_heads;
    let all = s.queries * together;
    let first = group.x * ROWS;
    let key_head = group.y;
    let batch = group.z;
    let row = id.y * 4u;

    var found: array<array<vec4<f32>, 4>, OUT_PARTS>;
    for (var part = 0u; part < OUT_PARTS; part++) {
        for (var i = 0u; i < 4u; i++) { found[part][i] = vec4<f32>(0.0); }
    }
    var most = vec4<f32>(LEAST);
    var total = vec4<f32>(0.0);
    SINKS
    if s.step > 0u {
        for (var i = 0u; i < 4u; i++) {
            let one = first + row + i;
            if one < all {
                let query = batch * s.queries + one / together;
                let head = key_head * together + one % together;
                let before = kept(query * s.heads + head);
                most[i] = before.x;
                total[i] = select(0.0, before.y, id.x == 0u);
                for (var part = 0u; part < OUT_PARTS; part++) {
                    found[part][i] = stored(query, head, part * 16u + id.x);
                }
            }
        }
    }

    let begin = max(from_key(first / together) / TILE * TILE, s.step * s.block);
    let end = min(to_key((min(first + ROWS, all) - 1u) / together), s.steps * s.block);
    for (var key = begin; key < end; key += TILE) {
        var scores: array<vec2<f32>, 4>;
        for (var i = 0u; i < 4u; i++) { scores[i] = vec2<f32>(0.0); }
        for (var part = 0u; part < PARTS; part++) {
            for (var at = thread; at < ROWS * QUADS; at += THREADS) {
                let one = first + at / QUADS;
                staged[at / QUADS * PITCH + at % QUADS] = load_q(
                    batch * s.queries + one / together, one < all,
                    key_head * together + one % together, part * QUADS + at % QUADS);
            }
            for (var at = thread; at < TILE * QUADS; at += THREADS) {
                let r = at / QUADS;
                staged[(ROWS + r) * PITCH + at % QUADS] = load_k(
                    batch * s.keys + key + r, key + r < s.keys, key_head, part * QUADS + at % QUADS);
            }
            workgroupBarrier();
            for (var quad = 0u; quad < QUADS; quad++) {
                let k0 = staged[(ROWS + id.x) * PITCH + quad];
                let k1 = staged[(ROWS + id.x + 16u) * PITCH + quad];
                for (var i = 0u; i < 4u; i++) {
                    let one = staged[(row + i) * PITCH + quad];
                    scores[i] += vec2<f32>(dot(one, k0), dot(one, k1));
                }
            }
            workgroupBarrier();
        }
        for (var i = 0u; i < 4u; i++) {
            let query = (first + row + i) / together;
            scores[i] = vec2<f32>(
                seen(batch, query, key + id.x, capped(scores[i].x * s.scale)),
                seen(batch, query, key + id.x + 16u, capped(scores[i].y * s.scale)),
            );
            largest[(row + i) * SOME_PITCH + id.x] = max(scores[i].x, scores[i].y);
        }
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            var now = most[i];
            for (var j = 0u; j < 16u; j++) {
                now = max(now, largest[(row + i) * SOME_PITCH + j]);
            }
            let shrunk = exp(most[i] - now);
            most[i] = now;
            // A query that has seen nothing yet gives hidden keys no weight either.
            let p = select(vec2<f32>(0.0), exp(scores[i] - now), scores[i] > vec2<f32>(LEAST));
            total[i] = total[i] * shrunk + p.x + p.y;
            weights[(row + i) * SCORE_PITCH + id.x] = p.x;
            weights[(row + i) * SCORE_PITCH + id.x + 16u] = p.y;
            for (var part = 0u; part < OUT_PARTS; part++) { found[part][i] *= shrunk; }
        }
        for (var part = 0u; part < OUT_PARTS; part++) {
            for (var at = thread; at < TILE * 16u; at += THREADS) {
                let r = at / 16u;
                staged[at] = load_v(
                    batch * s.keys + key + r, key + r < s.keys, key_head, part * 16u + at % 16u);
            }
            workgroupBarrier();
            for (var j = 0u; j < TILE; j++) {
                let value = staged[j * 16u + id.x];
                for (var i = 0u; i < 4u; i++) {
                    found[part][i] += weights[(row + i) * SCORE_PITCH + j] * value;
                }
            }
            workgroupBarrier();
        }
        // Steps end alike whether a piece ends there or not, so that nothing depends on it.
        if (key + TILE) % s.block == 0u {
            for (var i = 0u; i < 4u; i++) {
                let sum = whole(row + i, id.x, total[i]);
                total[i] = select(0.0, sum, id.x == 0u);
            }
        }
    }

    let pauses = s.steps * s.block < s.keys;
    for (var i = 0u; i < 4u; i++) {
        let one = first + row + i;
        var sum = whole(row + i, id.x, total[i]);
        if pauses {
            let at = (batch * s.queries + one / together) * s.heads
                + key_head * together + one % together;
            if one < all && id.x == 0u { keep(at, vec2<f32>(most[i], sum)); }
            sum = 1.0;
        }
        if one >= all || sum == 0.0 { sum = 1.0; }
        for (var part = 0u; part < OUT_PARTS; part++) {
            if one < all {
                store(batch * s.queries + one / together, key_head * together + one % together,
                    part * 16u + id.x, found[part][i] / sum);
            }
        }
    }
}
