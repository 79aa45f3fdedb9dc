//! Runs the engine for a command: one job at a time, and where engines elsewhere draw as many
//! pictures as they can at once.

use std::collections::VecDeque;

use anyhow::{anyhow, bail};

use super::options::ModelArgs;
use super::report::Reporter;
use crate::engine::{Description, Engine, Event, JobId, Output, Progress, Request};
use crate::story::Record;

/// An engine with its model loaded, and the reporter that hears of its events.
pub(super) struct EngineSession {
    engine: Engine,
    pub description: Description,
    pub reporter: Reporter,
    /// Jobs that only engines elsewhere work on, with their panels' numbers from 1.
    elsewhere: Vec<(JobId, usize)>,
    /// Those that have ended and were not taken in.
    ended: VecDeque<(JobId, anyhow::Result<Output>)>,
}

/// How far a panel came before the next may begin.
pub(super) enum PanelStarted {
    Done(Box<Output>),
    /// Its picture is drawn elsewhere; the text where one was written.
    Elsewhere(JobId, Option<Box<(String, Record)>>),
}

impl EngineSession {
    /// Loads the model and waits until it is ready.
    ///
    /// # Errors
    /// When the model cannot be loaded.
    pub(super) fn start(
        model: &ModelArgs,
        mut reporter: Reporter,
    ) -> anyhow::Result<EngineSession> {
        let engine = Engine::spawn(model.loader(), Box::new(|| {}));
        loop {
            match engine.wait() {
                Event::Loading(progress) => reporter.loading(&progress),
                Event::Ready(description) => {
                    return Ok(EngineSession {
                        engine,
                        description,
                        reporter,
                        elsewhere: Vec::new(),
                        ended: VecDeque::new(),
                    });
                }
                Event::LoadFailed(reason) => bail!(reason),
                _ => {}
            }
        }
    }

    /// Whether another panel can be begun while pictures are drawn elsewhere. A writer that sees
    /// waits for the pictures before.
    pub(super) fn has_room(&self) -> bool {
        let sees = self.description.writer.sees && !self.elsewhere.is_empty();
        self.elsewhere.len() < self.description.at_once.max(1) && !sees
    }

    /// Makes panel `number` of the story (from 1) as far as the engine's own thread is needed.
    ///
    /// # Errors
    /// When the pipeline fails.
    pub(super) fn begin(
        &mut self,
        number: usize,
        request: Request,
    ) -> anyhow::Result<PanelStarted> {
        let job = self.engine.submit(request);
        self.elsewhere.push((job, number));
        let mut written = None;
        loop {
            let event = self.engine.wait();
            match &event {
                Event::Started(id) if *id == job => self.reporter.panel_started(number),
                Event::Elsewhere(id) if *id == job => {
                    return Ok(PanelStarted::Elsewhere(job, written));
                }
                Event::Progress(id, Progress::TextDone(text, record)) if *id == job => {
                    written = Some(Box::new((text.clone(), (**record).clone())));
                }
                _ => {}
            }
            self.handle(event)?;
            if let Some(at) = self.ended.iter().position(|(id, _)| *id == job) {
                let (_, output) = self.ended.remove(at).expect("it was just found");
                return output.map(|output| PanelStarted::Done(Box::new(output)));
            }
        }
    }

    /// A job that was left elsewhere and has ended, waiting for one; `None` where there is none.
    pub(super) fn next_ended(&mut self) -> anyhow::Result<Option<(JobId, anyhow::Result<Output>)>> {
        while self.ended.is_empty() {
            if self.elsewhere.is_empty() {
                return Ok(None);
            }
            let event = self.engine.wait();
            self.handle(event)?;
        }
        Ok(self.ended.pop_front())
    }

    fn handle(&mut self, event: Event) -> anyhow::Result<()> {
        let panel = |id: JobId| self.elsewhere.iter().find(|(job, _)| *job == id);
        match event {
            Event::Progress(id, progress) => {
                if let Some((_, number)) = panel(id) {
                    self.reporter.progress(*number, &progress);
                }
            }
            Event::Finished(id, output) => self.end(id, |_| Ok(output)),
            Event::Failed(id, reason) => {
                self.end(id, |number| Err(anyhow!("panel {number}: {reason}")));
            }
            // Nobody cancels here, so only a stopped engine ends a job otherwise.
            Event::Cancelled(_) | Event::LoadFailed(_) => {
                bail!("the engine has stopped; start the command again")
            }
            _ => {}
        }
        Ok(())
    }

    fn end(&mut self, id: JobId, result: impl FnOnce(usize) -> anyhow::Result<Output>) {
        if let Some(at) = self.elsewhere.iter().position(|(job, _)| *job == id) {
            let (_, number) = self.elsewhere.remove(at);
            self.ended.push_back((id, result(number)));
        }
    }
}
