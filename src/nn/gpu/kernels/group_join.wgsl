// Group norm, second: from the parts of a group what each of its channels is multiplied by and
// what is added (Chan's way of joining variances).

struct Sizes { at: vec4<u32>, places: u32, channels: u32, slices: u32, groups: u32, eps: f32, a: u32, b: u32, c: u32 }

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> parts: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> gamma: array<f32>;
@group(0) @binding(3) var<storage, read> beta: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<vec2<f32>>;

const THREADS = 64u;
var<workgroup> counts: array<f32, THREADS>;
var<workgroup> means: array<f32, THREADS>;
var<workgroup> squares: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) piece: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let number = s.at.x + piece.x;
    let sample = s.at.y + piece.y;
    let width = s.channels / s.groups;
    let each = (s.places + s.slices - 1u) / s.slices;
    var count = 0.0;
    var mean = 0.0;
    var square = 0.0;
    for (var i = thread; i < width * s.slices; i += THREADS) {
        let slice = i / width;
        let first = min(slice * each, s.places);
        let n = f32(min(first + each, s.places) - first);
        if n > 0.0 {
            let part = parts[(sample * s.slices + slice) * s.channels + number * width + i % width];
            let off = part.x - mean;
            square += part.y + off * off * count * n / (count + n);
            mean += off * n / (count + n);
            count += n;
        }
    }
    counts[thread] = count;
    means[thread] = mean;
    squares[thread] = square;
    workgroupBarrier();
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        if thread < half {
            let n = counts[thread + half];
            let m = counts[thread];
            if n > 0.0 {
                let off = means[thread + half] - means[thread];
                squares[thread] += squares[thread + half] + off * off * m * n / (m + n);
                means[thread] += off * n / (m + n);
                counts[thread] = m + n;
            }
        }
        workgroupBarrier();
    }
    let scale = inverseSqrt(squares[0] / counts[0] + s.eps);
    for (var i = thread; i < width; i += THREADS) {
        let channel = number * width + i;
        let by = gamma[channel] * scale;
        y[sample * s.channels + channel] = vec2<f32>(by, beta[channel] - means[0] * by);
    }
}
