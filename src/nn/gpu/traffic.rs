//! How often memory is read: a model of one cache between it and all workgroups.
//!
//! Workgroups run in the order of their numbers, some at a time and in step, so that what several
//! of them read at that time comes from memory once. What is small against the cache stays in it.

use super::adapters::AdapterKind;

/// Bytes of the cache: that of a card of the middle (GeForce RTX 3060).
const CACHE: u64 = 3 << 20;

/// Invocations at work at a time: 28 multiprocessors of such a card with 1,536 each, or a third of
/// that, as GPUs beside a processor have.
fn at_once(kind: AdapterKind) -> usize {
    match kind {
        AdapterKind::Discrete => 43_008,
        _ => 43_008 / 3,
    }
}

/// Bytes of what is read whole by each of `waves` of workgroups.
fn read_by(bytes: u64, waves: usize) -> u64 {
    match bytes <= CACHE / 2 {
        true => bytes,
        false => bytes * waves.max(1) as u64,
    }
}

/// What a tiled product reads of its left and right side, `a` and `b` bytes large, where its tiles
/// run along bands of `band` columns.
fn product_by(
    band: usize,
    (rows, columns): (usize, usize),
    (a, b): (u64, u64),
    at_once: usize,
) -> u64 {
    let bands = columns.div_ceil(band);
    let in_band = rows * band;
    let panel = b * band as u64 / columns as u64;
    // Bands that are at work at a time share the left side.
    let together = (at_once / in_band.max(1)).clamp(1, bands);
    let left = read_by(a, bands.div_ceil(together));
    let right = read_by(panel, in_band.div_ceil(at_once)) * bands as u64;
    left + right.max(b)
}

/// In which order the tiles of a product are made: along bands of so many columns of tiles and down
/// their rows, or along bands of rows and across their columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Order {
    pub band: usize,
    pub by_rows: bool,
}

/// The order that reads least, and what it reads: `rows` x `columns` tiles of a product whose sides
/// are `a` and `b` bytes large, each made by so many invocations of a GPU of that kind.
pub(super) fn product(
    (rows, columns): (usize, usize),
    (a, b): (u64, u64),
    invocations: usize,
    kind: AdapterKind,
) -> (Order, u64) {
    let at_once = (at_once(kind) / invocations.max(1)).max(1);
    let (rows, columns) = (rows.max(1), columns.max(1));
    let bands = |of: usize| {
        let powers = (0..usize::BITS).map(|power| 1usize << power);
        let powers = powers.take_while(move |band| *band < of);
        powers.chain((1..=16).map(move |parts| of.div_ceil(parts)))
    };
    let ordered = |by_rows: bool| {
        // Bands of rows are bands of columns of the product turned over.
        let (sides, tiles) = match by_rows {
            true => ((b, a), (columns, rows)),
            false => ((a, b), (rows, columns)),
        };
        bands(tiles.1).map(move |band| {
            let read = product_by(band, tiles, sides, at_once);
            (Order { band, by_rows }, read)
        })
    };
    ordered(false)
        .chain(ordered(true))
        .min_by_key(|(order, read)| (*read, order.by_rows, usize::MAX - order.band))
        .unwrap_or((
            Order {
                band: 1,
                by_rows: false,
            },
            a + b,
        ))
}

/// What attention reads of keys and values, of which `panels` are read by `tiles` of queries each,
/// workgroups of so many invocations.
pub(super) fn attention(
    tiles: usize,
    invocations: usize,
    (panels, bytes): (usize, u64),
    kind: AdapterKind,
) -> u64 {
    let panel = bytes / panels.max(1) as u64;
    let at_once = (at_once(kind) / invocations.max(1)).max(1);
    read_by(panel, tiles.div_ceil(at_once)) * panels as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: AdapterKind = AdapterKind::Discrete;

    #[test]
    fn what_fits_is_read_once_and_bands_are_narrow_where_they_help() {
        // Everything at once.
        assert_eq!(product((4, 5), (1000, 2000), 256, CARD).1, 3000);
        // Large on both sides: neither all columns nor one at a time.
        let (tiles, sides) = ((64, 40), (40 << 20, 40 << 20));
        let (order, read) = product(tiles, sides, 256, CARD);
        assert!(order.band > 1 && order.band < 40, "{order:?}");
        for other in [1, 40] {
            assert!(product_by(other, tiles, sides, at_once(CARD) / 256) > read);
        }
        // A few rows of tiles that are large, and many columns.
        let (tiles, sides) = ((16, 160), (10 << 20, 26 << 20));
        let (order, read) = product(tiles, sides, 256, CARD);
        assert!(read < 135 << 20, "{order:?}: {read}");
        // A smaller GPU would read more in that order, and has its own.
        let kind = AdapterKind::Integrated;
        let (own, least) = product(tiles, sides, 256, kind);
        let (tiles, sides) = match order.by_rows {
            true => ((160, 16), (26 << 20, 10 << 20)),
            false => (tiles, sides),
        };
        let as_card = product_by(order.band, tiles, sides, at_once(kind) / 256);
        assert!(as_card > least, "{own:?}: {as_card} {least}");
        // A tall product by a small matrix, and the other way round.
        assert_eq!(
            product((4096, 5), (400 << 20, 1 << 19), 256, CARD).1,
            (400 << 20) + (1 << 19)
        );
        assert_eq!(
            product((2, 4000), (1 << 19, 400 << 20), 256, CARD).1,
            (400 << 20) + (1 << 19)
        );
        assert_eq!(attention(512, 128, (8, 8 << 22), CARD), 2 * (8 << 22));
        assert_eq!(attention(128, 128, (8, 8 << 19), CARD), 8 << 19);
    }

    /// The longest products before a GEGLU and convolutions of Stable Diffusion 1.5, 2.1 and XL,
    /// beside an order that no GPU has: all registers of the card hold the sums of one square of the
    /// output at a time, where a row costs as much as a column.
    #[test]
    fn long_products_read_little_more_than_registers_allow() {
        const REGISTERS: f64 = 28.0 * 65_536.0;
        // Rows, sums and columns, and the picture that rows are gathered from.
        let products = [
            (2048, 640, 5120),
            (4608, 640, 5120),
            (8192, 640, 5120),
            (512, 1280, 10_240),
            (1152, 1280, 10_240),
            (2048, 1280, 10_240),
        ];
        let products = products.map(|(m, k, n)| (m, k, n, m * k));
        let convolutions = [
            (4608, 9 * 1920, 640, 4608 * 1920),
            (18_432, 9 * 640, 640, 4608 * 640),
            (8192, 9 * 1920, 640, 8192 * 1920),
            (8192, 9 * 1280, 1280, 2048 * 1280),
            (32_768, 9 * 640, 640, 8192 * 640),
            (262_144, 9 * 512, 512, 65_536 * 512),
        ];
        for (m, k, n, numbers) in products.into_iter().chain(convolutions) {
            // Numbers of four and of two bytes.
            let (a, b) = (4 * numbers, 2 * k * n);
            let (tiles, sides) = ((m / 128, n / 64), (a as u64, b as u64));
            let (_, read) = product(tiles, sides, 256, CARD);
            let squares = 2.0 * (a as f64 * b as f64 * (m * n) as f64 / REGISTERS).sqrt();
            let times = read as f64 / squares.max((a + b) as f64);
            assert!(times < 1.5, "{m}x{k}x{n}: {times}");
        }
    }
}
