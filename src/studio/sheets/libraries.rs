//! The libraries that the program is built from, with their versions and licences.

use std::collections::HashMap;

const LOCK: &str = include_str!("../../../Cargo.lock");
/// A line a library: `NAME: LICENCE`, as `cargo metadata` tells.
const LICENCES: &str = include_str!("../../../assets/licences/libraries.txt");

/// A library: its name, version and licence.
pub(super) type LibraryNotice = (&'static str, &'static str, Option<&'static str>);

/// All of them, by name.
pub(super) fn all() -> Vec<LibraryNotice> {
    let licences: HashMap<&str, &str> = LICENCES
        .lines()
        .filter_map(|line| line.split_once(": "))
        .collect();
    let quoted = |line: &'static str, key: &str| {
        line.strip_prefix(key)?
            .strip_prefix(" = \"")?
            .strip_suffix('"')
    };
    let mut found = Vec::new();
    let mut name = "";
    for line in LOCK.lines() {
        if let Some(named) = quoted(line, "name") {
            name = named;
        } else if let Some(version) = quoted(line, "version")
            && name != env!("CARGO_PKG_NAME")
        {
            found.push((name, version, licences.get(name).copied()));
        }
    }
    found
}

/// The same as text, a line each.
pub(super) fn list() -> String {
    let line = |(name, version, licence): LibraryNotice| {
        format!("{name} {version}: {}", licence.unwrap_or("see its source"))
    };
    all().into_iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_library_has_its_licence() {
        let all = all();
        assert!(all.len() > 300, "{}", all.len());
        let without: Vec<&str> = all
            .iter()
            .filter(|(_, _, licence)| licence.is_none_or(|licence| licence.trim().is_empty()))
            .map(|(name, ..)| *name)
            .collect();
        assert!(
            without.is_empty(),
            "add a line NAME: LICENCE to assets/licences/libraries.txt for {without:?} \
             (`cargo metadata --all-features` says the licence of each)"
        );
    }
}
