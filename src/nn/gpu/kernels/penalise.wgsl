// Makes some tokens less likely, or impossible, where their logits lie.

struct Sizes { at: vec4<u32>, count: u32, vocabulary: u32, forbidden: u32, penalty: f32 }

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> numbers: array<f32>;
@group(0) @binding(2) var<storage, read_write> logits: array<f32>;

@compute @workgroup_size(THREADS_VALUE)
fn main(@builtin(workgroup_id) piece: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (s.at.x + piece.x + (s.at.y + piece.y) * s.at.w) * THREADS_VALUEu + thread;
    if i >= s.count { return; }
    let token = u32(numbers[i]);
    if token >= s.vocabulary { return; }
    let logit = logits[token];
    let penalised = select(logit * s.penalty, logit / s.penalty, logit > 0.0);
    // `forbidden` are the bits of minus infinity, for which WGSL has no word.
    logits[token] = select(penalised, bitcast<f32>(s.forbidden), s.forbidden != 0u);
}
