//! What a request comes to before its picture is drawn.

use std::time::Instant;

use crate::pipeline::painter::{Brief, Painter};
use crate::pipeline::{Output, PipelineError, Progress, Sink, frame};
use crate::story::{Member, Record, Size};

/// A request before its picture is drawn.
pub(super) enum Prepared {
    /// There is none to draw; `None` is cancelled.
    Ended(Box<Option<Output>>),
    Picture(Box<(Output, PreparedPicture)>),
}

impl Prepared {
    pub(super) fn ended(output: Option<Output>) -> Prepared {
        Prepared::Ended(Box::new(output))
    }
}

/// A picture that is to be drawn: its brief, and its record but for what drawing tells.
pub(super) struct PreparedPicture {
    pub brief: Brief,
    /// Its size where one was chosen.
    pub size: Option<Size>,
    pub record: Record,
    /// Who is drawn from the library and not in the cast yet.
    pub newcomers: Vec<Member>,
    pub started: Instant,
}

impl PreparedPicture {
    /// `output` with the picture; `None` when cancelled.
    pub(super) fn draw(
        self,
        painter: &mut dyn Painter,
        output: Output,
        sink: &mut Sink,
    ) -> Result<Option<Output>, PipelineError> {
        for note in painter.notes(&self.brief) {
            if sink(Progress::Note(note)).is_break() {
                return Ok(None);
            }
        }
        let Some(drawn) = frame::draw(painter, &self.brief, self.size, sink)? else {
            return Ok(None);
        };
        let mut record = self.record;
        record.seconds = self.started.elapsed().as_secs_f32();
        record.graph = drawn.graph;
        if let Some(by) = drawn.by {
            (record.model, record.weights, record.device) = (by.model, by.weights, by.device);
        }
        Ok(Some(Output {
            picture: Some((drawn.picture, record)),
            newcomers: self.newcomers,
            ..output
        }))
    }
}
