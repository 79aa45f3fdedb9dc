//! Attention's kernels in WGSL, put together for a variant.

use super::device::Ways;

/// Keys of a tile.
pub(super) const KEYS: usize = 32;
/// The widest heads whose rows invocations have to themselves.
const WIDEST_ROW: usize = 128;

/// Which invocations have a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Sixteen of a workgroup for so many rows. All of these add up in the same order.
    Tiles(usize),
    /// One, which has as many as `each`. All of these add up in the same order.
    Rows { invocations: usize, each: usize },
}

/// The first is taken where nothing is measured.
pub(super) const WAYS: [Way; 8] = [
    Way::Tiles(32),
    Way::Tiles(64),
    Way::Tiles(16),
    own_rows(64, 1),
    own_rows(32, 1),
    own_rows(32, 2),
    own_rows(32, 4),
    own_rows(32, 8),
];

const fn own_rows(invocations: usize, each: usize) -> Way {
    Way::Rows { invocations, each }
}

impl Way {
    pub(super) fn name(self) -> String {
        match self {
            Way::Tiles(rows) => format!("{rows} rows"),
            Way::Rows { invocations, each } => {
                format!("{invocations} with {each} rows of their own")
            }
        }
    }

    /// Rows of a workgroup.
    pub(super) fn rows(self) -> usize {
        match self {
            Way::Tiles(rows) => rows,
            Way::Rows { invocations, each } => invocations * each,
        }
    }

    pub(super) fn invocations(self) -> usize {
        match self {
            Way::Tiles(rows) => 4 * rows,
            Way::Rows { invocations, .. } => invocations,
        }
    }

    /// The part of `flops` for 32 rows after which a workgroup may pause: what tiles add up depends
    /// on it, and is the same for all of them.
    pub(super) fn share_of(self, flops: usize) -> usize {
        match self {
            Way::Tiles(_) => flops,
            Way::Rows { .. } => flops * 32 / self.rows(),
        }
    }

    /// Whether a GPU allows it for heads of that width, where an invocation is to hold no more than
    /// so many numbers.
    pub(super) fn fits(self, width: usize, ways: Ways, numbers: usize) -> bool {
        let quads = width.div_ceil(4);
        let bytes = match self {
            Way::Tiles(rows) => 16 * staged(rows, quads) + 4 * rows * (33 + 17),
            Way::Rows { .. } => 32 * quads * keys_of_rows(quads),
        };
        let held = match self {
            Way::Tiles(_) => true,
            // Of each row the query and what is found for it.
            Way::Rows { each, .. } => width <= WIDEST_ROW && each * 8 * quads <= numbers,
        };
        let every_gpu = self == WAYS[0];
        let allowed =
            self.invocations() <= ways.invocations as usize && bytes <= ways.shared as usize;
        held && (every_gpu || allowed)
    }
}

/// Keys of a tile where rows belong to invocations: some 8 KB with their values.
fn keys_of_rows(quads: usize) -> usize {
    if quads <= 16 { 16 } else { 8 }
}

/// Quads of columns of a head that are multiplied at a time in tiles, and how often.
fn quads_and_parts(all: usize) -> (usize, usize) {
    let parts = all.div_ceil(8);
    (all.div_ceil(parts), parts)
}

/// Quads in workgroup memory of tiles.
fn staged(rows: usize, quads: usize) -> usize {
    let (each, _) = quads_and_parts(quads);
    ((rows + KEYS) * (each + 1)).max(KEYS * 16)
}

/// What the kernel is made for.
#[derive(Clone, Copy)]
pub(super) struct Variant {
    pub width: usize,
    pub way: Way,
    /// Whether rows are read in fours.
    pub quads: bool,
    pub causal: bool,
    pub windowed: bool,
    pub capped: bool,
    pub sinks: bool,
    pub masked: bool,
}

impl Variant {
    pub(super) fn name(&self) -> String {
        format!("{} by {}", self.kind(), self.way.name())
    }

    /// What is measured by itself.
    pub(super) fn kind(&self) -> String {
        let mut name = format!("attention {}", self.width);
        for (there, what) in [
            (self.quads, " in fours"),
            (self.causal, " causal"),
            (self.windowed, " windowed"),
            (self.capped, " capped"),
            (self.sinks, " with sinks"),
            (self.masked, " masked"),
        ] {
            if there {
                name.push_str(what);
            }
        }
        name
    }

    pub(super) fn source(&self) -> String {
        let quads = self.quads;
        let load = |name: &str| match quads {
            true => format!(
                "fn load_{name}(row: u32, there: bool, head: u32, quad: u32) -> vec4<f32> {{
                if !there || quad >= s.width / 4u {{ return vec4<f32>(0.0); }}
                return {name}[(row * {0} + head) * (s.width / 4u) + quad];
            }}\n",
                heads_of(name)
            ),
            false => format!(
                "fn load_{name}(row: u32, there: bool, head: u32, quad: u32) -> vec4<f32> {{
                var four = vec4<f32>(0.0);
                for (var j = 0u; j < 4u; j++) {{
                    if there && quad * 4u + j < s.width {{
                        four[j] = {name}[(row * {0} + head) * s.width + quad * 4u + j];
                    }}
                }}
                return four;
            }}\n",
                heads_of(name)
            ),
        };
        let store = match quads {
            true => {
                "fn store(row: u32, head: u32, quad: u32, four: vec4<f32>) {
                if quad < s.width / 4u { y[(row * s.heads + head) * (s.width / 4u) + quad] = four; }
            }
            fn stored(row: u32, head: u32, quad: u32) -> vec4<f32> {
                if quad >= s.width / 4u { return vec4<f32>(0.0); }
                return y[(row * s.heads + head) * (s.width / 4u) + quad];
            }
            fn keep(row: u32, state: vec2<f32>) { y[s.behind + row] = vec4<f32>(state, 0.0, 0.0); }
            fn kept(row: u32) -> vec2<f32> { return y[s.behind + row].xy; }\n"
            }
            false => {
                "fn store(row: u32, head: u32, quad: u32, four: vec4<f32>) {
                for (var j = 0u; j < 4u; j++) {
                    if quad * 4u + j < s.width {
                        y[(row * s.heads + head) * s.width + quad * 4u + j] = four[j];
                    }
                }
            }
            fn stored(row: u32, head: u32, quad: u32) -> vec4<f32> {
                var four = vec4<f32>(0.0);
                for (var j = 0u; j < 4u; j++) {
                    if quad * 4u + j < s.width {
                        four[j] = y[(row * s.heads + head) * s.width + quad * 4u + j];
                    }
                }
                return four;
            }
            fn keep(row: u32, state: vec2<f32>) {
                y[s.behind + 2u * row] = state.x;
                y[s.behind + 2u * row + 1u] = state.y;
            }
            fn kept(row: u32) -> vec2<f32> {
                return vec2<f32>(y[s.behind + 2u * row], y[s.behind + 2u * row + 1u]);
            }\n"
            }
        };
        let condition = match (self.causal, self.masked) {
            (true, _) => "key >= from_key(query) && key < to_key(query)",
            (_, true) => "key < s.keys && more[batch * s.keys + min(key, s.keys - 1u)] != 0.0",
            (_, false) => "key < s.keys",
        };
        let score = if self.capped {
            "s.cap * tanh(score / s.cap)"
        } else {
            "score"
        };
        let seen = format!(
            "fn seen(batch: u32, query: u32, key: u32, score: f32) -> f32 {{
            return select(LEAST, score, {condition});
        }}
        fn capped(score: f32) -> f32 {{ return {score}; }}\n"
        );
        let more = self.masked || self.sinks;
        let yes = |is: bool| if is { "true" } else { "false" };
        let loaders = [&load("q"), &load("k"), &load("v"), store, &seen].concat();
        include_str!("kernels/attention.wgsl")
            .replace("LOADERS", &loaders)
            .replace(
                "MORE_BINDING",
                match more {
                    true => "@group(0) @binding(4) var<storage, read> more: array<f32>;",
                    false => "",
                },
            )
            .replace("Y_BINDING", if more { "5" } else { "4" })
            .replace("MAIN", &self.main())
            .replace("WINDOWED", yes(self.windowed))
            .replace("CAUSAL", yes(self.causal))
            .replace("ITEM", if quads { "vec4<f32>" } else { "f32" })
    }

    fn main(&self) -> String {
        let all = self.width.div_ceil(4);
        match self.way {
            Way::Tiles(rows) => {
                let (each, parts) = quads_and_parts(all);
                include_str!("kernels/attention_tiles.wgsl")
                    .replace("SINKS", if self.sinks { SINKS_OF_TILES } else { "" })
                    .replace("ROWS_VALUE", &rows.to_string())
                    .replace("STAGED_VALUE", &staged(rows, all).to_string())
                    .replace("OUT_PARTS_VALUE", &self.width.div_ceil(64).to_string())
                    .replace("PARTS_VALUE", &parts.to_string())
                    .replace("QUADS_VALUE", &each.to_string())
            }
            Way::Rows { invocations, each } => {
                let text = OwnRows {
                    each,
                    quads: all,
                    sinks: self.sinks,
                };
                include_str!("kernels/attention_rows.wgsl")
                    .replace("BEGUN", &text.begun())
                    .replace("FOUR_KEYS", &text.four_keys())
                    .replace("WRITTEN", &text.written())
                    .replace("TILE_VALUE", &keys_of_rows(all).to_string())
                    .replace("THREADS_VALUE", &invocations.to_string())
                    .replace("EACH_VALUE", &each.to_string())
                    .replace("QUADS_VALUE", &all.to_string())
            }
        }
    }
}

/// The sink of a row of a tile, whose parts of a sum lie with its invocations.
const SINKS_OF_TILES: &str = "for (var i = 0u; i < 4u; i++) {
        let one = first + row + i;
        if one < all {
            most[i] = more[key_head * together + one % together];
            if id.x == 0u { total[i] = 1.0; }
        }
    }";

/// WGSL for rows that an invocation has to itself: each number of theirs is a variable with a name,
/// since what is looked up in an array by a number does not stay in registers.
struct OwnRows {
    each: usize,
    quads: usize,
    sinks: bool,
}

impl OwnRows {
    fn rows(&self, text: impl Fn(usize) -> String) -> String {
        (0..self.each).map(text).collect()
    }

    fn quads(&self, text: impl Fn(usize) -> String) -> String {
        (0..self.quads).map(text).collect()
    }

    /// Queries, and what earlier pieces found.
    fn begun(&self) -> String {
        self.rows(|r| {
            let queries = self.quads(|quad| {
                format!(
                    "let q_{r}_{quad} = load_q(batch * s.queries + query_{r}, one_{r} < all, head_{r}, {quad}u);
                    var found_{r}_{quad} = vec4<f32>(0.0);\n"
                )
            });
            let sink = match self.sinks {
                true => format!("if one_{r} < all {{ most_{r} = more[head_{r}]; total_{r} = 1.0; }}\n"),
                false => String::new(),
            };
            let before = self.quads(|quad| {
                format!("found_{r}_{quad} = stored(batch * s.queries + query_{r}, head_{r}, {quad}u);\n")
            });
            format!(
                "let one_{r} = first + thread + {r}u * THREADS;
                let query_{r} = one_{r} / together;
                let head_{r} = key_head * together + one_{r} % together;
                let at_{r} = (batch * s.queries + query_{r}) * s.heads + head_{r};
                var most_{r} = LEAST;
                var total_{r} = 0.0;
                {sink}{queries}
                if s.step > 0u && one_{r} < all {{
                    let before = kept(at_{r});
                    most_{r} = before.x;
                    total_{r} = before.y;
                    {before}
                }}\n"
            )
        })
    }

    /// From key `key + j` on, which lies at `at` among those staged.
    fn four_keys(&self) -> String {
        let four = |of: &str, quad: usize| -> String {
            (0..4)
                .map(|i| format!("let {of}_{i} = {of}[at + {i}u * QUADS + {quad}u];\n"))
                .collect()
        };
        let none = self.rows(|r| format!("var score_{r} = vec4<f32>(0.0);\n"));
        let scores = self.quads(|quad| {
            let dots = self.rows(|r| {
                let dot: Vec<String> = (0..4)
                    .map(|i| format!("dot(q_{r}_{quad}, keys_{i})"))
                    .collect();
                format!("score_{r} += vec4<f32>({});\n", dot.join(", "))
            });
            format!("{{ {}{dots} }}\n", four("keys", quad))
        });
        let weights = self.rows(|r| {
            let seen: Vec<String> = ["x", "y", "z", "w"]
                .iter()
                .zip(0..)
                .map(|(part, i)| {
                    format!("seen(batch, query_{r}, key + j + {i}u, capped(score_{r}.{part} * s.scale))")
                })
                .collect();
            format!(
                "score_{r} = vec4<f32>({});
                let now_{r} = max(max(most_{r}, max(score_{r}.x, score_{r}.y)), max(score_{r}.z, score_{r}.w));
                let shrunk_{r} = exp(most_{r} - now_{r});
                most_{r} = now_{r};
                let p_{r} = weight(score_{r}, now_{r});
                total_{r} = total_{r} * shrunk_{r} + ((p_{r}.x + p_{r}.y) + (p_{r}.z + p_{r}.w));\n",
                seen.join(", ")
            )
        });
        let sums = self.quads(|quad| {
            let sums = self.rows(|r| {
                format!(
                    "found_{r}_{quad} = found_{r}_{quad} * shrunk_{r} + p_{r}.x * values_0 + p_{r}.y * values_1
                        + p_{r}.z * values_2 + p_{r}.w * values_3;\n"
                )
            });
            format!("{{ {}{sums} }}\n", four("values", quad))
        });
        [none, scores, weights, sums].concat()
    }

    fn written(&self) -> String {
        self.rows(|r| {
            let stores = self.quads(|quad| {
                format!(
                    "store(batch * s.queries + query_{r}, head_{r}, {quad}u, found_{r}_{quad} / sum);\n"
                )
            });
            format!(
                "if one_{r} < all {{
                    var sum = total_{r};
                    if pauses {{
                        keep(at_{r}, vec2<f32>(most_{r}, total_{r}));
                        sum = 1.0;
                    }}
                    if sum == 0.0 {{ sum = 1.0; }}
                    {stores}
                }}\n"
            )
        })
    }
}

fn heads_of(name: &str) -> &'static str {
    if name == "q" {
        "s.heads"
    } else {
        "s.key_heads"
    }
}
