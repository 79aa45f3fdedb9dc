//! The product's kernel in WGSL, put together for a variant.

use super::epilogue::{Epilogue, functions};
use super::product::Right;
use super::quant;
use super::tile::{Arithmetic, DEPTH, MATRIX_STEP, Tile};

const LOAD_A_IN_FOURS: &str = "
fn load_a(row: Row, column: Column) -> vec4<f32> {
    if !row.there || column.k >= s.k { return vec4<f32>(0.0); }
    let at = a_at(row, column);
    if at == NOWHERE { return vec4<f32>(0.0); }
    return a[at / 4u];
}";

const LOAD_A: &str = "
fn load_a(row: Row, first: Column) -> vec4<f32> {
    var v = vec4<f32>(0.0);
    var column = first;
    for (var j = 0u; j < 4u; j++) {
        if row.there && column.k < s.k {
            let at = a_at(row, column);
            if at != NOWHERE { v[j] = a[at]; }
        }
        column = further(column, 1u);
    }
    return v;
}";

/// Columns of the output, `OUT`, are half of those of the product for GEGLU.
const STORE_IN_FOURS: &str = "
fn store(m: u32, n: u32, v: vec4<f32>) { y[(m * OUT + n) / 4u] = v; }
fn stored(m: u32, n: u32) -> vec4<f32> { return y[(m * OUT + n) / 4u]; }";

const STORE: &str = "
fn store(m: u32, n: u32, v: vec4<f32>) {
    for (var j = 0u; j < 4u; j++) {
        if n + j < s.n { y[m * s.n + n + j] = v[j]; }
    }
}
fn stored(m: u32, n: u32) -> vec4<f32> {
    var v = vec4<f32>(0.0);
    for (var j = 0u; j < 4u; j++) {
        if n + j < s.n { v[j] = y[m * s.n + n + j]; }
    }
    return v;
}";

const MORE_IN_FOURS: &str = "
fn more_at(m: u32, n: u32) -> vec4<f32> { return more[(m / s.each * s.n + n) / 4u]; }";

const MORE: &str = "
fn more_at(m: u32, n: u32) -> vec4<f32> {
    var v = vec4<f32>(0.0);
    for (var j = 0u; j < 4u; j++) {
        if n + j < s.n { v[j] = more[m / s.each * s.n + n + j]; }
    }
    return v;
}";

const TILES: &str = include_str!("kernels/product_tiles.wgsl");
const MATRICES: &str = include_str!("kernels/product_matrices.wgsl");

/// How B is staged from a tensor, `[k,n]`.
const TENSOR_TILE: &str = "
const B_LOADS = BK * COLUMNS / THREADS;
var<workgroup> b_tile: array<Four, BK * COLUMNS>;
fn b_row(k: u32, column: u32) -> Four { return b_tile[k * COLUMNS + column]; }";

const STAGE_TENSOR: &str = "
for (var i = 0u; i < B_LOADS; i++) {
    let at = thread + i * THREADS;
    b_tile[at] = Four(load_b(row + at / COLUMNS, first_n + at % COLUMNS * 4u));
}";

/// How it is staged from rows of a quantised matrix, eight weights at a time.
const PACKED_TILE: &str = "
var<workgroup> b_tile: array<TILE_NUMBER, BK * BN>;
fn b_row(k: u32, column: u32) -> Four {
    let at = k * BN + column * 4u;
    return Four(b_tile[at], b_tile[at + 1u], b_tile[at + 2u], b_tile[at + 3u]);
}";

const STAGE_PACKED: &str = "
for (var at = thread; at < BN * BK / 8u; at += THREADS) {
    let column = at / (BK / 8u);
    let part = at % (BK / 8u);
    var w = Eight(vec4<f32>(0.0), vec4<f32>(0.0));
    if first_n + column < s.n && k + part * 8u < s.k {
        w = eight((first_n + column) * (s.k / 8u) + k / 8u + part);
    }
    for (var j = 0u; j < 4u; j++) {
        b_tile[(part * 8u + j) * BN + column] = TILE_NUMBER(w.a[j]);
        b_tile[(part * 8u + 4u + j) * BN + column] = TILE_NUMBER(w.b[j]);
    }
}";

/// With GEGLU quads of the first half alternate with those of the second, so that what belongs
/// together lies with neighbours.
const PAIRED: &str = "n / 4u % 2u * (s.n / 2u) + n / 8u * 4u + n % 4u";
const HALVES: &str = "
var<workgroup> halves: array<vec4<f32>, ROWS * COLUMNS / 2u>;";
const WRITTEN_IN_PAIRS: &str = "
    let v = sums[i] + offset;
    let pair = id.y * (COLUMNS / 2u) + id.x / 2u;
    if id.x % 2u == 1u { halves[pair] = gelu(v); }
    workgroupBarrier();
    if id.x % 2u == 0u && m < s.m && n < s.n { store(m, n / 2u, v * halves[pair]); }
    workgroupBarrier();";
const MATRICES_IN_PAIRS: &str =
    "store(m, n / 2u, v * gelu(four_at(unit, quad + 1u) + offset_at(n + 4u)));";

/// Whether something was staged that is too large for f16.
const SPILLED: &str = "
const LARGEST = 65504.0;
var<workgroup> spilled: atomic<u32>;";

/// BK products with what is too large for f16, or whose sum was not a number any more, in f32.
const EXACTLY: &str = "
fn overflowed(v: vec4<f32>) -> bool {
    let exponents = bitcast<vec4<u32>>(v) & vec4<u32>(0x7f800000u);
    return any(exponents == vec4<u32>(0x7f800000u));
}
fn exactly(m: u32, n: u32, from_k: u32) -> vec4<f32> {
    let row = row_at(m);
    var column = column_at(from_k);
    var sum = vec4<f32>(0.0);
    for (var k = from_k; k < min(s.k, from_k + BK); k += 4u) {
        let v = load_a(row, column);
        let at = column.row;
        sum += v.x * load_b(at, n) + v.y * load_b(at + 1u, n)
            + v.z * load_b(at + 2u, n) + v.w * load_b(at + 3u, n);
        column = further(column, 4u);
    }
    return sum;
}";

fn load_b(quads: bool, half: bool) -> String {
    let one = match half {
        true => "unpack2x16float(b[at / 2u])[at % 2u]",
        false => "b[at]",
    };
    let four = match half {
        true => "vec4<f32>(unpack2x16float(b[at].x), unpack2x16float(b[at].y))",
        false => "b[at]",
    };
    match quads {
        true => format!(
            "fn load_b(k: u32, n: u32) -> vec4<f32> {{
                if k >= s.k || n >= s.n {{ return vec4<f32>(0.0); }}
                let at = (k * s.n + column_of(n)) / 4u;
                return {four};
            }}"
        ),
        false => format!(
            "fn load_b(k: u32, n: u32) -> vec4<f32> {{
                var v = vec4<f32>(0.0);
                for (var j = 0u; j < 4u; j++) {{
                    if k < s.k && n + j < s.n {{
                        let at = k * s.n + n + j;
                        v[j] = {one};
                    }}
                }}
                return v;
            }}"
        ),
    }
}

/// What a variant of the kernel reads and writes.
pub(super) struct Form<'a> {
    /// Whether the left side is a picture's.
    pub conv: bool,
    /// Whether both sides are read in fours.
    pub quads: bool,
    pub epilogue: Epilogue<'a>,
}

/// The kernel for these tiles and this right side.
pub(super) fn source(tile: Tile, form: &Form, w: &Right) -> String {
    let (conv, quads) = (form.conv, form.quads);
    let geglu = matches!(form.epilogue, Epilogue::Geglu);
    let onto = matches!(
        form.epilogue,
        Epilogue::Plus(_) | Epilogue::PlusChannels(_) | Epilogue::Gated(..)
    );
    let item = if quads { "vec4<f32>" } else { "f32" };
    let (right, loader, tiles, stage) = match w {
        Right::Packed { bits, .. } => (
            "@group(0) @binding(2) var<storage, read> numbers: array<u32>;
             @group(0) @binding(3) var<storage, read> scales: array<vec2<f32>>;"
                .to_owned(),
            quant::loader(*bits),
            PACKED_TILE,
            STAGE_PACKED,
        ),
        Right::Tensor(w) => {
            let b_item = match (quads, w.is_half()) {
                (_, false) => item,
                (true, true) => "vec2<u32>",
                (false, true) => "u32",
            };
            (
                format!("@group(0) @binding(2) var<storage, read> b: array<{b_item}>;"),
                load_b(quads, w.is_half()),
                TENSOR_TILE,
                STAGE_TENSOR,
            )
        }
    };
    let after = if matches!(w, Right::Packed { .. }) {
        4
    } else {
        3
    };
    let bindings = format!(
        "{right}
        @group(0) @binding({after}) var<storage, read> bias: array<f32>;
        {}
        @group(0) @binding({}) var<storage, read_write> y: array<{item}>;",
        match onto {
            true => format!(
                "@group(0) @binding({}) var<storage, read> more: array<{item}>;",
                after + 1
            ),
            false => String::new(),
        },
        after + 1 + u32::from(onto)
    );
    let more = match (onto, quads) {
        (false, _) => "",
        (_, true) => MORE_IN_FOURS,
        (_, false) => MORE,
    };
    let load_a = if quads { LOAD_A_IN_FOURS } else { LOAD_A };
    let store = if quads { STORE_IN_FOURS } else { STORE };
    let half = tile.arithmetic != Arithmetic::F32;
    let mend = match tile.arithmetic {
        Arithmetic::F32 => String::new(),
        Arithmetic::F16 => [SPILLED, EXACTLY].concat(),
        Arithmetic::Matrices => SPILLED.to_owned(),
    };
    let loaders = [load_a, &loader, store, more, &mend].join("\n");
    let in_f16 = |text: &'static str| if half { text } else { "" };
    let main = match tile.arithmetic {
        Arithmetic::Matrices => matrices(tile, geglu),
        _ => TILES
            .replace("TILES", tiles)
            .replace("HALVES", if geglu { HALVES } else { "" })
            .replace("STAGE_B", stage)
            .replace(
                "WRITTEN",
                match geglu {
                    true => WRITTEN_IN_PAIRS,
                    false => {
                        "if m < s.m && n < s.n { store(m, n, finished(m, n, sums[i] + offset)); }"
                    }
                },
            ),
    };
    let text = include_str!("kernels/product.wgsl")
        .replace("LOADERS", &loaders)
        .replace("BINDINGS", &bindings)
        .replace("MAIN", &main)
        .replace("FUNCTIONS", &functions("vec4<f32>"))
        .replace("AFTERWARDS", &form.epilogue.value("v", "more_at(m, n)"))
        .replace("COLUMN_OF", if geglu { PAIRED } else { "n" })
        .replace("OUT", if geglu { "(s.n / 2u)" } else { "s.n" })
        .replace(
            "BEFORE",
            in_f16("if thread == 0u { atomicStore(&spilled, 0u); } workgroupBarrier();"),
        )
        .replace(
            "LOOKED_AT",
            in_f16("if any(abs(v) > vec4<f32>(LARGEST)) { atomicStore(&spilled, k + 1u); }"),
        )
        .replace(
            "SOME_BEGIN",
            in_f16(
                "var some: array<Four, TM>;
                for (var i = 0u; i < TM; i++) { some[i] = Four(0.0); }",
            ),
        )
        .replace(
            "SOME_END",
            in_f16(
                "var looked = Four(0.0);
                for (var i = 0u; i < TM; i++) { looked += some[i] * f16(0.125); }
                let exact = atomicLoad(&spilled) == k + 1u || overflowed(vec4<f32>(looked));
                for (var i = 0u; i < TM; i++) {
                    var part = vec4<f32>(some[i]);
                    if exact { part = exactly(own_m + i, n, k); }
                    sums[i] += part;
                }",
            ),
        )
        .replace("SOME", if half { "some" } else { "sums" })
        .replace("TILE_NUMBER", if half { "f16" } else { "f32" })
        .replace("A_ITEM", item)
        .replace("IS_CONV", if conv { "true" } else { "false" })
        .replace("BM_VALUE", &tile.rows.to_string())
        .replace("BN_VALUE", &tile.columns.to_string())
        .replace("TM_VALUE", &tile.each.to_string());
    match tile.arithmetic {
        Arithmetic::F32 => text,
        Arithmetic::F16 => format!("enable f16;\n{text}"),
        Arithmetic::Matrices => format!("enable f16;\nenable wgpu_cooperative_matrix;\n{text}"),
    }
}

/// The part of the kernel that multiplies cooperative matrices, each of which has a name.
fn matrices(tile: Tile, geglu: bool) -> String {
    let (units, (down, across), side) = (tile.units(), tile.of_unit(), tile.side);
    let all = || (0..down).flat_map(|i| (0..across).map(move |j| (i, j)));
    let none: Vec<String> = all()
        .map(|(i, j)| format!("var sum_{i}_{j} = Sum();"))
        .collect();
    let left_side = (0..down).map(|i| {
        format!("let left_{i} = coopLoadT<Left>(&a_tile[(down + {i}u * SIDE) * A_PITCH + step], A_PITCH);")
    });
    let right = (0..across).map(|j| {
        format!("let right_{j} = coopLoadT<Right>(&b_tile[step * B_PITCH + across + {j}u * SIDE], B_PITCH);")
    });
    let products = all()
        .map(|(i, j)| format!("sum_{i}_{j} = coopMultiplyAdd(left_{i}, right_{j}, sum_{i}_{j});"));
    let products: Vec<String> = left_side.chain(right).chain(products).collect();
    let at = |(i, j): (usize, usize)| {
        format!("unit, first_m + down + {i}u * SIDE, first_n + across + {j}u * SIDE, lane, lanes")
    };
    let out = |(i, j)| {
        format!("coopStoreT(sum_{i}_{j}, &sum_tile[unit * SIDE * SIDE], SIDE); workgroupBarrier();")
    };
    let back = |(i, j)| {
        format!(
            "workgroupBarrier();
            sum_{i}_{j} = coopLoadT<Sum>(&sum_tile[unit * SIDE * SIDE], SIDE);
            workgroupBarrier();"
        )
    };
    let each = |text: &dyn Fn((usize, usize)) -> String| {
        all().map(text).collect::<Vec<String>>().join("\n")
    };
    let stores = each(&|one| format!("{} store_sums({}); workgroupBarrier();", out(one), at(one)));
    let left = each(&|one| format!("{} leave_sums({}); workgroupBarrier();", out(one), at(one)));
    let taken = each(&|one| format!("take_sums({}); {}", at(one), back(one)));
    let mended = each(&|one| {
        let at = at(one);
        format!(
            "{} if owned {{ mend_sums({at}, from_k, k + BK); }} {}",
            out(one),
            back(one)
        )
    });
    MATRICES
        .replace("NO_SUMS", &none.join("\n"))
        .replace("PRODUCTS", &products.join("\n"))
        .replace("STORES", &stores)
        .replace("LEFT", &left)
        .replace("TAKEN_UP", &taken)
        .replace("MENDED", &mended)
        .replace("BLOCK_VALUE", &(MATRIX_STEP * DEPTH).to_string())
        .replace(
            "WRITTEN",
            match geglu {
                true => MATRICES_IN_PAIRS,
                false => "store(m, n, finished(m, n, v));",
            },
        )
        .replace("TOGETHER_VALUE", if geglu { "2" } else { "1" })
        .replace("SIDE_VALUE", &side.to_string())
        .replace("THREADS_VALUE", &tile.invocations().to_string())
        .replace("UNITS_VALUE", &units.to_string())
        .replace("DOWN_VALUE", &down.to_string())
        .replace("ACROSS_VALUE", &across.to_string())
        .replace("MATRIX", &format!("coop_mat{side}x{side}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::gpu::{Gpu, GpuTensor};
    use candle_core::{DType, Device, Tensor};
    use naga::valid::{Capabilities, ValidationFlags, Validator};

    /// No adapter of the automatic tests has cooperative matrices, but whether wgpu takes the kernel
    /// does not depend on one.
    #[test]
    fn kernels_by_matrices_are_valid() {
        let gpu = Gpu::counting(1 << 30, true);
        let w = Tensor::zeros((64, 64), DType::F16, &Device::Cpu).unwrap();
        let w = GpuTensor::upload_weight(&gpu, &w).unwrap();
        for (side, subgroup) in [(8, 8), (16, 32)] {
            for (rows, columns, each) in [(64, 64, 8), (128, 64, 16), (32, 32, 4)] {
                for (conv, epilogue) in [
                    (false, Epilogue::Nothing),
                    (true, Epilogue::Plus(&w)),
                    (false, Epilogue::Geglu),
                ] {
                    let tile = Tile {
                        rows,
                        columns,
                        each,
                        arithmetic: Arithmetic::Matrices,
                        side,
                        subgroup,
                    };
                    let quads = true;
                    let form = Form {
                        conv,
                        quads,
                        epilogue,
                    };
                    let text = source(tile, &form, &Right::Tensor(&w));
                    let module = naga::front::wgsl::parse_str(&text);
                    let module =
                        module.unwrap_or_else(|why| panic!("{}", why.emit_to_string(&text)));
                    let mut validator = Validator::new(ValidationFlags::all(), Capabilities::all());
                    if let Err(why) = validator.validate(&module) {
                        panic!("{}: {}", tile.name(), why.emit_to_string(&text));
                    }
                }
            }
        }
    }
}
