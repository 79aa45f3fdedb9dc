// The likeliest KEEP of each 1024 tokens in their order: by logit, and of equals by number. What
// comes out are pairs of a token's number and of a number that is the larger the larger its logit
// is; further rounds sort these again, until one workgroup has all that are left.

struct Sizes { at: vec4<u32>, count: u32, a: u32, b: u32, c: u32 }

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> x: array<ITEM>;
@group(0) @binding(2) var<storage, read_write> y: array<vec2<u32>>;

const SIZE = 1024u;
const THREADS = 256u;
const KEEP = KEEP_VALUEu;
var<workgroup> numbers: array<u32, SIZE>;
var<workgroup> ranks: array<u32, SIZE>;

// Larger for larger logits, as whole numbers; what is no number ranks last.
fn rank(logit: f32) -> u32 {
    var bits = bitcast<u32>(logit);
    if (bits & 0x7fffffffu) > 0x7f800000u { return 0u; }
    if bits == 0x80000000u { bits = 0u; }
    return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

fn pair(i: u32) -> vec2<u32> { return PAIR; }

fn comes_before(a: u32, b: u32) -> bool {
    return ranks[a] > ranks[b] || (ranks[a] == ranks[b] && numbers[a] < numbers[b]);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) piece: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let group = s.at.x + piece.x;
    for (var i = thread; i < SIZE; i += THREADS) {
        var one = vec2<u32>(0xffffffffu, 0u);
        if group * SIZE + i < s.count { one = pair(group * SIZE + i); }
        numbers[i] = one.x;
        ranks[i] = one.y;
    }
    workgroupBarrier();
    for (var block = 2u; block <= SIZE; block *= 2u) {
        for (var apart = block / 2u; apart > 0u; apart /= 2u) {
            for (var i = thread; i < SIZE / 2u; i += THREADS) {
                let low = 2u * i - (i & (apart - 1u));
                let high = low + apart;
                if comes_before(high, low) == ((low & block) == 0u) {
                    let one = vec2<u32>(numbers[low], ranks[low]);
                    numbers[low] = numbers[high];
                    ranks[low] = ranks[high];
                    numbers[high] = one.x;
                    ranks[high] = one.y;
                }
            }
            workgroupBarrier();
        }
    }
    for (var i = thread; i < KEEP; i += THREADS) {
        y[group * KEEP + i] = vec2<u32>(numbers[i], ranks[i]);
    }
}
