//! A person's vote: one page that shows pairs of stories side by side without saying whose they
//! are, and the table that the votes make.

mod page;
mod tally;

pub use page::write_page;
pub use tally::{VoteCounts, tally};

/// What is voted on, as in the paper (arXiv 2310.02239, section 4): key, and what is asked.
pub const CRITERIA: [(&str, &str); 3] = [
    ("language", "Whose text goes on better with the story?"),
    ("quality", "Whose pictures look better?"),
    (
        "coherence",
        "Where do texts and pictures fit better together?",
    ),
];
