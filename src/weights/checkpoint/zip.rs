//! The directory of a zip file whose entries are stored, not compressed, as `torch.save` writes
//! them (PKWARE's APPNOTE 6.3, with zip64 for files above 4 GiB).

use std::collections::HashMap;
use std::ops::Range;

const END: &[u8; 4] = b"PK\x05\x06";
const END64: &[u8; 4] = b"PK\x06\x06";
const LOCATOR64: &[u8; 4] = b"PK\x06\x07";
const ENTRY: &[u8; 4] = b"PK\x01\x02";
const LOCAL: &[u8; 4] = b"PK\x03\x04";
/// More than any checkpoint has.
const MOST_ENTRIES: u64 = 1 << 18;
/// Longest that the comment after the end record can be.
const COMMENT: usize = 0xffff;

/// Where each entry's bytes lie in `bytes`, by name.
///
/// # Errors
/// What is wrong, in words: the end is missing, an entry is compressed or lies outside.
pub(super) fn entries(bytes: &[u8]) -> Result<HashMap<String, Range<usize>>, String> {
    let (count, start) = directory(bytes).ok_or("the zip directory at its end is missing")?;
    if count > MOST_ENTRIES {
        return Err(format!("its zip directory would have {count} entries"));
    }
    let mut found = HashMap::new();
    let mut at = start;
    for _ in 0..count {
        let (name, entry, next) = entry(bytes, at)?;
        found.insert(name, entry);
        at = next;
    }
    Ok(found)
}

/// Number of entries and where the directory begins.
fn directory(bytes: &[u8]) -> Option<(u64, usize)> {
    let from = bytes.len().saturating_sub(COMMENT + 22);
    let tail = bytes.get(from..)?;
    let end = from + tail.windows(4).rposition(|window| window == END)?;
    let (count, start) = (u16_at(bytes, end + 10)?, u32_at(bytes, end + 16)?);
    if count != 0xffff && start != 0xffff_ffff {
        return Some((u64::from(count), start as usize));
    }
    let locator = end.checked_sub(20)?;
    if bytes.get(locator..locator + 4)? != LOCATOR64 {
        return Some((u64::from(count), start as usize));
    }
    let record = usize::try_from(u64_at(bytes, locator + 8)?).ok()?;
    if bytes.get(record..record.checked_add(4)?)? != END64 {
        return None;
    }
    let count = u64_at(bytes, record.checked_add(32)?)?;
    let start = u64_at(bytes, record.checked_add(48)?)?;
    Some((count, usize::try_from(start).ok()?))
}

/// Name, bytes and the place of the next directory entry.
fn entry(bytes: &[u8], at: usize) -> Result<(String, Range<usize>, usize), String> {
    const CUT: &str = "its zip directory is cut short";
    let head = bytes.get(at..).and_then(|b| b.get(..46)).ok_or(CUT)?;
    if head[..4] != *ENTRY {
        return Err("its zip directory is garbled".to_string());
    }
    let short = |at| usize::from(u16_at(head, at).unwrap_or(0));
    let long = |at| u64::from(u32_at(head, at).unwrap_or(0));
    let (name_len, extra_len, comment_len) = (short(28), short(30), short(32));
    let name = bytes.get(at + 46..at + 46 + name_len).ok_or(CUT)?;
    let name = String::from_utf8_lossy(name).into_owned();
    let extra = at + 46 + name_len;
    let extra = bytes.get(extra..extra + extra_len).ok_or(CUT)?;
    if short(10) != 0 {
        return Err(format!(
            "its entry {name} is compressed, which torch.save never does"
        ));
    }
    let (mut size, mut local) = (long(24), long(42));
    // Of the sizes and the offset, those that are all ones stand in the zip64 field, in order.
    let mut wide = zip64_field(extra).into_iter().flatten();
    if size == 0xffff_ffff {
        size = wide.next().ok_or(CUT)?;
    }
    if long(20) == 0xffff_ffff {
        wide.next().ok_or(CUT)?;
    }
    if local == 0xffff_ffff {
        local = wide.next().ok_or(CUT)?;
    }
    let outside = || format!("its entry {name} lies outside the file");
    let data = (|| {
        let local = usize::try_from(local).ok()?;
        if bytes.get(local..local.checked_add(4)?)? != LOCAL {
            return None;
        }
        let skip =
            usize::from(u16_at(bytes, local + 26)?) + usize::from(u16_at(bytes, local + 28)?);
        let start = local.checked_add(30 + skip)?;
        let end = start.checked_add(usize::try_from(size).ok()?)?;
        (end <= bytes.len()).then_some(start..end)
    })()
    .ok_or_else(outside)?;
    Ok((name, data, at + 46 + name_len + extra_len + comment_len))
}

/// The numbers of the zip64 field among the `extra` ones.
fn zip64_field(mut extra: &[u8]) -> Option<impl Iterator<Item = u64>> {
    loop {
        let (id, length) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
        let field = extra.get(4..4 + length)?;
        if id == 1 {
            let (numbers, _) = field.as_chunks::<8>();
            return Some(numbers.iter().map(|n| u64::from_le_bytes(*n)));
        }
        extra = &extra[4 + length..];
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_le_bytes(*bytes))
}
