// Attention without the matrix of scores: tiles of rows against tiles of keys, with a running
// maximum and sum for each row (online softmax, as in arXiv 2205.14135). A row is the query of one
// head; heads that share keys and values are rows of one tile, so that these are read once. A piece
// that ends before the last key leaves sums in the output, maximum and total behind it, from where the
// next one takes them.

struct Sizes {
    // The first workgroup of this piece of the run.
    at: vec4<u32>,
    queries: u32, keys: u32, heads: u32, key_heads: u32,
    // Keys of a step, after which a piece may end.
    width: u32, window: u32, picture: u32, block: u32,
    // Where maximum and total of the first row lie in the output.
    scale: f32, cap: f32, behind: u32, unused: u32,
    // The first step of this piece, and the first of the next.
    unused_a: u32, unused_b: u32, step: u32, steps: u32,
}

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> q: array<ITEM>;
@group(0) @binding(2) var<storage, read> k: array<ITEM>;
@group(0) @binding(3) var<storage, read> v: array<ITEM>;
MORE_BINDING
@group(0) @binding(Y_BINDING) var<storage, read_write> y: array<ITEM>;

const LEAST = -1e30;

LOADERS

// The keys that a query sees, without masks: from the first on, up to the last.
fn from_key(query: u32) -> u32 {
    if WINDOWED {
        let at = query + s.keys - s.queries + 1u;
        return select(0u, at - s.window, at > s.window);
    }
    return 0u;
}

fn to_key(query: u32) -> u32 {
    if CAUSAL { return min(s.keys, max(query + s.keys - s.queries + 1u, s.picture)); }
    return s.keys;
}

MAIN
