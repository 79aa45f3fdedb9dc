//! What is made for the story: orders to the engine, and its events folded into the panels.

use std::sync::Arc;
use std::time::Instant;

use image::RgbaImage;

use super::{Glimpse, Readiness, State};
use crate::engine::{ContextPanel, Event, JobId, Make, Output, Progress, Request};
use crate::story::{Edit, PanelId, PictureTake, Record, Settings, TextTake};
use crate::studio::work::{Order, Target};

impl State {
    /// The composer's sentence becomes a panel; an empty composer continues the story.
    pub(super) fn tell(&mut self, make: Make, now: Instant) {
        self.focus_composer = true;
        let sentence = self.composer.trim().to_owned();
        if sentence.is_empty() {
            self.go_on(make, true);
            return;
        }
        self.composer.clear();
        let id = self.add_panel(sentence, now);
        self.follow(id, true);
        if make.picture() {
            let settings = self.settings_of_new();
            self.order(Order {
                target: Target::Panel(id),
                make: Make::Picture,
                settings,
                live: false,
            });
        }
    }

    pub(super) fn go_on(&mut self, make: Make, show: bool) {
        // A picture alone goes to the last panel while that has none.
        let bare = self.panels().last().filter(|p| {
            !p.text.is_empty() && p.pictures.items().is_empty() && !self.work.waits_for(p.id)
        });
        let target = match (make, bare) {
            (Make::Picture, Some(panel)) => Target::Panel(panel.id),
            _ => Target::NewPanel { show },
        };
        let settings = self.settings_of_new();
        self.order(Order {
            target,
            make,
            settings,
            live: false,
        });
    }

    /// Puts an order in the queue, or says why nothing can be made.
    pub(super) fn order(&mut self, order: Order) {
        match &self.readiness {
            Readiness::Failed(reason) => self.toasts.error(reason.clone(), Instant::now()),
            _ => self.work.push(order),
        }
    }

    pub(super) fn tell_five(&mut self, now: Instant) {
        self.focus_composer = true;
        let opened = !self.composer.trim().is_empty();
        if opened {
            self.tell(Make::Both, now);
        }
        for place in usize::from(opened)..5 {
            self.go_on(Make::Both, place == 0);
        }
    }

    pub(super) fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Loading(p) => {
                self.readiness =
                    Readiness::Loading(format!("Loading the {} ({} of {})…", p.what, p.done, p.of));
            }
            Event::Ready(description) => {
                if !self.settings_chosen {
                    let seed = self.next.seed;
                    self.next = Settings {
                        seed,
                        ..description.default_settings.clone()
                    };
                }
                self.readiness = Readiness::Ready(description);
            }
            Event::LoadFailed(reason) => {
                self.work.clear();
                self.toasts.error(reason.clone(), now);
                self.readiness = Readiness::Failed(reason);
            }
            Event::Started(_) => {}
            Event::Progress(job, Progress::TextPiece(piece)) => self.work.text_piece(job, &piece),
            Event::Progress(job, Progress::TextDone(text)) => self.work.text_done(job, text, now),
            Event::Progress(
                job,
                Progress::Step {
                    step,
                    steps,
                    preview,
                },
            ) => {
                self.work.stepped(job, step, steps, preview, now);
            }
            Event::Finished(job, output) => {
                if let Some(running) = self.work.end(job) {
                    self.finished(
                        running.panel,
                        running.live && self.live.is_held(),
                        output,
                        now,
                    );
                }
            }
            Event::Cancelled(job) => self.stopped(job, now),
            Event::Failed(job, reason) => {
                self.toasts.error(reason, now);
                self.stopped(job, now);
            }
        }
    }

    pub(super) fn finished(&mut self, id: PanelId, in_passing: bool, output: Output, now: Instant) {
        // A panel deleted in the meantime takes its results with it.
        if self.index_of(id).is_none() {
            return;
        }
        if let Some((text, record)) = output.text {
            let take = TextTake::new(text, Some(record));
            self.edit(Edit::AddText { panel: id, take }, now);
        }
        if let Some((picture, record)) = output.picture {
            if in_passing {
                self.glimpse = Some(Glimpse {
                    panel: id,
                    picture: Arc::new(picture),
                    record,
                });
            } else {
                self.glimpse = None;
                self.add_picture(id, picture, record, now);
            }
        }
        // While the slider moves on, it must not jump back to the value just drawn.
        if self.selected == Some(id) && self.live.wait(now).is_none() && !in_passing {
            self.load_settings();
        }
    }

    pub(super) fn add_picture(
        &mut self,
        id: PanelId,
        picture: RgbaImage,
        record: Record,
        now: Instant,
    ) {
        let (width, height) = picture.dimensions();
        let image = self.images.put(picture);
        let take = PictureTake::new(image, width, height, Some(record));
        self.edit(Edit::AddPicture { panel: id, take }, now);
    }

    /// A job ended without its result: the text that it had finished is kept, and a panel that
    /// it made and left empty goes.
    pub(super) fn stopped(&mut self, job: JobId, now: Instant) {
        let Some(running) = self.work.end(job) else {
            return;
        };
        let id = running.panel;
        if running.live && !self.work.has_live() && !self.live.is_held() {
            self.glimpse = None;
        }
        let Some(panel) = self.panel(id) else { return };
        let wrote = running.make.text() && running.text_done && !running.text.trim().is_empty();
        if wrote {
            let take = TextTake::new(running.text, None);
            self.edit(Edit::AddText { panel: id, take }, now);
        } else if let Some(revision) = running.made_panel_at {
            let empty = panel.text.is_empty() && panel.pictures.items().is_empty();
            if empty {
                if self.document.revision() == revision {
                    self.document.undo();
                    self.after_history();
                } else {
                    self.delete(id, now);
                }
            }
        }
    }

    pub(super) fn drop_work_of_deleted_panels(&mut self) {
        let panels = &self.document.story().panels;
        let gone = |id: PanelId| !panels.iter().any(|p| p.id == id);
        self.work.forget(gone);
        if let Some(running) = self.work.running_mut()
            && !running.cancelled
            && gone(running.panel)
        {
            running.cancelled = true;
            self.engine.cancel(running.job);
        }
    }

    pub(super) fn start_next(&mut self, now: Instant) {
        if !matches!(self.readiness, Readiness::Ready(_)) {
            return;
        }
        let Some(order) = self.work.take_next() else {
            return;
        };
        let (id, made_panel_at) = match order.target {
            Target::Panel(id) => (id, None),
            Target::NewPanel { show } => {
                // The commit keeps what is typed out of the new panel's undo step.
                self.commit(now);
                let id = self.add_panel(String::new(), now);
                self.follow(id, show);
                (id, Some(self.document.revision()))
            }
        };
        let Some(index) = self.index_of(id) else {
            return;
        };
        let text = self.text_of(id).trim().to_owned();
        let request = Request {
            context: self.context(index),
            text: (order.make == Make::Picture && !text.is_empty()).then_some(text),
            make: order.make,
            settings: order.settings.clone(),
        };
        let job = self.engine.submit(request);
        self.work.started(job, id, order, made_panel_at, now);
    }

    /// The panels before the one at `index` that say or show something.
    pub(super) fn context(&self, index: usize) -> Vec<ContextPanel> {
        self.panels()[..index]
            .iter()
            .map(|panel| ContextPanel {
                id: panel.id,
                text: self.text_of(panel.id).to_owned(),
                picture: panel
                    .pictures
                    .active()
                    .and_then(|take| self.images.get(&take.image)),
            })
            .filter(|panel| !panel.text.is_empty() || panel.picture.is_some())
            .collect()
    }
}
