// Matrix product, and convolution as one whose left side is gathered from the picture (implicit
// im2col). Each workgroup makes BM x BN of the output from tiles of BK columns in workgroup memory.

struct Sizes {
    // The first workgroup of this piece of the run.
    at: vec4<u32>,
    // Tiles of the output run along a band of so many columns of tiles, then down its rows; or along one
    // of rows, then across its columns.
    m: u32, n: u32, k: u32, band: u32,
    // Of a convolution: the picture that is read, and how.
    h: u32, w: u32, c: u32, out_h: u32,
    out_w: u32, kernel_w: u32, stride: u32, pad: u32,
    double: u32, has_bias: u32,
    // Rows that share a row of what is beside the product.
    each: u32, kernel_h: u32,
    // Channels that are gone through for all places under the kernel before the next. Of the steps of so
    // many columns of A the first that this piece goes through, and the first of the next.
    by_rows: u32, slab: u32, step: u32, steps: u32,
}

@group(0) @binding(0) var<uniform> s: Sizes;
@group(0) @binding(1) var<storage, read> a: array<A_ITEM>;
BINDINGS

const BM = BM_VALUEu;
const BN = BN_VALUEu;
const BK = 16u;
const COLUMNS = BN / 4u;

// Where a row of A begins: of a product its number and nothing else, of a convolution the picture
// and the top left corner under the kernel.
struct Row { picture: u32, top: i32, left: i32, there: bool }

fn row_at(m: u32) -> Row {
    if IS_CONV {
        let x = m % s.out_w;
        let rest = m / s.out_w;
        return Row(
            rest / s.out_h,
            i32(rest % s.out_h * s.stride) - i32(s.pad),
            i32(x * s.stride) - i32(s.pad),
            m < s.m,
        );
    }
    return Row(m, 0, 0, m < s.m);
}

// A column of A: of a convolution its channel, the first of the slab that it is in, and the place under
// the kernel. A few channels of a picture stay in a cache until all places have seen them; all of them
// would be read from memory for each place. `row` is the row of B that belongs to it.
struct Column { k: u32, row: u32, channel: u32, first: u32, down: i32, across: i32 }

fn column_at(k: u32) -> Column {
    if IS_CONV {
        let places = s.kernel_w * s.kernel_h;
        let first = min(k / (s.slab * places) * s.slab, s.c - s.slab);
        let tap = (k - first * places) / s.slab;
        let channel = first + k % s.slab;
        return Column(
            k, tap * s.c + channel, channel, first, i32(tap / s.kernel_w), i32(tap % s.kernel_w),
        );
    }
    return Column(k, k, 0u, 0u, 0, 0);
}

// The column so many further on, without divisions, which would cost more than the products.
fn further(earlier: Column, by: u32) -> Column {
    var column = earlier;
    column.k += by;
    column.row += by;
    if IS_CONV {
        column.channel += by;
        while column.channel >= column.first + s.slab {
            column.channel -= s.slab;
            column.row += s.c - s.slab;
            column.across += 1;
            if column.across == i32(s.kernel_w) {
                column.across = 0;
                column.down += 1;
                if column.down == i32(s.kernel_h) && column.k < s.k {
                    column.down = 0;
                    column.first += s.slab;
                    column.channel += s.slab;
                    column.row += s.slab - s.k;
                }
            }
        }
    }
    return column;
}

fn a_at(row: Row, column: Column) -> u32 {
    if IS_CONV {
        let up = row.top + column.down;
        let across = row.left + column.across;
        let inside = up >= 0 && across >= 0
            && up < i32(s.h << s.double) && across < i32(s.w << s.double);
        if !inside { return NOWHERE; }
        let place = (row.picture * s.h + (u32(up) >> s.double)) * s.w + (u32(across) >> s.double);
        return place * s.c + column.channel;
    }
    return row.picture * s.k + column.k;
}

const NOWHERE = 0xffffffffu;

// The first row and column of a workgroup's tile.
fn tile_at(group: vec3<u32>) -> vec2<u32> {
    let banded = group.z * s.band + group.x;
    if s.by_rows != 0u { return vec2<u32>(banded * BM, group.y * BN); }
    return vec2<u32>(group.y * BM, banded * BN);
}

// Which column of B is column n of the product.
fn column_of(n: u32) -> u32 { return COLUMN_OF; }

LOADERS

FUNCTIONS

// What is added to four columns.
fn offset_at(n: u32) -> vec4<f32> {
    var offset = vec4<f32>(0.0);
    if s.has_bias != 0u {
        for (var j = 0u; j < 4u; j++) {
            if n + j < s.n { offset[j] = bias[column_of(n) + j]; }
        }
    }
    return offset;
}

// What is written of four columns that were added up.
fn finished(m: u32, n: u32, v: vec4<f32>) -> vec4<f32> { return AFTERWARDS; }

MAIN
