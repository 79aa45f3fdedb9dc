//! What the author of a command sees while it works: bars on a terminal, lines in a log, or one
//! JSON object per event for a program.

use std::io::{IsTerminal, Write, stdout};
use std::path::Path;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::pipeline::{Description, LoadProgress, Progress};

/// A finished panel, as it is reported.
pub(super) struct PanelDone<'a> {
    /// From 1.
    pub panel: usize,
    pub text: &'a str,
    /// Hash of the picture, if one was made.
    pub image: Option<&'a str>,
    /// Where it was drawn.
    pub device: Option<&'a str>,
    pub seed: u64,
    pub seconds: f32,
}

/// A path for JSON, which has no other text than Unicode.
pub(super) fn plain(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// Tells how a command goes.
pub(super) struct Reporter {
    style: Style,
    started: Instant,
}

enum Style {
    Json,
    Lines,
    Bars(Bars),
}

struct Bars {
    all: MultiProgress,
    panels: ProgressBar,
    text: ProgressBar,
    steps: ProgressBar,
    written: String,
}

impl Reporter {
    /// `panels`: how many will be made.
    pub(super) fn new(json: bool, panels: usize) -> Reporter {
        let style = if json {
            Style::Json
        } else if std::io::stderr().is_terminal() && stdout().is_terminal() {
            Style::Bars(Bars::new(panels as u64))
        } else {
            Style::Lines
        };
        Reporter {
            style,
            started: Instant::now(),
        }
    }

    pub(super) fn loading(&mut self, progress: &LoadProgress) {
        let LoadProgress { what, done, of } = progress;
        match &mut self.style {
            Style::Json => line(&json!({"event": "loading", "what": what, "done": done, "of": of})),
            Style::Lines => {}
            Style::Bars(bars) => bars.text.set_message(format!("loading {what}")),
        }
    }

    /// What of the author's text the model cannot draw, and the language where it knows another;
    /// `writes` where it writes the texts, too.
    pub(super) fn unknown(
        &mut self,
        model: &str,
        words: &[String],
        language: Option<&str>,
        writes: bool,
    ) {
        if let Style::Json = self.style {
            if !words.is_empty() || language.is_some() {
                line(&json!({"event": "unknown", "words": words, "language": language}));
            }
            return;
        }
        if !words.is_empty() {
            eprintln!("{model} does not know: {}", words.join(", "));
        }
        if let Some(language) = language {
            let subject = if writes {
                "it goes on in English, and"
            } else {
                "it"
            };
            eprintln!("{model} knows English only: {subject} draws little of a text in {language}");
        }
    }

    /// What a model that draws from the library draws for the nouns of a text.
    pub(super) fn drawn_as(&mut self, model: &str, words: &str) {
        match self.style {
            Style::Json => line(&json!({"event": "drawn-as", "words": words})),
            _ => eprintln!("{model} draws {words}"),
        }
    }

    /// What of the settings of another model's take `model` has in its own way.
    pub(super) fn adapted(&self, model: &str, settings: &[String]) {
        match self.style {
            Style::Json => line(&json!({"event": "adapted", "settings": settings})),
            _ => eprintln!(
                "{model} can't take all settings of the picture before: it draws with {}",
                settings.join(", ")
            ),
        }
    }

    pub(super) fn ready(&mut self, description: &Description, seed: u64) {
        let Description {
            model,
            pipeline,
            weights,
            device,
            ..
        } = description;
        match &mut self.style {
            Style::Json => line(&json!({
                "event": "ready", "model": model, "pipeline": pipeline, "weights": weights,
                "device": device, "seed": seed,
            })),
            Style::Lines => print_line(&format!("{model} on {device}, seed {seed}")),
            Style::Bars(bars) => {
                bars.above(&format!("{model} on {device}, seed {seed}"));
                bars.text.set_message("");
            }
        }
    }

    /// Panel `panel` (from 1) is begun.
    pub(super) fn panel_started(&mut self, panel: usize) {
        match &mut self.style {
            Style::Json => line(&json!({"event": "panel_started", "panel": panel})),
            Style::Lines => {}
            Style::Bars(bars) => {
                bars.written.clear();
                bars.text.set_message("");
                bars.text.set_position(0);
                bars.steps.set_position(0);
            }
        }
    }

    pub(super) fn progress(&mut self, panel: usize, progress: &Progress) {
        match (&mut self.style, progress) {
            (Style::Json, Progress::TextPiece(piece)) => {
                line(&json!({"event": "text_piece", "panel": panel, "piece": piece}));
            }
            (Style::Json, Progress::TextDone(text, _)) => {
                line(&json!({"event": "text_done", "panel": panel, "text": text}));
            }
            (Style::Json, Progress::Step { step, steps, .. }) => {
                line(&json!({"event": "step", "panel": panel, "step": step, "steps": steps}));
            }
            (Style::Json, Progress::Loading(LoadProgress { what, done, of })) => {
                line(
                    &json!({"event": "loading", "panel": panel, "what": what, "done": done, "of": of}),
                );
            }
            (Style::Bars(bars), Progress::Loading(loading)) => {
                bars.text.set_message(format!("loading {}", loading.what));
            }
            (Style::Json, Progress::Waiting(what)) => {
                line(&json!({"event": "waiting", "panel": panel, "what": what}));
            }
            (Style::Json, Progress::Note(words)) => {
                line(&json!({"event": "note", "panel": panel, "words": words}));
            }
            (Style::Lines, Progress::Note(words)) => {
                eprintln!("vokenboard: panel {panel}: {words}");
            }
            (Style::Bars(bars), Progress::Note(words)) => {
                bars.above(&format!("panel {panel}: {words}"));
            }
            (Style::Lines, _) | (_, Progress::Still) => {}
            (Style::Bars(bars), Progress::Waiting(what)) => bars.text.set_message(what.clone()),
            (Style::Bars(bars), Progress::TextPiece(piece)) => {
                bars.written.push_str(piece);
                bars.text.inc(1);
                bars.text.set_message(bars.written.clone());
            }
            (Style::Bars(bars), Progress::TextDone(text, _)) => bars.text.set_message(text.clone()),
            (Style::Bars(bars), Progress::Step { step, steps, .. }) => {
                bars.steps.set_length(u64::from(*steps));
                bars.steps.set_position(u64::from(*step));
            }
        }
    }

    /// What is to happen from panel `first` (from 1) on, a line a panel.
    pub(super) fn planned(&mut self, first: usize, lines: &[String]) {
        if let Style::Json = &self.style {
            line(&json!({"event": "planned", "first": first, "plan": lines}));
            return;
        }
        for (number, planned) in (first..).zip(lines) {
            let text = format!("planned {number}. {planned}");
            match &self.style {
                Style::Bars(bars) => bars.above(&text),
                _ => print_line(&text),
            }
        }
    }

    pub(super) fn panel_done(&mut self, done: &PanelDone) {
        let PanelDone {
            panel,
            text,
            image,
            device,
            seed,
            seconds,
        } = done;
        match &mut self.style {
            Style::Json => line(&json!({
                "event": "panel_done", "panel": panel, "text": text, "image": image,
                "device": device, "seed": seed, "seconds": seconds,
            })),
            Style::Lines => {
                let at = device.map(|device| format!(", {device}"));
                let at = at.unwrap_or_default();
                print_line(&format!(
                    "{panel}. {text} (seed {seed}, {seconds:.1} s{at})"
                ));
            }
            Style::Bars(bars) => {
                bars.panels.inc(1);
                bars.above(&format!("{panel}. {text}"));
            }
        }
    }

    /// The last event: `sentence` says what was done, `files` what was written.
    pub(super) fn done(&mut self, sentence: &str, files: &Value) {
        let seconds = self.started.elapsed().as_secs_f32();
        match &mut self.style {
            Style::Json => line(&json!({"event": "done", "files": files, "seconds": seconds})),
            Style::Lines => print_line(&format!("{sentence} in {seconds:.1} s")),
            Style::Bars(bars) => {
                bars.above(&format!("{sentence} in {seconds:.1} s"));
                for bar in [&bars.panels, &bars.text, &bars.steps] {
                    bar.finish_and_clear();
                }
            }
        }
    }
}

impl Bars {
    fn new(panels: u64) -> Bars {
        let all = MultiProgress::new();
        let add = |length, template| {
            let bar = all.add(ProgressBar::new(length));
            // The templates are constants; the tests build every one of them.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("━━╌"));
            }
            bar
        };
        let [panels_style, text_style, steps_style] = TEMPLATES;
        Bars {
            panels: add(panels, panels_style),
            text: add(0, text_style),
            steps: add(1, steps_style),
            written: String::new(),
            all,
        }
    }

    fn above(&self, text: &str) {
        // A terminal that has gone away leaves nothing to tell and nobody to tell it to.
        let _ = self.all.println(text);
    }
}

const TEMPLATES: [&str; 3] = [
    "panels {bar:32} {pos}/{len}  {elapsed}",
    "text   {pos:>3} tokens  {wide_msg}",
    "steps  {bar:32} {pos}/{len}",
];

fn line(value: &Value) {
    print_line(&value.to_string());
}

/// Writes a line; a reader that has gone away is no reason to stop making the story.
pub(super) fn print_line(text: &str) {
    let mut out = stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bar_has_a_template_that_parses() {
        for template in TEMPLATES {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
