// An invocation has EACH rows to itself: their queries, running maxima, sums and what is found for
// them, so that none waits for another's. Keys and values are staged for all, and are multiplied four
// at a time.

const TILE = TILE_VALUEu;
const THREADS = THREADS_VALUEu;
const EACH = EACH_VALUEu;
// Quads of four columns of a head.
const QUADS = QUADS_VALUEu;

var<workgroup> keys: array<vec4<f32>, TILE * QUADS>;
var<workgroup> values: array<vec4<f32>, TILE * QUADS>;

// A query that has seen nothing yet gives hidden keys no weight either.
fn weight(scores: vec4<f32>, most: f32) -> vec4<f32> {
    return select(vec4<f32>(0.0), exp(scores - most), scores > vec4<f32>(LEAST));
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) piece: vec3<u32>,
    @builtin(local_invocation_index) thread: u32,
) {
    let group = s.at.xyz + piece;
    let together = s.heads / s.key_heads;
    let all = s.queries * together;
    let first = group.x * THREADS * EACH;
    let key_head = group.y;
    let batch = group.z;
    BEGUN

    let begin = max(from_key(first / together) / TILE * TILE, s.step * s.block);
    let last = (min(first + THREADS * EACH, all) - 1u) / together;
    let end = min(to_key(last), s.steps * s.block);
    for (var key = begin; key < end; key += TILE) {
        for (var at = thread; at < TILE * QUADS; at += THREADS) {
            let r = at / QUADS;
            let there = key + r < s.keys;
            keys[at] = load_k(batch * s.keys + key + r, there, key_head, at % QUADS);
            values[at] = load_v(batch * s.keys + key + r, there, key_head, at % QUADS);
        }
        workgroupBarrier();
        for (var j = 0u; j < TILE && key + j < end; j += 4u) {
            let at = j * QUADS;
            FOUR_KEYS
        }
        workgroupBarrier();
    }

    let pauses = s.steps * s.block < s.keys;
    WRITTEN
}
