//! What the author does with a picture: tools in the viewer, and pictures drawn from pictures.

use std::time::Instant;

use image::RgbaImage;

use super::State;
use crate::engine::Make;
use crate::pipeline::frame::edges;
use crate::pipeline::painter::Capabilities;
use crate::story::{
    Control, Edit, FileUse, ImageId, InitImage, Margins, PanelId, PictureTake, Record, Region,
    Retouch, Retouched, Settings, Size, Upscale, Variation,
};
use crate::studio::canvas::{Brush, MaskCanvas};
use crate::studio::dialogs::{DialogRequest, ImportRole};
use crate::studio::framing::{FrameAction, PictureUse, Tool};
use crate::studio::live::PreviewSlider;
use crate::studio::work::{JobTarget, QueuedJob};

/// Variations that are drawn with one click.
const VARIATIONS: u64 = 4;
/// Pixels around a mask that are drawn with it, and those over which its edge fades.
const PADDING: u32 = 64;
const FEATHER: u32 = 8;
/// How much of a picture a second pass draws anew.
const SECOND_PASS: f32 = 0.3;

/// The tool in hand, and what the frame's controls stand at.
pub struct Framing {
    pub tool: Option<Tool>,
    /// What is painted with it.
    pub canvas: Option<MaskCanvas>,
    pub brush: Brush,
    /// Only what lies around the mask is drawn, enlarged.
    pub enlarged: bool,
    /// Left, top, right and bottom of what is framed, in pixels.
    pub framed: Option<[u32; 4]>,
    pub sides: Margins,
    /// A picture of the author's to begin from, for a panel.
    source: Option<(PanelId, ImageId)>,
    pub strength: f32,
    pub variation: f32,
    /// The kind of control picture that is chosen next; empty for the painter's first.
    kind: String,
    /// The file of a ControlNet.
    pub controlnet: String,
    pub scale: f32,
    /// The file of an upscaler; empty for none.
    pub upscaler: String,
}

impl Default for Framing {
    fn default() -> Framing {
        Framing {
            tool: None,
            canvas: None,
            brush: Brush::default(),
            enlarged: true,
            framed: None,
            sides: Margins::default(),
            source: None,
            strength: 0.6,
            variation: 0.2,
            kind: String::new(),
            controlnet: String::new(),
            scale: 2.0,
            upscaler: String::new(),
        }
    }
}

impl Framing {
    /// The hand is empty again; what the controls stand at stays.
    pub fn drop_tool(&mut self) {
        self.tool = None;
        self.canvas = None;
        self.framed = None;
        self.sides = Margins::default();
    }

    /// Whether strokes are painted, so that undo takes back those.
    pub fn is_painting(&self) -> bool {
        self.canvas.is_some()
    }

    /// Whether the author chose a picture of their own to begin from.
    pub fn has_source(&self, id: PanelId) -> bool {
        self.source.as_ref().is_some_and(|(panel, _)| *panel == id)
    }

    /// The kind of the next control picture.
    pub fn control_kind<'a>(&'a self, takes: &'a Capabilities) -> &'a str {
        match takes.control.contains(&self.kind) {
            true => &self.kind,
            false => takes.control.first().map_or("", String::as_str),
        }
    }
}

/// What these settings began from stays out of the next picture, unless it is asked for.
pub(super) fn without_frame(settings: Settings) -> Settings {
    Settings {
        init: None,
        mask: None,
        region: None,
        outpaint: None,
        upscale: None,
        variation: None,
        ..settings
    }
}

impl State {
    /// What the painter takes, once there is one.
    pub fn takes(&self) -> Option<&Capabilities> {
        match &self.models.readiness {
            super::Readiness::Ready(about) => Some(&about.takes),
            _ => None,
        }
    }

    /// The picture that the next one of the panel begins from: one that the author chose, what
    /// the take shown began from itself, or that take.
    pub fn source_of(&self, id: PanelId) -> Option<ImageId> {
        if let Some((_, image)) = self
            .framing
            .source
            .as_ref()
            .filter(|(panel, _)| *panel == id)
        {
            return Some(image.clone());
        }
        let take = self.panel(id)?.picture()?;
        let made = take.record.as_ref().map(|record| &record.settings);
        let begun = made.filter(|made| {
            made.mask.is_none() && made.outpaint.is_none() && made.upscale.is_none()
        });
        let begun = begun.and_then(|made| made.init.as_ref());
        Some(begun.map_or(&take.image, |init| &init.image).clone())
    }

    pub(super) fn frame(&mut self, action: FrameAction, now: Instant) {
        let canvas = &mut self.framing.canvas;
        match action {
            FrameAction::Take(id, tool) => self.take_tool(id, tool),
            FrameAction::Brush(brush) => self.framing.brush = brush,
            FrameAction::Stroke(at) => {
                let brush = self.framing.brush;
                if let Some(canvas) = canvas {
                    canvas.stroke(at, brush);
                }
            }
            FrameAction::Lift => canvas.iter_mut().for_each(MaskCanvas::lift),
            FrameAction::UndoStroke => canvas.iter_mut().for_each(MaskCanvas::undo),
            FrameAction::Invert => canvas.iter_mut().for_each(MaskCanvas::invert),
            FrameAction::Clear => canvas.iter_mut().for_each(MaskCanvas::clear),
            FrameAction::Framed(framed) => self.framing.framed = framed,
            FrameAction::Extended(sides) => self.framing.sides = sides,
            FrameAction::Enlarged(enlarged) => self.framing.enlarged = enlarged,
            FrameAction::DrawMasked(id) => self.draw_masked(id),
            FrameAction::DrawOutside(id) => self.draw_outside(id),
            FrameAction::UseScribble(id) => self.use_scribble(id, now),
            FrameAction::Ask(id, used) => {
                self.ask(DialogRequest::Bring(ImportRole::Frame(id, used)));
            }
            FrameAction::FromShown(id) => {
                let shown = self.panel(id).and_then(|panel| panel.picture());
                self.framing.source = shown.map(|take| (id, take.image.clone()));
            }
            FrameAction::Strength(strength, held) => {
                self.framing.strength = strength;
                if let Some(id) = self.selected_with_picture() {
                    let slid = PreviewSlider::Strength(strength);
                    self.controls.live.moved(id, slid, held, now);
                }
            }
            FrameAction::StrengthReleased => {
                self.controls.live.released(now);
                self.keep_glimpse(now);
            }
            FrameAction::Draw(id) => {
                let settings = self.begun_from_source(id, self.fresh_settings(id));
                self.draw_with(id, settings);
            }
            FrameAction::VariationStrength(strength) => self.framing.variation = strength,
            FrameAction::Vary(id) => self.vary(id),
            FrameAction::ControlKind(kind) => self.framing.kind = kind,
            FrameAction::Controlnet(file) => {
                let used = file_use(&file);
                self.framing.controlnet = file;
                for control in &mut self.controls.panel.control {
                    control.file.clone_from(&used);
                }
            }
            FrameAction::Scale(scale) => self.framing.scale = scale,
            FrameAction::Upscaler(file) => self.framing.upscaler = file,
            FrameAction::Enlarge(id) => self.enlarge_picture(id),
            FrameAction::Retouch(id, how) => self.retouch(id, how, now),
        }
    }

    /// Brought pictures for the frame of a panel.
    pub(super) fn put_into_frame(&mut self, id: PanelId, used: PictureUse, picture: RgbaImage) {
        match used {
            PictureUse::Source => self.framing.source = Some((id, self.board.images.put(picture))),
            PictureUse::Control => {
                let kind = self
                    .takes()
                    .map(|takes| self.framing.control_kind(takes).to_owned());
                self.follow_picture(kind.unwrap_or_default(), picture);
            }
            PictureUse::Mask => {
                if let Some(canvas) = &mut self.framing.canvas {
                    canvas.load(&picture);
                }
            }
        }
    }

    /// What is painted over a picture that is no longer shown, and is of another size, goes.
    pub(super) fn drop_tool_of_another_picture(&mut self) {
        let Some(size) = self.framing.canvas.as_ref().map(MaskCanvas::size) else {
            return;
        };
        let large = self.view.large.and_then(|id| self.panel(id)?.picture());
        if large.is_none_or(|take| (take.width, take.height) != size) {
            self.framing.drop_tool();
        }
    }

    fn take_tool(&mut self, id: PanelId, tool: Option<Tool>) {
        self.framing.drop_tool();
        let Some(tool) = tool else { return };
        let Some(take) = self.panel(id).and_then(|panel| panel.picture()) else {
            return;
        };
        let (width, height) = (take.width, take.height);
        if self.view.large != Some(id) || self.view.compare.is_some() {
            self.enlarge(Some(id));
        }
        if matches!(tool, Tool::Mask | Tool::Scribble(_)) {
            self.framing.canvas = Some(MaskCanvas::new(width, height));
        }
        // A line of a drawing is thin, a mask is broad.
        self.framing.brush = match tool {
            Tool::Scribble(_) => Brush {
                size: 0.015,
                hardness: 1.0,
                erase: false,
            },
            _ => Brush::default(),
        };
        self.framing.tool = Some(tool);
    }

    /// The settings of a new picture of the panel, with a seed of its own.
    fn fresh_settings(&self, id: PanelId) -> Settings {
        let settings = without_frame(self.settings_for(id));
        match self.controls.locked.contains(&Some(id)) {
            true => settings,
            false => Settings {
                seed: (self.seeds)(),
                ..settings
            },
        }
    }

    /// `settings` that begin from the panel's source, at the strength of the slider.
    pub(super) fn begun_from_source(&self, id: PanelId, settings: Settings) -> Settings {
        let Some(image) = self.source_of(id) else {
            return settings;
        };
        let sizes = self.takes().and_then(|takes| takes.sizes.as_ref());
        let like = sizes
            .zip(self.board.images.get(&image))
            .map(|(sizes, picture)| {
                let (width, height) = picture.dimensions();
                sizes.like(Size { width, height })
            });
        Settings {
            size: settings.size.or(like),
            init: Some(InitImage {
                image,
                strength: self.framing.strength,
            }),
            ..settings
        }
    }

    fn draw_with(&mut self, id: PanelId, settings: Settings) {
        self.order(QueuedJob {
            target: JobTarget::Panel(id),
            make: Make::Picture,
            settings,
            live: false,
            rewrite: None,
        });
    }

    /// The take that is shown, drawn anew by `change` of settings that begin from it.
    fn draw_over(&mut self, id: PanelId, change: impl FnOnce(&mut Settings)) {
        let Some(take) = self.panel(id).and_then(|panel| panel.picture()) else {
            return;
        };
        let mut settings = Settings {
            init: Some(InitImage {
                image: take.image.clone(),
                strength: 1.0,
            }),
            // It follows from the picture.
            size: None,
            ..self.fresh_settings(id)
        };
        change(&mut settings);
        self.draw_with(id, settings);
    }

    fn draw_masked(&mut self, id: PanelId) {
        let Some(mask) = self.framing.canvas.as_ref().map(MaskCanvas::mask) else {
            return;
        };
        let shown = self.panel(id).and_then(|panel| panel.picture());
        let size = shown.map(|take| Size {
            width: take.width,
            height: take.height,
        });
        let (mask, enlarged) = (self.board.images.put(mask), self.framing.enlarged);
        let sizes = self.takes().and_then(|takes| takes.sizes);
        self.draw_over(id, |settings| {
            settings.mask = Some(mask);
            settings.region = enlarged.then_some(Region {
                padding: PADDING,
                feather: FEATHER,
            });
            if !enlarged {
                settings.size = sizes.zip(size).map(|(sizes, size)| sizes.like(size));
            }
        });
    }

    fn draw_outside(&mut self, id: PanelId) {
        let margins = self.framing.sides;
        self.framing.drop_tool();
        self.draw_over(id, |settings| settings.outpaint = Some(margins));
    }

    fn enlarge_picture(&mut self, id: PanelId) {
        let (scale, file) = (self.framing.scale, file_use(&self.framing.upscaler));
        self.draw_over(id, |settings| {
            if let Some(init) = &mut settings.init {
                // An upscaler's picture needs no second pass.
                init.strength = if file.is_some() { 0.0 } else { SECOND_PASS };
            }
            settings.upscale = Some(Upscale { scale, file });
        });
    }

    /// Pictures like the one shown, from noise near its own.
    fn vary(&mut self, id: PanelId) {
        let shown = self.panel(id).and_then(|panel| panel.picture());
        let Some(made) = shown.and_then(|take| take.record.as_ref()) else {
            return;
        };
        let settings = Settings {
            seed: made.settings.seed,
            ..with_frame(self.settings_for(id), &made.settings)
        };
        let (first, strength) = ((self.seeds)(), self.framing.variation);
        for number in 0..VARIATIONS {
            self.draw_with(
                id,
                Settings {
                    variation: Some(Variation {
                        seed: first.wrapping_add(number),
                        strength,
                    }),
                    ..settings.clone()
                },
            );
        }
    }

    fn use_scribble(&mut self, id: PanelId, now: Instant) {
        let Some(canvas) = &self.framing.canvas else {
            return;
        };
        match self.framing.tool {
            Some(Tool::Scribble(PictureUse::Source)) => {
                let drawing = canvas.drawing();
                self.framing.source = Some((id, self.board.images.put(drawing)));
                self.toasts.note("The scribble is what is begun from.", now);
            }
            Some(Tool::Scribble(_)) => {
                // ControlNets were trained on white lines.
                let lines = canvas.mask();
                self.follow_picture("scribble".to_owned(), lines);
                self.toasts
                    .note("The next picture follows the scribble.", now);
            }
            _ => return,
        }
        self.framing.drop_tool();
    }

    /// The next pictures of the selected panel follow this one.
    fn follow_picture(&mut self, kind: String, picture: RgbaImage) {
        let picture = match kind.as_str() {
            "canny" => edges(&picture),
            _ => picture,
        };
        let control = Control {
            kind,
            image: self.board.images.put(picture),
            strength: 1.0,
            start: 0.0,
            end: 1.0,
            file: file_use(&self.framing.controlnet),
        };
        self.controls.panel.control = vec![control];
    }

    /// The take that is shown, changed by hand, becomes one of its own.
    fn retouch(&mut self, id: PanelId, how: Retouch, now: Instant) {
        let Some(take) = self.panel(id).and_then(|panel| panel.picture()) else {
            return;
        };
        let before = self.board.images.get(&take.image);
        let Some(picture) = before.and_then(|before| how.apply(&before)) else {
            let words = "That picture is not at hand; restore its file or choose another.";
            self.toasts.error(words.to_owned(), now);
            return;
        };
        let mut record: Record = take.record.clone().unwrap_or_default();
        record.retouched.push(Retouched {
            of: take.image.clone(),
            how,
        });
        let take = PictureTake::of(picture, Some(record), &self.board.images);
        self.forget_glimpse();
        self.framing.drop_tool();
        self.edit(Edit::AddPicture { panel: id, take }, now);
        self.load_settings();
    }
}

/// `settings` that begin from what `made` began from.
pub(super) fn with_frame(settings: Settings, made: &Settings) -> Settings {
    Settings {
        init: made.init.clone(),
        mask: made.mask.clone(),
        region: made.region,
        outpaint: made.outpaint,
        upscale: made.upscale.clone(),
        variation: made.variation.clone(),
        ..settings
    }
}

pub(super) fn file_use(path: &str) -> Option<FileUse> {
    let file = path.trim().to_owned();
    (!file.is_empty()).then_some(FileUse {
        file,
        hash: String::new(),
    })
}
