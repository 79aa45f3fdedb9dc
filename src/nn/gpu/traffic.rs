//! How often memory is read: a model of one cache between it and all workgroups.
//!
//! Workgroups run in the order of their numbers, some at a time and in step, so that what several
//! of them read at that time comes from memory once. What is small against the cache stays in it.

/// Bytes of the cache: that of a card of the middle (GeForce RTX 3060).
const CACHE: u64 = 3 << 20;
/// Invocations at work at a time: 28 multiprocessors of such a card with 1,536 each.
const AT_ONCE: usize = 43_008;

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
/// are `a` and `b` bytes large, each made by so many invocations.
pub(super) fn product(
    (rows, columns): (usize, usize),
    (a, b): (u64, u64),
    invocations: usize,
) -> (Order, u64) {
    let at_once = (AT_ONCE / invocations.max(1)).max(1);
    let (rows, columns) = (rows.max(1), columns.max(1));
    let bands = |of: usize| {
        let bands = (0..usize::BITS).map(|power| 1usize << power);
        bands.take_while(move |band| *band < of).chain([of])
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
pub(super) fn attention(tiles: usize, invocations: usize, panels: usize, bytes: u64) -> u64 {
    let panel = bytes / panels.max(1) as u64;
    let at_once = (AT_ONCE / invocations.max(1)).max(1);
    read_by(panel, tiles.div_ceil(at_once)) * panels as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_read_once_and_bands_are_narrow_where_they_help() {
        // Everything at once.
        assert_eq!(product((4, 5), (1000, 2000), 256).1, 3000);
        // Large on both sides: neither all columns nor one at a time.
        let (tiles, sides) = ((64, 40), (40 << 20, 40 << 20));
        let (order, read) = product(tiles, sides, 256);
        assert!(order.band > 1 && order.band < 40, "{order:?}");
        for other in [1, 40] {
            assert!(product_by(other, tiles, sides, AT_ONCE / 256) > read);
        }
        // A few rows of tiles that are large, and many columns: rows in two bands.
        let (order, read) = product((16, 160), (10 << 20, 26 << 20), 256);
        assert_eq!(
            order,
            Order {
                band: 8,
                by_rows: true
            }
        );
        assert!(read < 140 << 20, "{read}");
        // A tall product by a small matrix, and the other way round.
        assert_eq!(
            product((4096, 5), (400 << 20, 1 << 19), 256).1,
            (400 << 20) + (1 << 19)
        );
        assert_eq!(
            product((2, 4000), (1 << 19, 400 << 20), 256).1,
            (400 << 20) + (1 << 19)
        );
        assert_eq!(attention(512, 128, 8, 8 << 22), 2 * (8 << 22));
        assert_eq!(attention(128, 128, 8, 8 << 19), 8 << 19);
    }
}
