//! Dates in the author's language.

use std::time::SystemTime;

use chrono::{DateTime, Local, Locale};

/// Languages that the preferences offer, by their own names.
pub(super) const LANGUAGES: [(&str, &str); 12] = [
    ("", "As the system"),
    ("en_GB", "English (UK)"),
    ("en_US", "English (US)"),
    ("de_DE", "Deutsch"),
    ("es_ES", "Español"),
    ("fr_FR", "Français"),
    ("it_IT", "Italiano"),
    ("pt_BR", "Português"),
    ("nl_NL", "Nederlands"),
    ("pl_PL", "Polski"),
    ("ja_JP", "日本語"),
    ("zh_CN", "中文"),
];

/// The locale that is named, or the system's; English where neither is known.
fn locale(named: &str) -> Locale {
    let system = || {
        ["LC_ALL", "LC_TIME", "LANG"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
            .unwrap_or_default()
    };
    let name = if named.is_empty() {
        system()
    } else {
        named.to_owned()
    };
    // "de_DE.UTF-8" and "de_DE@euro" are "de_DE".
    let name = name.split(['.', '@']).next().unwrap_or_default();
    Locale::try_from(name).unwrap_or(Locale::en_GB)
}

/// Such as "29 November 2026".
pub(super) fn day(time: SystemTime, language: &str) -> String {
    let time: DateTime<Local> = time.into();
    let format = if language.starts_with("ja") || language.starts_with("zh") {
        "%Y年%-m月%-d日"
    } else {
        "%-d %B %Y"
    };
    time.format_localized(format, locale(language)).to_string()
}

/// Such as "14:05".
pub(super) fn time(time: SystemTime) -> String {
    DateTime::<Local>::from(time).format("%H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn days_are_written_in_the_language_that_was_chosen() {
        let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_953_600);
        assert_eq!(day(noon, "en_GB"), "29 November 2026");
        assert_eq!(day(noon, "es_ES"), "29 noviembre 2026");
        assert_eq!(day(noon, "de_DE.UTF-8"), "29 November 2026");
        assert_eq!(day(noon, "zh_CN"), "2026年11月29日");
    }
}
