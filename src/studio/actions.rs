//! What the author can do. Drawing only collects these; [`super::state::State`] carries them out.

use std::path::PathBuf;
use std::sync::Arc;

use super::casting::CastAction;
use super::dialogs::{DialogAnswer, WeightsFor};
use super::framing::FrameAction;
use super::preferences::Preferences;
use super::sheets::Sheet;
use super::work::Rewrite;
use crate::engine::Make;
use crate::pipeline::RecipeId;
use crate::story::{Edit, MemberId, PanelId, SchedulerName, Settings, TextLength};
use crate::weights::DeviceChoice;

/// What the author can do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Enter in the composer: its sentence with a picture, or both made where it is empty.
    Enter,
    /// A button of the composer: the composer's sentence, or what comes next where it is empty.
    Tell(Make),
    /// Five panels in a row.
    TellFive,
    /// A sample opening.
    Open(&'static str),
    /// A word of the model, for the composer.
    Insert(DrawableWord),

    /// Selects a panel, or none.
    Select(Option<PanelId>),
    /// Ctrl+click: one more panel is chosen, or one fewer.
    Toggle(PanelId),
    /// Shift+click: all panels from the selected one to this one.
    Extend(PanelId),
    /// Chooses all panels.
    SelectAll,
    /// Arrow keys: so many panels on.
    Step(isize),
    /// Opens a panel's picture large, or closes it.
    Enlarge(Option<PanelId>),
    /// In the viewer, beside the picture shown: this take of the panel, or none any more.
    Compare(Option<usize>),
    /// Both takes lie over each other, and the shown one ends at this share of the width; side by side at
    /// 0.
    Divide(f32),
    /// An empty panel at the end.
    AddPanel,
    /// An empty panel right behind this one, to write in.
    InsertAfter(PanelId),
    /// What comes next after this panel.
    TellAfter(PanelId),
    /// Files that were dropped on the window: a story to open, or pictures, for the panel that
    /// they were dropped on or for new ones.
    Drop(Vec<PathBuf>, Option<PanelId>),
    /// Picture files that were dropped on the sheet of a member.
    DropLooks(Vec<PathBuf>, MemberId),
    /// A picture from the clipboard, for this panel or a new one.
    Paste(Arc<egui::ColorImage>, Option<PanelId>),
    /// Copies a panel to right behind it.
    Duplicate(PanelId),
    /// Deletes a panel; undo brings it back.
    Delete(PanelId),
    /// All that are chosen, in one step of undo.
    DeleteChosen,
    /// Draws the pictures of all chosen panels anew.
    RedrawChosen,
    /// Before the panel that is at this index now.
    Move(PanelId, usize),
    /// The author types in a panel.
    Typed(PanelId, String),
    /// The author has left a text or the title.
    Committed,

    /// Makes a picture take the active one.
    PictureTake(PanelId, usize),
    /// Makes a text take the active one.
    TextTake(PanelId, usize),
    /// Marks a picture as a favourite, or no longer.
    Star(PanelId, usize, bool),
    /// Discards a take; undo brings it back.
    DeletePicture(PanelId, usize),
    /// Discards a text take; undo brings it back.
    DeleteText(PanelId, usize),
    /// Draws another picture for a panel.
    DrawPicture(PanelId),
    /// Writes another text for a panel.
    RewriteText(PanelId),
    /// The text of a panel is changed by an instruction.
    Rewrite(PanelId, Rewrite),
    /// The writer says what a picture of the panel shows.
    WritePrompt(PanelId),
    /// What is to happen in so many panels to come.
    Plan(u32),
    /// What is done with the cast.
    Cast(CastAction),
    /// What is done with a picture.
    Frame(FrameAction),
    /// A change of the story that needs nothing else.
    Apply(Box<Edit>),
    /// Changes a setting of the selected panel, or of new ones.
    Set(InspectorControl),

    /// Takes the last edit back.
    Undo,
    /// Makes an undone edit again.
    Redo,
    /// Esc, and the button of the queue.
    Cancel,

    /// Begins a new story.
    New,
    /// The window is to close.
    Close,
    /// The board is closed without what is not saved or not made yet.
    LeaveNow,
    /// The board stays open after all.
    Stay,
    /// Opens the story in a folder.
    OpenStory(PathBuf),
    /// Ours goes beside what another program made of the story.
    KeepBoth,
    /// A copy that was rescued in an earlier session is thrown away.
    ForgetRescued(usize),
    /// A sheet over the window, or none.
    Show(Option<Sheet>),
    /// Changes the preferences.
    Prefer(Box<Preferences>),
    /// Asks for the folder of new stories.
    AskFolder,
    /// Asks for a model's file.
    AskModel,
    /// Asks for a model's folder.
    AskModelFolder,
    /// Asks for a folder of models.
    AskModels,
    /// A workflow for the engine that is being added.
    AskWorkflow,
    /// A file of weights that pictures are drawn with.
    AskWeights(WeightsFor),
    /// The engine that the sheet describes.
    AddEngine,
    /// The answer of our own file chooser.
    Chosen(DialogAnswer),
    /// Closes our own file chooser without an answer.
    ChooseNothing,
    /// Asks for the story to open.
    AskOpen,
    /// A picture file for this panel, or for a new one.
    AskBring(Option<PanelId>),
    /// Saves the story.
    Save,
    /// Asks for the folder that the story is saved in.
    AskSaveAs,
    /// An exporter by its id; one of a panel exports the selected one.
    AskExport(&'static str),
    /// A panel's picture as a file.
    AskPicture(PanelId),
    /// A choice of an exporter, and the value that it is to have.
    ExportOption(&'static str, &'static str, &'static str),
    /// Loads the model on another device.
    Device(DeviceChoice),
    /// The installed model of this name, with one of its recipes.
    Model(String, Option<RecipeId>),
    /// The installed model that writes; `None` for the one that belongs to the model.
    Writer(Option<String>),
}

/// A control of the inspector.
#[derive(Clone, Debug, PartialEq)]
pub enum InspectorControl {
    /// The new value, and whether the pointer still holds the slider.
    Guidance(f32, bool),
    /// The pointer has let go of the guidance slider.
    GuidanceReleased,
    /// Denoising steps.
    Steps(u32),
    /// Seed of texts and pictures.
    Seed(u64),
    /// Draws a new seed.
    Dice,
    /// Whether each new take keeps the seed.
    LockSeed(bool),
    /// Scheduler of the denoising.
    Scheduler(SchedulerName),
    /// Temperature of the text, 0 for the likeliest tokens.
    Temperature(f32),
    /// Share of probability that tokens are drawn from, 0 to 1.
    TopP(f32),
    /// How much text to write.
    Length(Option<TextLength>),
    /// Tone and audience of the text.
    Tone(String),
    /// All of the settings, of which something about the picture is new.
    Picture(Box<Settings>),
}

/// A word that the model knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DrawableWord {
    /// A character.
    Character(String),
    /// A thing.
    Thing(String),
    /// A place.
    Place(String),
}

impl DrawableWord {
    /// The word itself.
    pub fn word(&self) -> &str {
        match self {
            DrawableWord::Character(w) | DrawableWord::Thing(w) | DrawableWord::Place(w) => w,
        }
    }

    /// The words with what joins them to a sentence that ends in `before`: "and a kite" after
    /// a word that is `known` to the model too, "in the forest" for a place.
    pub fn after(&self, before: &str, known: impl Fn(&str) -> bool) -> String {
        const JOINED: [&str; 14] = [
            "a", "an", "the", "and", "or", "with", "in", "on", "at", "by", "to", "of", "near",
            "from",
        ];
        let word = self.word();
        let before = before.trim_end();
        let last = before.rsplit(' ').next().unwrap_or("").to_ascii_lowercase();
        let starts = before.is_empty() || before.ends_with(['.', '!', '?']);
        let has_article = ["a", "an", "the"].contains(&last.as_str());
        let mut parts = Vec::new();
        match self {
            DrawableWord::Place(_) => {
                if !JOINED.contains(&last.as_str()) {
                    parts.push(match word {
                        "beach" | "moon" | "mountain" => "on",
                        "river" => "by",
                        _ => "in",
                    });
                }
                if !has_article {
                    parts.push("the");
                }
            }
            _ => {
                if !starts && known(&last) {
                    parts.push("and");
                }
                let many = word.ends_with('s') && !word.ends_with("ss");
                if !has_article && !many {
                    parts.push(if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
                        "an"
                    } else {
                        "a"
                    });
                }
            }
        }
        parts.push(word);
        let mut added = parts.join(" ");
        if starts {
            added = capitalised(&added);
        }
        if !before.is_empty() {
            added.insert(0, ' ');
        }
        added
    }
}

/// `text` with its first letter, of whatever script, as a sentence begins.
fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_join_a_sentence_with_their_article() {
        let known = |word: &str| word == "fox";
        let fox = DrawableWord::Character("fox".into());
        let owl = DrawableWord::Character("owl".into());
        let place = |word: &str| DrawableWord::Place(word.into());
        assert_eq!(fox.after("", known), "A fox");
        assert_eq!(owl.after("A fox", known), " and an owl");
        assert_eq!(owl.after("A fox and", known), " an owl");
        assert_eq!(owl.after("A fox meets the ", known), " owl");
        assert_eq!(owl.after("A fox meets", known), " an owl");
        assert_eq!(place("beach").after("A fox", known), " on the beach");
        assert_eq!(place("forest").after("A fox in", known), " the forest");
        assert_eq!(place("forest").after("It rained.", known), " In the forest");
        // A name of an author's model may begin with any letter, or be none.
        assert_eq!(
            DrawableWord::Character("\u{e9}lans".into()).after("", known),
            "\u{c9}lans"
        );
        assert_eq!(
            DrawableWord::Character(String::new()).after("A", known),
            " "
        );
    }
}
