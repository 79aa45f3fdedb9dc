//! The studio without its window: what the author does, what the engine and the disk answer.

mod instructed;
mod saving;
mod work;

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::studio_support::{Answers, Hold, parts};
use vokenboard::engine::{Loader, Make, PipelineError};
use vokenboard::story::{Document, Images, PictureTake, Project};
use vokenboard::studio::actions::{Action, InspectorControl};
use vokenboard::studio::state::{Readiness, State};

struct Desk {
    state: State,
    answers: Answers,
    hold: Hold,
    temp: tempfile::TempDir,
}

fn desk(pace: u64) -> Desk {
    let temp = tempfile::tempdir().unwrap();
    let (parts, answers, hold) = parts(temp.path().join("projects"), Duration::from_millis(pace));
    Desk {
        state: State::new(parts),
        answers,
        hold,
        temp,
    }
}

/// The same with a pipeline of the test's own.
fn desk_with(loader: fn() -> Loader) -> Desk {
    let temp = tempfile::tempdir().unwrap();
    let (mut parts, answers, hold) = parts(temp.path().join("projects"), Duration::ZERO);
    parts.loader_for = Arc::new(move |_| loader());
    Desk {
        state: State::new(parts),
        answers,
        hold,
        temp,
    }
}

impl Desk {
    fn does(&mut self, action: Action) {
        self.state.perform(action, Instant::now());
    }

    fn until(&mut self, what: &str, done: impl Fn(&State) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !done(&self.state) {
            assert!(Instant::now() < end, "not in time: {what}");
            self.state.tick(Instant::now());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn idle(&mut self) {
        self.until("idle", |s| s.work.is_idle());
    }

    fn writes(&mut self, text: &str) {
        self.state.view.composer = text.to_owned();
        self.does(Action::Enter);
    }

    fn says(&self, part: &str) -> bool {
        let toasts = self.state.toasts.all();
        toasts.iter().any(|toast| toast.sentence.contains(part))
    }
}
