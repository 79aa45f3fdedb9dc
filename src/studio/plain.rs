//! What the system says, in words that an author understands.

/// Reasons of the operating system, and what they mean.
const REASONS: [(&str, &str); 10] = [
    (
        "Permission denied",
        "you have no permission to do that there",
    ),
    (
        "Operation not permitted",
        "you have no permission to do that there",
    ),
    ("No space left on device", "the disk is full"),
    ("Disk quota exceeded", "your share of the disk is full"),
    ("Read-only file system", "that disk can only be read"),
    ("No such file or directory", "it is not there any more"),
    ("Input/output error", "the disk reports a fault"),
    ("Not a directory", "a file stands where a folder should be"),
    ("Is a directory", "a folder stands where a file should be"),
    ("File name too long", "the name is too long for that disk"),
];

/// A sentence without the words of the system, and all of what was said where that is more.
pub(super) fn words(message: &str) -> (String, Option<String>) {
    let mut plain = message.to_owned();
    // " (os error 13)": the number that follows each reason.
    while let Some(start) = plain.find(" (os error ") {
        let Some(end) = plain[start..].find(')') else {
            break;
        };
        plain.replace_range(start..=start + end, "");
    }
    // ` at path "/home/.../.writing-SI0Oce"`: a file that is only there while one is written.
    while let Some(start) = plain.find(" at path \"") {
        let from = start + " at path \"".len();
        let Some(end) = plain[from..].find('"') else {
            break;
        };
        plain.replace_range(start..=from + end, "");
    }
    for (reason, meaning) in REASONS {
        plain = plain.replace(reason, meaning);
    }
    let detail = (plain != message).then(|| message.to_owned());
    (plain, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_author_reads_no_numbers_of_errors_and_no_names_of_passing_files() {
        let said = "The story cannot be saved (Permission denied (os error 13) at path \
                    \"/home/me/Tale/.writing-SI0Oce\"); save it elsewhere.";
        let (plain, detail) = words(said);
        assert_eq!(
            plain,
            "The story cannot be saved (you have no permission to do that there); save it elsewhere."
        );
        assert_eq!(detail.as_deref(), Some(said));
        assert_eq!(words("Saved in Tale."), ("Saved in Tale.".to_owned(), None));
    }
}
