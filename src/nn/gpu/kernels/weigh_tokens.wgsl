// What all tokens weigh beside the likeliest: sums over 4096 of them each, behind a copy of the
// candidates.

struct Sizes { at: vec4<u32>, count: u32, temperature: f32, least: f32, unused: u32 }

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> candidates: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;

const SIZE = 4096u;
const THREADS = 256u;
const KEEP = KEEP_VALUEu;
var<workgroup> parts: array<f32, THREADS>;

fn logit(rank: u32) -> f32 {
    return bitcast<f32>(select(~rank, rank & 0x7fffffffu, rank >= 0x80000000u));
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) piece: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let group = s.at.x + piece.x;
    let largest = logit(candidates[0].y);
    var own = 0.0;
    for (var i = thread; i < SIZE; i += THREADS) {
        if group * SIZE + i < s.count {
            let exponent = (logits[group * SIZE + i] - largest) / s.temperature;
            let weight = exp(exponent);
            if exponent > -16.0 && weight >= s.least { own += weight; }
        }
    }
    parts[thread] = own;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half { parts[thread] += parts[thread + half]; }
        workgroupBarrier();
    }
    if thread == 0u { y[2u * KEEP + group] = bitcast<u32>(parts[0]); }
    if group == 0u && thread < KEEP {
        let one = candidates[thread];
        y[2u * thread] = one.x;
        y[2u * thread + 1u] = bitcast<u32>(logit(one.y));
    }
}
