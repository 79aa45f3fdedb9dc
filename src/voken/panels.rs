//! How a model of our own reads a story: each panel is its text, its picture and the end of the
//! line, so that what comes next is always clear. After a text comes `[IMG0]`, which asks for
//! its picture, or the end of the line; after a picture without text comes the text that tells it.

/// A panel that is read: what it has of text and picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextInput<'a> {
    /// Text of the panel.
    pub text: &'a str,
    /// Whether the panel has a picture.
    pub picture: bool,
}

/// A text as it is read and learnt: one line, single spaces.
///
/// ```
/// use vokenboard::voken::tidy;
///
/// assert_eq!(tidy("  A fox\n sleeps. "), "A fox sleeps.");
/// ```
pub fn tidy(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The ids of `panels` with `picture` where one is seen, each ended by `line_end`.
pub fn panel_ids(
    panels: &[ContextInput],
    picture: u32,
    line_end: u32,
    encode: &dyn Fn(&str) -> Vec<u32>,
) -> Vec<u32> {
    let mut ids = Vec::new();
    for panel in panels {
        ids.extend(encode(&tidy(panel.text)));
        ids.extend(panel.picture.then_some(picture));
        ids.push(line_end);
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_are_lines_with_their_pictures() {
        let panels = [
            ContextInput {
                text: " A  fox\nruns. ",
                picture: true,
            },
            ContextInput {
                text: "",
                picture: true,
            },
            ContextInput {
                text: "It rains.",
                picture: false,
            },
        ];
        let encode = |text: &str| text.split_whitespace().map(|w| w.len() as u32).collect();
        let ids = panel_ids(&panels, 99, 100, &encode);
        assert_eq!(ids, [1, 3, 5, 99, 100, 99, 100, 2, 6, 100]);
        assert_eq!(tidy(" A  fox\nruns. "), "A fox runs.");
    }
}
