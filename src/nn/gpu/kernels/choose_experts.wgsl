// The best experts of each token and their shares: the softmax of the best ones' logits. Where two
// are alike, the first is taken.

struct Sizes { at: vec4<u32>, tokens: u32, experts: u32, used: u32, unused: u32 }

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
// Numbers of experts, `tokens` x `used`, and behind them their shares.
@group(0) @binding(2) var<storage, read_write> y: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) piece: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let token = (s.at.x + piece.x) * 64u + thread;
    if token >= s.tokens { return; }
    let base = token * s.experts;
    let shares = s.tokens * s.used;
    var above = 3.0e38;
    var after = 0u;
    var largest = 0.0;
    var total = 0.0;
    for (var slot = 0u; slot < s.used; slot++) {
        // The largest that comes behind the one before, by its logit and then by its number.
        var best = -3.0e38;
        var number = 0u;
        var found = false;
        for (var i = 0u; i < s.experts; i++) {
            let v = logits[base + i];
            let behind = slot == 0u || v < above || (v == above && i > after);
            if behind && (!found || v > best) {
                best = v;
                number = i;
                found = true;
            }
        }
        if slot == 0u { largest = best; }
        above = best;
        after = number;
        let share = exp(best - largest);
        total += share;
        y[token * s.used + slot] = number;
        y[shares + token * s.used + slot] = bitcast<u32>(share);
    }
    for (var slot = 0u; slot < s.used; slot++) {
        let at = shares + token * s.used + slot;
        y[at] = bitcast<u32>(bitcast<f32>(y[at]) / total);
    }
}
