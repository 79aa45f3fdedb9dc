//! What is asked of a pipeline for one panel, made of the story in one way wherever it is asked.

use std::sync::Arc;

use image::RgbaImage;

use super::VOKEN;
use crate::story::{ImageId, Images, Member, MemberId, Panel, PanelId, Settings, Story, Take as _};

/// What a request makes for a panel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Make {
    /// The text alone.
    Text,
    /// The picture alone.
    Picture,
    /// Text and picture.
    #[default]
    Both,
    /// The picture prompt of the text, without the picture.
    Prompt,
    /// What is to happen in so many panels to come.
    Plan(u32),
    /// Who and what comes back in the story so far.
    Cast,
}

impl Make {
    /// Whether a text is to be written.
    pub fn text(self) -> bool {
        matches!(self, Make::Text | Make::Both)
    }

    /// Whether a picture is to be drawn.
    pub fn picture(self) -> bool {
        matches!(self, Make::Picture | Make::Both)
    }
}

/// A panel that comes before the one to be made.
#[derive(Clone, Debug)]
pub struct ContextPanel {
    /// Id of the panel.
    pub id: PanelId,
    /// Its text.
    pub text: String,
    /// Its active picture, if it has one.
    pub picture: Option<Arc<RgbaImage>>,
}

/// What holds for all panels of a board.
#[derive(Clone, Debug, Default)]
pub struct BoardContext {
    /// Title of the story.
    pub title: String,
    /// Words about the look of all pictures.
    pub style: String,
    /// Negative prompt of all pictures.
    pub negative: String,
    /// What the writer is to keep to in all panels.
    pub direction: String,
    /// What is to happen, a line a panel.
    pub plan: Vec<String>,
    /// Characters, places and things of the story.
    pub cast: Vec<Member>,
    /// The picture prompts of the cast's pictures, of those that were drawn from one.
    pub drawn_from: Vec<(ImageId, String)>,
}

impl BoardContext {
    fn of(story: &Story) -> BoardContext {
        BoardContext {
            title: story.title.clone(),
            style: story.style.clone(),
            negative: story.negative.clone(),
            direction: story.direction.clone(),
            plan: story.plan.clone(),
            cast: story.cast.clone(),
            drawn_from: drawn_from(story),
        }
    }
}

/// An order for one panel. Construct it with [`Request::of_panel`] or `..Request::default()`, so
/// that what it may ask for can grow.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// What holds for the whole story.
    pub board: BoardContext,
    /// Where the panel stands on the board, counted from 0.
    pub place: usize,
    /// The panels before this one, in order.
    pub context: Vec<ContextPanel>,
    /// The panel's text where it is given; `None` where it is to be written.
    pub text: Option<String>,
    /// The panel's own picture where its text is to say what that shows; recipes that don't look
    /// at pictures leave it.
    pub picture: Option<Arc<RgbaImage>>,
    /// The panel's picture prompt where the author or a writer set one.
    pub prompt: Option<String>,
    /// What the writer is to keep to in this panel.
    pub direction: String,
    /// Who is in the panel where the author has said so.
    pub cast: Option<Vec<MemberId>>,
    /// With a given text and [`Make::Text`]: how to change that text, such as `shorter`.
    pub instruction: Option<String>,
    /// Texts to write, each from a seed of its own; 0 is as 1.
    pub candidates: u32,
    /// What is to be made.
    pub make: Make,
    /// How texts are sampled and pictures denoised.
    pub settings: Settings,
    /// The pictures that the settings and the cast name.
    pub images: Images,
}

impl Request {
    /// What to ask for the panel at `at` of `story`, or for one that is to come there: with all
    /// that the story says of it. The text is given where a picture or its prompt is wanted;
    /// where a text is wanted, the picture that it is to tell of ([`Panel::picture_to_describe`]).
    pub fn of_panel(
        story: &Story,
        images: &Images,
        at: usize,
        make: Make,
        mut settings: Settings,
    ) -> Request {
        // What members of the cast brought to the take before is found anew.
        settings.references.retain(|other| other.member.is_none());
        settings.loras.retain(|other| other.member.is_none());
        let context = story.panels.iter().take(at).map(|panel| ContextPanel {
            id: panel.id,
            text: panel.text.clone(),
            picture: shown(panel, images),
        });
        // An empty panel is no part of the story so far.
        let says = |panel: &ContextPanel| !panel.text.trim().is_empty() || panel.picture.is_some();
        let mut request = Request {
            board: BoardContext::of(story),
            place: at,
            context: context.filter(says).collect(),
            make,
            settings,
            images: images.clone(),
            ..Request::default()
        };
        let Some(panel) = story.panels.get(at) else {
            return request;
        };
        match make {
            Make::Picture | Make::Prompt => {
                let text = panel.text.trim();
                request.text = (!text.is_empty()).then(|| text.to_owned());
            }
            Make::Text => {
                let told_by = panel.picture_to_describe();
                request.picture = told_by.and_then(|take| images.shown(&take.image));
            }
            Make::Both | Make::Plan(_) | Make::Cast => {}
        }
        if make.picture() {
            request.prompt.clone_from(&panel.prompt);
        }
        request.direction.clone_from(&panel.direction);
        request.cast.clone_from(&panel.cast);
        request
    }

    /// The request with the panel's text to be rewritten after `instruction`.
    pub fn rewriting(self, text: &str, instruction: &str, candidates: u32) -> Request {
        Request {
            text: Some(text.trim().to_owned()),
            picture: None,
            instruction: Some(instruction.to_owned()),
            candidates,
            make: Make::Text,
            ..self
        }
    }

    /// The texts of the panels before, without those that have none.
    pub fn texts_before(&self) -> Vec<String> {
        let texts = self.context.iter().map(|panel| &panel.text);
        let texts = texts.filter(|text| !text.trim().is_empty());
        texts.cloned().collect()
    }

    /// Negative prompt, that of the board and of the settings together.
    ///
    /// ```
    /// use vokenboard::pipeline::Request;
    ///
    /// let mut request = Request::default();
    /// request.board.negative = "text".into();
    /// request.settings.negative = "blurry".into();
    /// assert_eq!(request.negative(), "text, blurry");
    /// ```
    pub fn negative(&self) -> String {
        let both = [self.board.negative.trim(), self.settings.negative.trim()];
        let given: Vec<&str> = both.into_iter().filter(|words| !words.is_empty()).collect();
        given.join(", ")
    }
}

fn drawn_from(story: &Story) -> Vec<(ImageId, String)> {
    let of_cast: Vec<&ImageId> = story.cast.iter().flat_map(|m| &m.pictures).collect();
    if of_cast.is_empty() {
        return Vec::new();
    }
    let takes = story.panels.iter().flat_map(|panel| panel.pictures.items());
    let takes = takes.filter(|take| of_cast.contains(&&take.image));
    let drawn = takes.filter_map(|take| {
        // What a voken model reads is the story, not a picture's own prompt.
        let record = take
            .record()
            .filter(|made| made.pipeline != VOKEN.as_str())?;
        let prompt = record.prompt.trim();
        (!prompt.is_empty()).then(|| (take.image.clone(), prompt.to_owned()))
    });
    drawn.collect()
}

fn shown(panel: &Panel, images: &Images) -> Option<Arc<RgbaImage>> {
    images.shown(&panel.picture()?.image)
}

/// A seed that is short enough to be read and typed again.
///
/// ```
/// assert!(vokenboard::pipeline::new_seed() < 1_000_000);
/// ```
pub fn new_seed() -> u64 {
    u64::from(rand::random::<u32>() % 1_000_000)
}

/// The seed of panel `number` (from 1) of a story that is told with `seed`: panels differ, so that
/// two alike sentences get two pictures, and a continued story is the one that was never stopped.
///
/// ```
/// assert_eq!(vokenboard::pipeline::panel_seed(4, 1), 4);
/// assert_eq!(vokenboard::pipeline::panel_seed(4, 3), 6);
/// ```
pub fn panel_seed(seed: u64, number: usize) -> u64 {
    seed.wrapping_add((number as u64).saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Document, Edit, PictureTake};
    use image::Rgba;

    #[test]
    fn a_panel_is_asked_for_with_all_that_the_story_says_of_it() {
        let images = Images::new();
        let mut document = Document::new(Story {
            negative: "text".into(),
            direction: "for children".into(),
            ..Story::default()
        });
        let [one, empty, last] = [0, 1, 2].map(|at| document.insert_panel(at));
        let picture = RgbaImage::from_pixel(4, 4, Rgba([9; 4]));
        let take = PictureTake::new(images.put(picture), 4, 4, None);
        let edits = vec![
            Edit::AddPicture { panel: one, take },
            Edit::SetText {
                panel: last,
                text: " A door. ".into(),
            },
            Edit::SetPanelDirection {
                panel: last,
                direction: "it stays shut".into(),
            },
            Edit::SetPrompt {
                panel: last,
                prompt: Some("a red door".into()),
            },
        ];
        document.apply(Edit::Together(edits)).unwrap();
        let story = document.story();
        let settings = Settings {
            negative: "blurry".into(),
            ..Settings::default()
        };
        let ask = |at, make| Request::of_panel(story, &images, at, make, settings.clone());
        let drawn = ask(2, Make::Picture);
        assert_eq!(drawn.text.as_deref(), Some("A door."));
        assert_eq!(drawn.prompt.as_deref(), Some("a red door"));
        assert_eq!(drawn.direction, "it stays shut");
        assert_eq!(drawn.negative(), "text, blurry");
        // The panel with a picture counts, the empty one doesn't.
        let context: Vec<PanelId> = drawn.context.iter().map(|panel| panel.id).collect();
        assert_eq!(context, [one]);
        assert!(drawn.texts_before().is_empty() && !context.contains(&empty));
        // A written prompt is written anew when it is asked for.
        assert_eq!(ask(2, Make::Prompt).prompt, None);
        // The first panel's text is to tell of its picture; one to come has nothing of its own.
        assert!(ask(0, Make::Text).picture.is_some());
        let next = ask(3, Make::Both);
        assert!(next.text.is_none() && next.prompt.is_none());
        assert_eq!(next.context.len(), 2);
        let rewritten = ask(2, Make::Text).rewriting("A door.", "shorter", 3);
        assert_eq!(rewritten.instruction.as_deref(), Some("shorter"));
    }
}
