//! Stories.

pub(super) fn texts() -> impl Iterator<Item = &'static str> {
    std::iter::empty()
}
