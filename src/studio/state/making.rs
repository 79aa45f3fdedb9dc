//! What is made for the story: orders to the engine, and its events folded into the panels.

use std::sync::Arc;
use std::time::Instant;

use image::RgbaImage;

use super::{PreviewPicture, Readiness, State};
use crate::engine::{Event, JobId, Make, Output, Progress, Request};
use crate::story::{Edit, Panel, PanelId, PictureTake, Record, Settings, TextTake};
use crate::studio::sheets::Sheet;
use crate::studio::toasts::sentence;
use crate::studio::work::{JobEdits, JobTarget, QueuedJob, RunningJob};

impl State {
    /// The composer's sentence becomes a panel; an empty composer continues the story.
    pub(super) fn tell(&mut self, make: Make, now: Instant) {
        self.view.focus_composer = true;
        let sentence = self.view.composer.trim().to_owned();
        if sentence.is_empty() {
            self.go_on(make, true);
            return;
        }
        self.view.composer.clear();
        self.note_language(&sentence, now);
        // The new panel is selected, whose settings are not those that the author has chosen.
        let settings = make.picture().then(|| self.settings_of_new());
        let id = self.add_panel(sentence, self.place(), now);
        self.follow(id, true);
        if let Some(settings) = settings {
            self.order(QueuedJob {
                target: JobTarget::Panel(id),
                make: Make::Picture,
                settings,
                live: false,
                rewrite: None,
            });
        }
    }

    pub(super) fn go_on(&mut self, make: Make, show: bool) {
        let after = self.place();
        let target = match make {
            Make::Picture => match self.panel_to_draw() {
                Some(id) => JobTarget::Panel(id),
                None => {
                    let words = "There is nothing to draw yet; write a sentence first.";
                    self.toasts.note(words, Instant::now());
                    return;
                }
            },
            Make::Text => match self.panel_to_tell() {
                Some(id) => JobTarget::Panel(id),
                None => JobTarget::NewPanel { show, after },
            },
            Make::Both | Make::Prompt | Make::Plan(_) | Make::Cast => {
                JobTarget::NewPanel { show, after }
            }
        };
        let settings = self.settings_of_new();
        self.order(QueuedJob {
            target,
            make,
            settings,
            live: false,
            rewrite: None,
        });
    }

    /// A picture alone is for the last panel while that has none, else it is one more of the
    /// panel that the author is at.
    fn panel_to_draw(&self) -> Option<PanelId> {
        let drawable = |panel: &&Panel| !panel.text.trim().is_empty();
        let last = self.panels().last().filter(drawable);
        let bare = last.filter(|p| p.pictures.is_empty() && !self.work.waits_for(p.id));
        let selected = self
            .view
            .selected
            .and_then(|id| self.panel(id))
            .filter(drawable);
        bare.or(selected).or(last).map(|panel| panel.id)
    }

    /// A text alone is for the panel that the author is at, or the last one, while that has only
    /// a picture.
    fn panel_to_tell(&self) -> Option<PanelId> {
        let here = self.place().and_then(|id| self.panel(id));
        let last = here.or(self.panels().last())?;
        let bare = last.text.trim().is_empty() && !self.work.waits_for(last.id);
        (bare && last.picture().is_some()).then_some(last.id)
    }

    /// Puts an order in the queue, or says why nothing can be made.
    pub(super) fn order(&mut self, order: QueuedJob) {
        match &self.models.readiness {
            Readiness::Failed(reason) => self.toasts.error(reason.clone(), Instant::now()),
            _ => self.work.push(order),
        }
    }

    pub(super) fn tell_five(&mut self, now: Instant) {
        self.view.focus_composer = true;
        let opened = !self.view.composer.trim().is_empty();
        if opened {
            self.tell(Make::Both, now);
        }
        self.plan_ahead(5 - u32::from(opened));
        for place in usize::from(opened)..5 {
            self.go_on(Make::Both, place == 0);
        }
    }

    pub(super) fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Loading(p) => {
                self.models.readiness =
                    Readiness::Loading(format!("Loading the {} ({} of {})…", p.what, p.done, p.of));
            }
            Event::Ready(description) => {
                if !self.controls.chosen {
                    let seed = self.controls.next.seed;
                    self.controls.next = Settings {
                        seed,
                        ..description.default_settings.clone()
                    };
                }
                self.models.readiness = Readiness::Ready(Box::new(description));
            }
            Event::LoadFailed(reason) => {
                let reason = sentence(reason);
                self.work.clear();
                self.toasts.error(reason.clone(), now);
                self.models.readiness = Readiness::Failed(reason);
            }
            Event::Started(_) => {}
            Event::Progress(job, Progress::Loading(part)) => self.work.loading(job, part.what),
            Event::Progress(job, Progress::Waiting(what)) => self.work.loading(job, what),
            Event::Progress(_, Progress::Still) => {}
            Event::Progress(_, Progress::Note(words)) => self.toasts.note(sentence(words), now),
            Event::Elsewhere(job) => self.work.elsewhere(job),
            Event::Progress(job, Progress::TextPiece(piece)) => self.work.text_piece(job, &piece),
            Event::Progress(job, Progress::TextDone(text, record)) => {
                self.work.text_done(job, now);
                self.wrote(job, TextTake::new(text, Some(*record)), now);
            }
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
                    let panel = running.panel;
                    self.finished(&running, output, now);
                    if running.versions > 1 && self.view.sheet.is_none() {
                        self.view.sheet = Some(Sheet::Versions(panel));
                    }
                }
            }
            Event::Cancelled(job) => self.stopped(job, now),
            Event::Failed(job, reason) => {
                self.toasts.error(reason, now);
                self.stopped(job, now);
            }
        }
    }

    fn finished(&mut self, running: &RunningJob, output: Output, now: Instant) {
        let id = running.panel;
        // The slider may be let go on another value in the very frame in which this one is done.
        let moved_on = self.controls.live.is_held() || self.controls.live.wait(now).is_some();
        let in_passing = running.live && moved_on;
        // A panel deleted in the meantime takes its results with it.
        if self.index_of(id).is_none() {
            return;
        }
        self.worded(id, output.prompt.clone(), output.plan.clone(), now);
        if let Some(cast) = output.cast.clone() {
            self.cast_proposed(cast, now);
        }
        if let Some((picture, mut record)) = output.picture {
            // What was drawn is told by the text then, however the author changes it now.
            let written = output.text.map(|(text, _)| text);
            let text = record.text.or(written);
            record.text = text.or(running.panel_text.clone());
            if in_passing {
                self.controls.glimpse = Some(PreviewPicture {
                    panel: id,
                    picture: Arc::new(picture),
                    record,
                });
            } else {
                self.controls.glimpse = None;
                let take = self.picture_take(id, picture, Some(record));
                let made = self.join(running.made.clone(), take, now);
                let newcomers = self.board.document.newcomers(output.newcomers);
                if !newcomers.is_empty() {
                    self.join(Some(made), Edit::Together(newcomers), now);
                }
            }
        }
        // While the slider moves on, it must not jump back to the value just drawn.
        if self.view.selected == Some(id) && self.controls.live.wait(now).is_none() && !in_passing {
            self.load_settings();
        }
    }

    /// A whole text is put into its panel at once, before its picture is drawn: the author can go
    /// on with it, and it stays when the picture is cancelled.
    fn wrote(&mut self, job: JobId, take: TextTake, now: Instant) {
        let Some(running) = self.work.job(job) else {
            return;
        };
        let (panel, made) = (running.panel, running.made.clone());
        if self.index_of(panel).is_none() {
            return;
        }
        let made = self.join(made, Edit::AddText { panel, take }, now);
        if let Some(running) = self.work.job_mut(job) {
            running.made = Some(made);
        }
    }

    /// One step of undo takes back all that came of one wish: `edit` joins what the job has
    /// `made`, if nothing else was done since.
    fn join(&mut self, made: Option<JobEdits>, edit: Edit, now: Instant) -> JobEdits {
        let mut edits = Vec::new();
        if let Some(made) = made.filter(|made| made.at == self.board.document.revision())
            && self.board.document.undo()
        {
            edits = made.edits;
        }
        edits.push(edit);
        self.edit(Edit::Together(edits.clone()), now);
        let at = self.board.document.revision();
        JobEdits { at, edits }
    }

    /// The edit that gives the panel this picture; one of the author's own has no record.
    pub(super) fn picture_take(
        &self,
        panel: PanelId,
        picture: RgbaImage,
        record: Option<Record>,
    ) -> Edit {
        let take = PictureTake::of(picture, record, &self.board.images);
        Edit::AddPicture { panel, take }
    }

    /// A job ended without its result: a panel that it made and left empty goes.
    pub(super) fn stopped(&mut self, job: JobId, now: Instant) {
        let Some(running) = self.work.end(job) else {
            return;
        };
        let id = running.panel;
        if running.live && !self.work.has_live() && !self.controls.live.is_held() {
            self.controls.glimpse = None;
        }
        let Some(panel) = self.panel(id) else { return };
        let empty = panel.is_empty();
        if let Some(made) = running.made.filter(|_| empty) {
            if self.board.document.revision() == made.at {
                self.board.document.take_back();
                self.after_history();
            } else {
                self.delete(&[id], now);
            }
        }
    }

    pub(super) fn drop_work_of_deleted_panels(&mut self) {
        let panels = &self.board.document.story().panels;
        let gone = |id: PanelId| !panels.iter().any(|p| p.id == id);
        self.work.forget(gone);
        let engine = &self.engine;
        for running in self.work.all_mut() {
            if !running.cancelled && gone(running.panel) {
                running.cancelled = true;
                engine.cancel(running.job);
            }
        }
    }

    pub(super) fn start_next(&mut self, now: Instant) {
        let Readiness::Ready(description) = &self.models.readiness else {
            return;
        };
        let (at_once, sees) = (description.at_once, description.writer.sees);
        let Some(order) = self.work.take_next(at_once, sees) else {
            return;
        };
        let (id, made) = match order.target {
            JobTarget::Panel(id) => (id, None),
            JobTarget::NewPanel { show, after } => {
                // The commit keeps what is typed out of the new panel's undo step.
                self.commit(now);
                let id = self.add_panel(String::new(), after, now);
                self.follow(id, show);
                let edits = self.index_of(id).map(|at| Edit::InsertPanel {
                    at,
                    panel: Panel::empty(id),
                });
                let made = JobEdits {
                    at: self.board.document.revision(),
                    edits: edits.into_iter().collect(),
                };
                (id, Some(made))
            }
        };
        let Some(index) = self.index_of(id) else {
            return;
        };
        let settings = order.settings.clone();
        let at = match order.make {
            // A plan is of the panels behind all that are there, a cast of all of them.
            Make::Plan(_) | Make::Cast => self.panels().len(),
            _ => index,
        };
        let mut request =
            Request::of_panel(self.story(), &self.board.images, at, order.make, settings);
        if let Some(rewrite) = &order.rewrite {
            let text = self.text_of(id).to_owned();
            request = request.rewriting(&text, &rewrite.instruction, rewrite.candidates);
        }
        let text = request.text.clone();
        // The inspector shows what the picture in the making is made with.
        if self.view.selected == Some(id) && order.make.picture() && !self.controls.seed_chosen {
            self.controls.panel.seed = order.settings.seed;
        }
        let job = self.engine.submit(request);
        self.work.started(job, id, order, text, made, now);
    }
}
