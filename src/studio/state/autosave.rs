//! Which revision of the board is on the disk, and when the next save is due.

use std::time::{Duration, Instant};

/// How long the board rests before it is saved by itself.
const REST: Duration = Duration::from_millis(1000);

/// What is known of the saves of one board, by the revisions of its document.
#[derive(Default)]
pub struct Autosave {
    /// The revision that was last sent to be saved.
    sent: u64,
    /// The last one that was saved.
    saved: u64,
    /// The revision that is not sent yet, and since when it has been so.
    changed: Option<(u64, Instant)>,
    /// Why the last save failed; it is not tried again by itself until the board changes.
    trouble: Option<String>,
    /// It failed because another program has changed the story.
    changed_elsewhere: bool,
    /// The author waits to hear of a save.
    asked: bool,
}

impl Autosave {
    /// A board as it is on the disk, or an empty one.
    pub(super) fn at(revision: u64) -> Self {
        Self {
            sent: revision,
            saved: revision,
            ..Self::default()
        }
    }

    /// Why the last save failed, if it did.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether the last save failed because another program has changed the story.
    pub fn changed_elsewhere(&self) -> bool {
        self.changed_elsewhere
    }

    /// Whether `revision` is on the disk.
    pub(super) fn is_saved(&self, revision: u64) -> bool {
        revision == self.saved
    }

    /// Whether `revision` was sent to be saved already.
    pub(super) fn is_sent(&self, revision: u64) -> bool {
        revision == self.sent
    }

    /// `revision` goes to the files thread; `asked` says that the author waits to hear of it.
    pub(super) fn send(&mut self, revision: u64, asked: bool) {
        self.sent = revision;
        self.changed = None;
        self.asked |= asked;
    }

    /// `revision` is on the disk. Returns whether the author waits to hear of it.
    pub(super) fn succeeded(&mut self, revision: u64) -> bool {
        self.saved = self.saved.max(revision);
        self.trouble = None;
        self.changed_elsewhere = false;
        std::mem::take(&mut self.asked)
    }

    /// The save has failed for this reason; `changed` if another program changed the story.
    pub(super) fn failed(&mut self, reason: String, changed: bool) {
        self.changed_elsewhere = changed;
        self.trouble = Some(reason);
    }

    /// What has failed is sent again with the next save.
    pub(super) fn retry(&mut self) {
        if self.trouble.is_some() {
            self.sent = self.saved;
        }
    }

    /// Nothing of the board as it is goes to the disk any more.
    pub(super) fn give_up(&mut self, revision: u64) {
        (self.sent, self.saved) = (revision, revision);
        self.trouble = None;
    }

    /// Nothing waits to be saved.
    pub(super) fn rest(&mut self) {
        self.changed = None;
    }

    /// Whether `revision` has rested long enough to be saved now; told once a revision.
    pub(super) fn due(&mut self, revision: u64, now: Instant) -> bool {
        if self.is_sent(revision) {
            self.changed = None;
            return false;
        }
        match self.changed {
            Some((seen, at)) if seen == revision => now.duration_since(at) >= REST,
            _ => {
                self.changed = Some((revision, now));
                false
            }
        }
    }

    /// How long until something is due.
    pub(super) fn wait(&self, now: Instant) -> Option<Duration> {
        self.changed
            .map(|(_, at)| (at + REST).saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_is_due_once_it_has_rested() {
        let start = Instant::now();
        let ms = |n| start + Duration::from_millis(n);
        let mut autosave = Autosave::at(1);
        assert!(!autosave.due(1, ms(0)), "nothing has changed");
        assert_eq!(autosave.wait(ms(0)), None);
        assert!(!autosave.due(2, ms(0)), "just changed");
        assert!(!autosave.due(3, ms(900)), "changed again");
        assert_eq!(autosave.wait(ms(900)), Some(REST));
        assert!(autosave.due(3, ms(1900)));
        autosave.send(3, false);
        assert!(!autosave.due(3, ms(9000)), "sent once");
        assert!(!autosave.is_saved(3));
        assert!(!autosave.succeeded(3), "nobody waits");
        assert!(autosave.is_saved(3));
    }

    #[test]
    fn what_failed_is_sent_again_only_when_asked() {
        let now = Instant::now();
        let mut autosave = Autosave::at(0);
        autosave.send(1, true);
        autosave.failed("The disk is full.".to_owned(), false);
        assert!(!autosave.due(1, now), "not again by itself");
        assert_eq!(autosave.trouble(), Some("The disk is full."));
        autosave.retry();
        assert!(!autosave.is_sent(1));
        autosave.send(1, false);
        assert!(autosave.succeeded(1), "the author still waits");
        assert_eq!(autosave.trouble(), None);
    }
}
