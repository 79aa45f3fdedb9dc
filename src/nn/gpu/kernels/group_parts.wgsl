// Group norm, first: mean and squares about it of one channel over a slice of places.

struct Sizes { at: vec4<u32>, count: u32, places: u32, channels: u32, slices: u32 }

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> parts: array<vec2<f32>>;

@compute @workgroup_size(THREADS_VALUE)
fn main(@builtin(workgroup_id) piece: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let i = (s.at.x + piece.x + (s.at.y + piece.y) * s.at.w) * THREADS_VALUEu + thread;
    if i >= s.count { return; }
    let channel = i % s.channels;
    let slice = i / s.channels % s.slices;
    let sample = i / s.channels / s.slices;
    let each = (s.places + s.slices - 1u) / s.slices;
    let first = min(slice * each, s.places);
    let last = min(first + each, s.places);
    let base = sample * s.places * s.channels + channel;
    if first == last {
        parts[i] = vec2<f32>(0.0);
        return;
    }
    // Sums about the first value lose nothing where the mean is large.
    let about = x[base + first * s.channels];
    var sum = 0.0;
    var squares = 0.0;
    for (var place = first; place < last; place++) {
        let off = x[base + place * s.channels] - about;
        sum += off;
        squares += off * off;
    }
    let n = f32(last - first);
    parts[i] = vec2<f32>(about + sum / n, max(squares - sum * sum / n, 0.0));
}
