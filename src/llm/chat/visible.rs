//! What of an answer is shown: no thoughts, no channels but the final one, and nothing from a stop
//! sequence on. Works on text, so that it holds for every model and for engines elsewhere.

use super::TAKEN_BACK;

/// Marks between which a model thinks.
const THOUGHTS: [(&str, &str); 6] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("[THINK]", "[/THINK]"),
];
/// gpt-oss's marks: a channel's name, the message in it, and what ends that.
const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
const ENDS: [&str; 4] = ["<|end|>", "<|return|>", "<|call|>", "<|start|>"];
/// Marks between turns as models write them out in letters, which end an answer too.
const TURNS: [&str; 12] = [
    "<|im_end|>",
    "<|im_start|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|endoftext|>",
    "<end_of_turn>",
    "<start_of_turn>",
    "</s>",
    "[INST]",
    "[/INST]",
    "<|user|>",
    "<|assistant|>",
];
const FINAL: &str = "final";

/// Takes an answer piece by piece and gives what may be shown of it.
#[derive(Clone, Debug)]
pub struct VisibleText {
    state: ParserState,
    /// Text that may be the beginning of a mark.
    waiting: String,
    /// All that was shown.
    shown: String,
    stops: Vec<String>,
    stopped: bool,
    /// Whether all that was shown turned out to be a thought.
    taken_back: bool,
    /// Whether white space is passed over: it stands between a thought and the answer.
    after_thought: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ParserState {
    Shown,
    /// Until this text.
    Thought(&'static str),
    /// A channel's name, as far as it was read.
    Channel(String),
    /// A message in a channel that is not shown, or what stands between two messages.
    Hidden,
}

impl VisibleText {
    /// `prompt` is what the model goes on from: it may have opened a thought. The answer ends at
    /// one of `stops`.
    pub fn new(prompt: &str, stops: &[String]) -> VisibleText {
        let text = prompt.trim_end();
        let open = THOUGHTS.iter().find(|(open, _)| text.ends_with(open));
        let state = match open {
            Some((_, close)) => ParserState::Thought(close),
            None if text.ends_with("<|start|>assistant") => ParserState::Hidden,
            None => ParserState::Shown,
        };
        let stops = stops.iter().filter(|stop| !stop.is_empty());
        VisibleText {
            state,
            waiting: String::new(),
            shown: String::new(),
            stops: stops.cloned().collect(),
            stopped: false,
            taken_back: false,
            after_thought: false,
        }
    }

    /// The part of the answer that `piece` lets be shown; where that replaces what was shown before,
    /// [`TAKEN_BACK`] begins it.
    pub fn push(&mut self, piece: &str) -> String {
        self.waiting.push_str(piece);
        let before = self.shown.len();
        while !self.stopped && self.step() {}
        match std::mem::take(&mut self.taken_back) {
            true => format!("{TAKEN_BACK}{}", self.shown),
            false => self.shown[before..].to_string(),
        }
    }

    /// Whether a stop sequence came.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Whether nothing of what comes now would be shown: the model thinks.
    pub fn is_hidden(&self) -> bool {
        self.state != ParserState::Shown
    }

    /// All that may be shown, now that the answer is over.
    pub fn finish(mut self) -> String {
        if !self.stopped {
            // What waited for the rest of a mark is text after all, but for the mark of gpt-oss.
            let rest = std::mem::take(&mut self.waiting);
            if self.state == ParserState::Shown && !starts_mark(&rest) {
                self.shown.push_str(&rest);
            }
        }
        self.shown
    }

    /// Takes the next part of what waits; `false` when there is nothing to take.
    fn step(&mut self) -> bool {
        match self.state.clone() {
            ParserState::Shown => self.step_shown(),
            ParserState::Thought(close) => match self.waiting.find(close) {
                Some(at) => {
                    self.waiting.drain(..at + close.len());
                    self.after_thought = true;
                    self.state = ParserState::Shown;
                    true
                }
                None => {
                    self.keep_tail(&[close]);
                    false
                }
            },
            ParserState::Channel(mut name) => match self.waiting.find(MESSAGE) {
                Some(at) => {
                    name.push_str(&self.waiting[..at]);
                    self.waiting.drain(..at + MESSAGE.len());
                    let shown = name.trim_start().starts_with(FINAL);
                    self.state = if shown {
                        ParserState::Shown
                    } else {
                        ParserState::Hidden
                    };
                    true
                }
                None => {
                    let keep = tail(&self.waiting, &[MESSAGE]);
                    let taken = self.waiting.len() - keep;
                    name.extend(self.waiting.drain(..taken));
                    self.state = ParserState::Channel(name);
                    false
                }
            },
            ParserState::Hidden => match self.waiting.find(CHANNEL) {
                Some(at) => {
                    self.waiting.drain(..at + CHANNEL.len());
                    self.state = ParserState::Channel(String::new());
                    true
                }
                None => {
                    self.keep_tail(&[CHANNEL]);
                    false
                }
            },
        }
    }

    fn step_shown(&mut self) -> bool {
        if self.after_thought {
            let rest = self.waiting.trim_start().len();
            self.waiting.drain(..self.waiting.len() - rest);
            self.after_thought = self.waiting.is_empty();
        }
        let opens = THOUGHTS.iter().map(|(open, _)| *open);
        let closes = THOUGHTS.iter().map(|(_, close)| *close);
        let marks = opens
            .chain(closes)
            .chain(ENDS)
            .chain(TURNS)
            .chain([CHANNEL]);
        let marks: Vec<&str> = marks.collect();
        let stops: Vec<String> = self.stops.clone();
        let all: Vec<&str> = marks
            .iter()
            .copied()
            .chain(stops.iter().map(String::as_str))
            .collect();
        let first = all
            .iter()
            .filter_map(|mark| Some((self.waiting.find(mark)?, *mark)))
            .min_by_key(|(at, mark)| (*at, std::cmp::Reverse(mark.len())));
        let Some((at, mark)) = first else {
            let keep = tail(&self.waiting, &all);
            let taken = self.waiting.len() - keep;
            self.shown.extend(self.waiting.drain(..taken));
            return false;
        };
        self.shown.extend(self.waiting.drain(..at));
        self.waiting.drain(..mark.len());
        if mark == CHANNEL {
            self.state = ParserState::Channel(String::new());
        } else if ENDS.contains(&mark) || TURNS.contains(&mark) || stops.iter().any(|s| s == mark) {
            self.stopped = true;
        } else if let Some((_, close)) = THOUGHTS.iter().find(|(open, _)| *open == mark) {
            self.state = ParserState::Thought(close);
        } else {
            // A thought is closed that was never opened: all before it was thought.
            self.taken_back |= !self.shown.is_empty();
            self.shown.clear();
            self.after_thought = true;
        }
        true
    }

    /// Forgets what waits but for what may begin one of `marks`.
    fn keep_tail(&mut self, marks: &[&str]) {
        let keep = tail(&self.waiting, marks);
        self.waiting.drain(..self.waiting.len() - keep);
    }
}

/// Whether `text` is the beginning of one of the model's own marks, longer than a letter.
fn starts_mark(text: &str) -> bool {
    let marks = THOUGHTS.iter().flat_map(|(open, close)| [*open, *close]);
    let mut marks = marks.chain(ENDS).chain(TURNS).chain([CHANNEL]);
    text.len() > 1 && marks.any(|mark| mark.starts_with(text))
}

/// Length of the longest end of `text` that begins one of `marks`.
fn tail(text: &str, marks: &[&str]) -> usize {
    let starts = text.char_indices().map(|(at, _)| at);
    let begins = |at: &usize| marks.iter().any(|mark| mark.starts_with(&text[*at..]));
    let longest = marks.iter().map(|mark| mark.len()).max().unwrap_or(0);
    let mut near = starts.filter(|at| text.len() - at <= longest);
    near.find(begins).map_or(0, |at| text.len() - at)
}
