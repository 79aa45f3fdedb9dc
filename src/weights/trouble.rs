//! What is wrong with a file whose beginning is not that of weights: downloads that are none,
//! formats of other times, files that are not finished.

/// What a file is instead of weights, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotWeights {
    /// Goes on after the file's name.
    pub reason: String,
    /// What the author can do about it.
    pub remedy: &'static str,
}

const AGAIN: &str = "get the file again";

/// Bytes of the beginning that [`trouble`] wants to see.
pub const HEAD: usize = 512;

/// What is wrong with a file of `length` bytes that begins with `head`; `None` where its beginning
/// may be that of weights.
pub fn trouble(head: &[u8], length: u64) -> Option<NotWeights> {
    let not_weights = |reason: String, remedy| Some(NotWeights { reason, remedy });
    if length == 0 {
        return not_weights("is empty".to_string(), AGAIN);
    }
    if head.starts_with(b"version https://git-lfs.github.com/spec/") {
        let reason = format!("is a Git LFS pointer of {length} bytes, not the file itself");
        return not_weights(reason, "fetch it with `git lfs pull` or download it again");
    }
    if let Some(reason) = text(head) {
        return not_weights(reason.to_string(), "download the file itself");
    }
    if let Some(version) = head
        .strip_prefix(b"GGUF")
        .and_then(<[u8]>::first_chunk::<4>)
    {
        if u32::from_le_bytes(*version) == 1 {
            let reason = "is a GGUF file of version 1, of 2023".to_string();
            return not_weights(reason, "convert the model anew with today's llama.cpp");
        }
        if u32::from_le_bytes(*version) > 0xffff {
            let reason = "is a big-endian GGUF file, made for other machines".to_string();
            return not_weights(reason, "get the ordinary, little-endian file");
        }
        return None;
    }
    let old = [
        (b"lmgg", "ggml"),
        (b"fmgg", "ggmf"),
        (b"tjgg", "ggjt"),
        (b"algg", "ggla"),
    ];
    if let Some((_, name)) = old.iter().find(|(magic, _)| head.starts_with(*magic)) {
        let reason = format!("is in the old GGML format ({name}) from before GGUF");
        return not_weights(reason, "get the model as a GGUF file");
    }
    let others: [(&[u8], &str, &str); 9] = [
        (b"\x1f\x8b", "is a gzip archive, not weights", "unpack it"),
        (
            b"7z\xbc\xaf\x27\x1c",
            "is a 7-Zip archive, not weights",
            "unpack it",
        ),
        (b"Rar!", "is a RAR archive, not weights", "unpack it"),
        (b"BZh", "is a bzip2 archive, not weights", "unpack it"),
        (
            b"\x28\xb5\x2f\xfd",
            "is a Zstandard archive, not weights",
            "unpack it",
        ),
        (
            b"%PDF",
            "is a PDF document, not weights",
            "name a file of weights",
        ),
        (
            b"\x89PNG",
            "is a PNG picture, not weights",
            "name a file of weights",
        ),
        (
            b"\xff\xd8\xff",
            "is a JPEG picture, not weights",
            "name a file of weights",
        ),
        (
            b"\x89HDF",
            "is in Keras' HDF5 format, which is not supported",
            "get the model as safetensors",
        ),
    ];
    if let Some((_, reason, remedy)) = others.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return not_weights((*reason).to_string(), remedy);
    }
    if head.len() >= 64 && head[..64].iter().all(|&byte| byte == 0) {
        let reason = "begins with nothing but zeros, as a download that was not finished does";
        return not_weights(reason.to_string(), AGAIN);
    }
    None
}

/// What a text is that was saved under the name of weights.
fn text(head: &[u8]) -> Option<&'static str> {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    let start = head.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let head = head[start..].to_ascii_lowercase();
    let begins = |marks: &[&[u8]]| marks.iter().any(|mark| head.starts_with(mark));
    if begins(&[
        b"<!doctype",
        b"<html",
        b"<head",
        b"<?xml",
        b"<body",
        b"<script",
        b"<!--",
    ]) {
        return Some(
            "is a web page saved under another name (a sign-in page, most likely), not weights",
        );
    }
    if begins(&[
        b"{\"error\"",
        b"{\"message\"",
        b"{\"detail\"",
        b"access denied",
        b"entry not found",
    ]) {
        return Some("holds a server's error message, not weights");
    }
    if begins(&[
        b"invalid username",
        b"access to model",
        b"repository not found",
        b"not found",
    ]) {
        return Some("holds a server's error message, not weights");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_trouble_is_named() {
        for (head, said) in [
            (&b""[..], "empty"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid",
                "pointer",
            ),
            (b"\n  <!DOCTYPE html><html>", "web page"),
            (b"\xef\xbb\xbf<HTML>", "web page"),
            (
                b"{\"error\":\"Access to model x is restricted\"}",
                "server's error",
            ),
            (b"GGUF\0\0\0\x03", "endian"),
            (b"GGUF\x01\0\0\0", "version 1"),
            (b"tjgg\x03\0\0\0", "old GGML"),
            (&[0; 100], "zeros"),
            (b"Rar!\x1a", "RAR"),
        ] {
            let found = trouble(head, head.len() as u64).unwrap();
            assert!(found.reason.contains(said), "{found:?}");
        }
        for head in [
            &b"GGUF\x03\0\0\0"[..],
            b"PK\x03\x04",
            b"\x10\0\0\0\0\0\0\0{\"a\"",
        ] {
            assert_eq!(trouble(head, 1000), None);
        }
    }
}
