//! Compositions and references to pixels.

use image::{Rgba, RgbaImage, imageops};
use resvg::tiny_skia::{self, Pixmap, Transform};

use super::composition::{CANVAS_CELLS, CELLS, HUES};
use super::subject::MIDDLE;
use super::{Composition, CompositionSubject, Drawing, DrawingId, Figure, Location, SceneSetting};
use crate::storyworld::backdrop;
use crate::storyworld::place::{Time, Weather};
use crate::storyworld::render::{self, Renderer, Sprite};
use crate::storyworld::scene::{LAYOUTS, UNITS, to_pixels};
use std::sync::OnceLock;

/// What lies behind a drawing in its reference: a colour that drawings hardly have, for what is like the
/// paper is not seen. (On grey paper, grey hair and grey animals were lost.)
pub const PAPER: [u8; 3] = [140, 230, 140];

/// Pixels along the longer side of a drawing that joins a story's cast.
pub const DRAWING_SIDE: u32 = 384;

/// Draws compositions and references at one size; shared by reference between threads.
pub struct CompositionRenderer {
    backdrops: Renderer,
    /// Of the places that are no story's.
    more: Vec<OnceLock<Vec<u8>>>,
    size: u32,
}

impl CompositionRenderer {
    /// For square pictures of `size` pixels, a multiple of 128.
    pub fn new(size: u32) -> Self {
        let backdrops = Renderer::new(size);
        let many = Location::all().count() * Time::COUNT * Weather::COUNT * usize::from(LAYOUTS);
        Self {
            size: backdrops.size(),
            more: (0..many).map(|_| OnceLock::new()).collect(),
            backdrops,
        }
    }

    /// What draws scenes of the storyworld at the same size.
    pub fn scenes(&self) -> &Renderer {
        &self.backdrops
    }

    /// Width and height of a picture in pixels.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Width and height of a reference in pixels.
    pub fn reference_size(&self) -> u32 {
        self.size / CELLS as u32 * CANVAS_CELLS as u32
    }

    /// The composition as RGB rows of `size * size * 3` bytes.
    pub fn draw(&self, composition: &Composition) -> Vec<u8> {
        let side = self.size as i32;
        let mut rgb = vec![0; (self.size * self.size * 3) as usize];
        self.draw_backdrop(&composition.setting, &mut rgb);
        let time = composition.setting.time;
        for figure in &composition.figures {
            let (x, y, ..) = figure.unit_box();
            self.blend(figure, time, (x, y), &mut rgb, side);
        }
        let scene = composition.setting.scene();
        self.backdrops.draw_fall(&scene, &mut rgb);
        rgb
    }

    /// The figure with the shadow that it throws, its corner at (x, y) in 1/128 of the picture.
    fn blend(&self, figure: &Figure, time: Time, (x, y): (i32, i32), rgb: &mut [u8], side: i32) {
        let (x, y) = (self.pixels(x), self.pixels(y));
        if !figure.subject.is_sky() {
            let shadow = self.shadow((figure.width, figure.height));
            shadow.blend(x, y, rgb, side);
        }
        self.sprite(figure, time).blend(x, y, rgb, side);
    }

    fn draw_backdrop(&self, setting: &SceneSetting, rgb: &mut [u8]) {
        if let Location::Story(_) = setting.location {
            return self.backdrops.draw_backdrop(&setting.scene(), rgb);
        }
        let place = setting.location.index() * Time::COUNT + setting.time.index();
        let index = (place * Weather::COUNT + setting.weather.index()) * usize::from(LAYOUTS)
            + usize::from(setting.layout % LAYOUTS);
        let drawn = self.more[index].get_or_init(|| {
            let svg = backdrop::svg_of_layers(setting);
            let rgba = render::rasterise(&svg, self.size, self.size);
            rgba.chunks_exact(4)
                .flat_map(|p| [p[0], p[1], p[2]])
                .collect()
        });
        rgb.copy_from_slice(drawn);
    }

    /// The figure by daylight, alone on [`PAPER`], in its canvas: RGB rows of
    /// `reference_size * reference_size * 3` bytes.
    pub fn reference(&self, figure: &Figure) -> Vec<u8> {
        let side = self.reference_size() as i32;
        let mut rgb = self.empty_reference();
        let (x, y) = figure.in_canvas();
        self.sprite(figure, Time::Day)
            .blend(self.pixels(x), self.pixels(y), &mut rgb, side);
        rgb
    }

    /// The reference of nobody.
    pub fn empty_reference(&self) -> Vec<u8> {
        let side = self.reference_size();
        PAPER.repeat((side * side) as usize)
    }

    /// The figure with its shadow in the light of `time`, cut out of its canvas: of each of its
    /// `reference_size * reference_size` pixels the colour on black, and how much of what is behind
    /// shows through, of 255.
    pub fn cut(&self, figure: &Figure, time: Time) -> Vec<([u8; 3], u8)> {
        let side = self.reference_size() as i32;
        let [black, white] = [0, u8::MAX].map(|paper| {
            let mut rgb = vec![paper; (side * side * 3) as usize];
            self.blend(figure, time, figure.in_canvas(), &mut rgb, side);
            rgb
        });
        let both = black.chunks_exact(3).zip(white.chunks_exact(3));
        both.map(|(black, white)| {
            let colour = [black[0], black[1], black[2]];
            (colour, white[0].saturating_sub(black[0]))
        })
        .collect()
    }

    /// The same figure with its picture in the size that this renderer draws it in, so that it is
    /// drawn often at little cost. Drawings of the library stay as they are.
    pub fn scaled(&self, figure: &Figure) -> Figure {
        let subject = match &figure.subject {
            CompositionSubject::Picture { picture, like } => CompositionSubject::Picture {
                picture: straight(&resized(picture, self.extent(figure))),
                like: *like,
            },
            drawing @ CompositionSubject::Drawing(_) => drawing.clone(),
        };
        Figure {
            subject,
            ..figure.clone()
        }
    }

    /// Width and height of a figure in pixels.
    fn extent(&self, figure: &Figure) -> (i32, i32) {
        (self.pixels(figure.width), self.pixels(figure.height))
    }

    fn pixels(&self, units: i32) -> i32 {
        // Beyond the left or upper edge, too.
        to_pixels(units + UNITS, self.size) as i32 - self.size as i32
    }

    fn sprite(&self, figure: &Figure, time: Time) -> Sprite {
        let (size, mirrored) = (self.extent(figure), figure.mirrored);
        let map = match &figure.subject {
            CompositionSubject::Drawing(drawing) => rasterise(drawing.get(), size, mirrored),
            CompositionSubject::Picture { picture, .. } if mirrored => {
                resized(&imageops::flip_horizontal(picture), size)
            }
            CompositionSubject::Picture { picture, .. } => resized(picture, size),
        };
        self.lit(map, figure.hue, time)
    }

    /// With its hue turned, in the light of that time.
    fn lit(&self, mut map: Pixmap, hue: u8, time: Time) -> Sprite {
        let turn = turned(hue);
        let light = backdrop::subject_light(time);
        for pixel in map.data_mut().chunks_exact_mut(4) {
            let alpha = f32::from(pixel[3]) / 255.0;
            if alpha == 0.0 {
                continue;
            }
            let colour = [0, 1, 2].map(|i| f32::from(pixel[i]) / alpha);
            let mixed = turn.map(|row| {
                let v: f32 = row.iter().zip(colour).map(|(m, c)| m * c).sum();
                v.clamp(0.0, 255.0)
            });
            let (r, g, b) = light((mixed[0], mixed[1], mixed[2]));
            for (out, value) in pixel.iter_mut().zip([r, g, b]) {
                *out = (value.clamp(0.0, 255.0) * alpha).round() as u8;
            }
        }
        Sprite::new(&map, 0, 0)
    }

    /// Under a figure of that width and height in 1/128 of the picture.
    fn shadow(&self, (wide, high): (i32, i32)) -> Sprite {
        let (width, height) = (wide + 4, 6);
        let (w, h) = (self.pixels(width), self.pixels(height));
        let mut map = pixmap(w, h);
        let mut ink = tiny_skia::Paint::default();
        ink.set_color_rgba8(0x10, 0x14, 0x2e, 56);
        ink.anti_alias = true;
        let (w, h) = (w as f32, h as f32);
        let oval = tiny_skia::Rect::from_xywh(w * 0.06, h * 0.07, w * 0.88, h * 0.86)
            .and_then(tiny_skia::PathBuilder::from_oval);
        if let Some(oval) = oval {
            let rule = tiny_skia::FillRule::Winding;
            map.fill_path(&oval, &ink, rule, Transform::identity(), None);
        }
        let down = self.pixels(high) - self.pixels(height / 2);
        Sprite::new(&map, -self.pixels(2), down)
    }
}

fn pixmap(width: i32, height: i32) -> Pixmap {
    Pixmap::new(width.max(1) as u32, height.max(1) as u32).expect("the size is not zero")
}

/// The drawing alone on transparent ground, its longer side `side` pixels.
pub fn drawing(id: DrawingId, side: u32) -> RgbaImage {
    let aspect = id.get().aspect();
    let long = side.max(1) as f32;
    let (width, height) = match aspect < 1.0 {
        true => (long * aspect, long),
        false => (long, long / aspect),
    };
    let map = rasterise(
        id.get(),
        (width.round() as i32, height.round() as i32),
        false,
    );
    straight(&map)
}

/// A picture with colours that are not multiplied by their alpha.
fn straight(map: &Pixmap) -> RgbaImage {
    let colours = map.pixels().iter().map(|pixel| {
        let colour = pixel.demultiply();
        Rgba([colour.red(), colour.green(), colour.blue(), colour.alpha()])
    });
    let mut picture = RgbaImage::new(map.width(), map.height());
    for (out, colour) in picture.pixels_mut().zip(colours) {
        *out = colour;
    }
    picture
}

/// A picture in another size.
fn resized(picture: &RgbaImage, (w, h): (i32, i32)) -> Pixmap {
    let mut map = pixmap(picture.width() as i32, picture.height() as i32);
    for (out, pixel) in map.data_mut().chunks_exact_mut(4).zip(picture.pixels()) {
        let [r, g, b, a] = pixel.0.map(u16::from);
        let times = |v: u16| ((v * a + 127) / 255) as u8;
        out.copy_from_slice(&[times(r), times(g), times(b), a as u8]);
    }
    // tiny-skia takes single pixels of what it makes much smaller, so that is halved first.
    while map.width() > 2 * w as u32 && map.height() > 2 * h as u32 {
        map = halved(&map);
    }
    let mut small = pixmap(w, h);
    let (sx, sy) = (
        w as f32 / map.width() as f32,
        h as f32 / map.height() as f32,
    );
    let paint = tiny_skia::PixmapPaint {
        quality: tiny_skia::FilterQuality::Bilinear,
        ..tiny_skia::PixmapPaint::default()
    };
    let fit = Transform::from_scale(sx, sy);
    small.draw_pixmap(0, 0, map.as_ref(), &paint, fit, None);
    small
}

/// Half as wide and high, each pixel the mean of four.
fn halved(map: &Pixmap) -> Pixmap {
    let (width, height) = (map.width() / 2, map.height() / 2);
    let mut half = pixmap(width as i32, height as i32);
    let from = map.data();
    let row = map.width() as usize * 4;
    for y in 0..height as usize {
        for x in 0..width as usize {
            for c in 0..4 {
                let at = 2 * y * row + 8 * x + c;
                let sum = [at, at + 4, at + row, at + row + 4].map(|i| u16::from(from[i]));
                half.data_mut()[(y * width as usize + x) * 4 + c] =
                    ((sum.iter().sum::<u16>() + 2) / 4) as u8;
            }
        }
    }
    half
}

/// The drawing, cut to what is drawn on and stretched to (width, height) pixels.
fn rasterise(drawing: &Drawing, (width, height): (i32, i32), mirrored: bool) -> Pixmap {
    let mut map = pixmap(width, height);
    let [x, y, w, h] = drawing.bounds();
    let (sx, sy) = (width as f32 / w, height as f32 / h);
    let fit = Transform::from_translate(-x, -y).post_scale(sx, sy);
    let fit = match mirrored {
        true => fit.post_scale(-1.0, 1.0).post_translate(width as f32, 0.0),
        false => fit,
    };
    resvg::render(drawing.tree(), fit, &mut map.as_mut());
    map
}

/// The matrix that turns a colour's hue: a rotation of RGB about grey.
fn turned(hue: u8) -> [[f32; 3]; 3] {
    let angle = f32::from(hue) / f32::from(HUES) * std::f32::consts::TAU;
    let (sin, cos) = angle.sin_cos();
    let (same, apart) = ((1.0 - cos) / 3.0, sin / 3f32.sqrt());
    let (a, b, c) = (cos + same, same - apart, same + apart);
    [[a, b, c], [c, a, b], [b, c, a]]
}

const _: () = assert!(MIDDLE * 2 * CELLS == CANVAS_CELLS * UNITS);
