//! The twelve places as vector pictures: sky, far scenery, ground, near scenery. The layout
//! number moves and swaps things about; time and weather only change the colours and the sky,
//! so one layout is the same spot at another hour.

mod more;
mod places;

use std::fmt::Write;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::cast::view_box;
use super::place::{Place, Time, Weather};

pub(super) use more::{Layer, layers, svg as svg_of_layers};

macro_rules! art {
    ($name:literal) => {
        include_str!(concat!("../../../assets/clipart/scenery/", $name, ".svg"))
    };
}
use art;

const SUN: &str = art!("sun");
const MOON: &str = art!("moon");
const CLOUD: &str = art!("cloud");

type Rgb = (f32, f32, f32);

fn rgb(hex: u32) -> Rgb {
    (
        (hex >> 16 & 255) as f32,
        (hex >> 8 & 255) as f32,
        (hex & 255) as f32,
    )
}

fn hex((r, g, b): Rgb) -> String {
    let c = |v: f32| v.round().clamp(0.0, 255.0) as u8;
    format!("#{:02x}{:02x}{:02x}", c(r), c(g), c(b))
}

fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    (
        a.0 + (b.0 - a.0) * t,
        a.1 + (b.1 - a.1) * t,
        a.2 + (b.2 - a.2) * t,
    )
}

/// Replaces every `#rrggbb` of an SVG by `change` of it.
pub(super) fn recolour(svg: &str, change: impl Fn(Rgb) -> Rgb) -> String {
    let mut out = String::with_capacity(svg.len() + 16);
    let mut rest = svg;
    while let Some(at) = rest.find('#') {
        out.push_str(&rest[..at]);
        let digits: String = rest[at + 1..]
            .chars()
            .take_while(char::is_ascii_hexdigit)
            .take(6)
            .collect();
        let full = match digits.len() {
            3 => digits.chars().flat_map(|c| [c, c]).collect(),
            _ => digits.clone(),
        };
        match u32::from_str_radix(&full, 16) {
            Ok(value) if full.len() == 6 => out.push_str(&hex(change(rgb(value)))),
            _ => {
                out.push('#');
                out.push_str(&digits);
            }
        }
        rest = &rest[at + 1 + digits.len()..];
    }
    out + rest
}

/// The drawing elements of a clip-art file, placed in the box (x, y, width, height).
pub(super) fn embed(svg: &str, x: f32, y: f32, w: f32, h: f32) -> String {
    let [vx, vy, vw, vh] = view_box(svg);
    let inner = svg
        .split_once('>')
        .and_then(|(_, rest)| rest.rsplit_once("</svg>"))
        .map_or("", |(inner, _)| inner);
    let (sx, sy) = (w / vw, h / vh);
    format!(
        "<g transform=\"translate({:.3} {:.3}) scale({sx:.4} {sy:.4})\">{inner}</g>",
        x - vx * sx,
        y - vy * sy
    )
}

/// The colours of a subject at a time of day: dusk warms it, night cools it, but dark subjects
/// stay light enough to be seen.
pub(super) fn subject_light(time: Time) -> impl Fn(Rgb) -> Rgb {
    move |c| match time {
        Time::Day => c,
        Time::Sunset => (c.0, c.1 * 0.94, c.2 * 0.88),
        Time::Night => {
            let luminance = 0.3 * c.0 + 0.59 * c.1 + 0.11 * c.2;
            let keep = (luminance / 160.0).min(1.0);
            let dim = |v: f32, k: f32| v * (1.0 - (1.0 - k) * keep) + 10.0 * (1.0 - keep);
            (
                dim(c.0, 0.91),
                dim(c.1, 0.93),
                dim(c.2, 1.0) + 8.0 * (1.0 - keep),
            )
        }
    }
}

/// The SVG, 128 units square, of a place.
pub(super) fn svg(place: Place, time: Time, weather: Weather, layout: u8) -> String {
    let seed = 0x5ce0 + 97 * place.index() as u64 + 1009 * u64::from(layout);
    let mut b = BackdropPainter::new(seed, time, weather, layout);
    match place {
        Place::Forest => b.forest(),
        Place::Beach => b.beach(),
        Place::Kitchen => b.kitchen(),
        Place::City => b.city(),
        Place::Mountain => b.mountain(),
        Place::Desert => b.desert(),
        Place::Moon => b.moon(),
        Place::Snowfield => b.snowfield(),
        Place::Garden => b.garden(),
        Place::River => b.river(),
        Place::Village => b.village(),
        Place::Bedroom => b.bedroom(),
    }
    b.finish()
}

struct BackdropPainter {
    time: Time,
    weather: Weather,
    rng: ChaCha8Rng,
    /// Layouts come in mirrored pairs of compositions: the tall thing left or right.
    mirror: bool,
    out: String,
}

impl BackdropPainter {
    fn new(seed: u64, time: Time, weather: Weather, layout: u8) -> Self {
        Self {
            time,
            weather,
            rng: ChaCha8Rng::seed_from_u64(seed),
            mirror: layout % 2 == 1,
            out: "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" viewBox=\"0 0 128 128\">".into(),
        }
    }

    fn finish(self) -> String {
        self.out + "</svg>"
    }

    fn jitter(&mut self, from: f32, to: f32) -> f32 {
        self.rng.random_range(from..to)
    }

    /// `x` or its mirror image for something `w` wide.
    fn side(&self, x: f32, w: f32) -> f32 {
        if self.mirror { 128.0 - x - w } else { x }
    }

    /// Colour of scenery in this light.
    fn light(&self, c: Rgb) -> Rgb {
        let c = match self.weather {
            Weather::Clear => c,
            Weather::Rain => mix(c, rgb(0x7f8c99), 0.22),
            Weather::Snow => c,
        };
        match self.time {
            Time::Day => c,
            Time::Sunset => mix((c.0 * 0.96, c.1 * 0.78, c.2 * 0.72), rgb(0xf08a5c), 0.16),
            Time::Night => mix((c.0 * 0.36, c.1 * 0.42, c.2 * 0.62), rgb(0x28346a), 0.18),
        }
    }

    /// Colour of ground or leaves: snow lies on it.
    fn land(&self, c: u32, snow: f32) -> String {
        let c = match self.weather {
            Weather::Snow => mix(rgb(c), rgb(0xf3f7fc), snow),
            _ => rgb(c),
        };
        hex(self.light(c))
    }

    fn plain(&self, c: u32) -> String {
        hex(self.light(rgb(c)))
    }

    fn rect(&mut self, x: f32, y: f32, w: f32, h: f32, fill: &str) {
        let _ = write!(
            self.out,
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{w:.2}\" height=\"{h:.2}\" fill=\"{fill}\"/>"
        );
    }

    fn oval(&mut self, x: f32, y: f32, rx: f32, ry: f32, fill: &str) {
        let _ = write!(
            self.out,
            "<ellipse cx=\"{x:.2}\" cy=\"{y:.2}\" rx=\"{rx:.2}\" ry=\"{ry:.2}\" fill=\"{fill}\"/>"
        );
    }

    fn path(&mut self, d: &str, fill: &str) {
        let _ = write!(self.out, "<path d=\"{d}\" fill=\"{fill}\"/>");
    }

    /// Clip art standing with its foot at (x, y), `h` high, `snow` of it white when it snows.
    fn prop(&mut self, art: &str, x: f32, y: f32, h: f32, snow: f32) {
        let [_, _, vw, vh] = view_box(art);
        let w = h * vw / vh;
        let lit = recolour(art, |c| {
            let c = if self.weather == Weather::Snow {
                mix(c, rgb(0xf3f7fc), snow)
            } else {
                c
            };
            self.light(c)
        });
        self.out.push_str(&embed(&lit, x - w / 2.0, y - h, w, h));
    }

    fn sky_colours(&self) -> (u32, u32) {
        match (self.time, self.weather) {
            (Time::Day, Weather::Clear) => (0x62b4f5, 0xd3edff),
            (Time::Day, Weather::Rain) => (0x7b93a8, 0xb7c4cf),
            (Time::Day, Weather::Snow) => (0xa3bdd4, 0xe2ecf4),
            (Time::Sunset, Weather::Clear) => (0xf0607f, 0xffc477),
            (Time::Sunset, Weather::Rain) => (0x84647f, 0xcf9c8f),
            (Time::Sunset, Weather::Snow) => (0xb87490, 0xf3c4a6),
            (Time::Night, Weather::Clear) => (0x0b1440, 0x2c3d7c),
            (Time::Night, Weather::Rain) => (0x12193a, 0x333c60),
            (Time::Night, Weather::Snow) => (0x1b2453, 0x4a588e),
        }
    }

    fn gradient(&mut self, x: f32, y: f32, w: f32, h: f32, top: u32, bottom: u32) {
        let id = self.out.len();
        let _ = write!(
            self.out,
            "<linearGradient id=\"g{id}\" x1=\"0\" y1=\"0\" x2=\"0\" y2=\"1\"><stop offset=\"0\" stop-color=\"{}\"/><stop offset=\"1\" stop-color=\"{}\"/></linearGradient><rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{w:.2}\" height=\"{h:.2}\" fill=\"url(#g{id})\"/>",
            hex(rgb(top)),
            hex(rgb(bottom))
        );
    }

    fn stars(&mut self, count: usize, below: f32) {
        for _ in 0..count {
            let (x, y, r) = (
                self.jitter(2.0, 126.0),
                self.jitter(2.0, below),
                self.jitter(0.35, 0.85),
            );
            self.oval(x, y, r, r, "#fff7d6");
        }
    }

    /// The sky down to `horizon`, with sun, moon, stars and clouds.
    fn sky(&mut self, horizon: f32) {
        let (top, bottom) = self.sky_colours();
        self.gradient(0.0, 0.0, 128.0, horizon + 4.0, top, bottom);
        let sx = self.jitter(12.0, 26.0);
        let sx = self.side(sx, 0.0);
        match (self.time, self.weather) {
            (Time::Day, Weather::Clear) => {
                self.out.push_str(&embed(SUN, sx - 11.0, 6.0, 22.0, 22.0));
            }
            (Time::Day, _) => {}
            (Time::Sunset, weather) => {
                let glow = if weather == Weather::Clear {
                    "#ffe29a"
                } else {
                    "#f6cf9c"
                };
                let x = self.side(88.0, 0.0);
                self.oval(x, horizon - 9.0, 13.0, 13.0, glow);
            }
            (Time::Night, weather) => {
                let count = if weather == Weather::Clear { 34 } else { 8 };
                self.stars(count, horizon - 4.0);
                self.out.push_str(&embed(MOON, sx - 9.0, 6.0, 18.0, 18.0));
            }
        }
        let clouds = if self.weather == Weather::Clear { 2 } else { 5 };
        for i in 0..clouds {
            let step = 120.0 / clouds as f32;
            let x = step * i as f32 + self.jitter(0.0, step * 0.6);
            let (y, w) = (self.jitter(4.0, 22.0), self.jitter(18.0, 27.0));
            if clouds == 2 && (self.time == Time::Night || (x + w / 2.0 - sx).abs() < 24.0) {
                continue;
            }
            let tint = match (self.time, self.weather) {
                (Time::Day, Weather::Clear) => rgb(0xffffff),
                (Time::Day, _) => rgb(0x93a3b1),
                (Time::Sunset, Weather::Clear) => rgb(0xffc9b0),
                (Time::Sunset, _) => rgb(0x9c7f8d),
                (Time::Night, _) => rgb(0x4b5578),
            };
            let cloud = recolour(CLOUD, |c| mix(c, tint, 0.85));
            self.out.push_str(&embed(&cloud, x, y, w, w * 0.62));
        }
    }

    fn ground(&mut self, y: f32, colour: u32, snow: f32) {
        let fill = self.land(colour, snow);
        let (a, b) = (self.jitter(-3.0, 3.0), self.jitter(-3.0, 3.0));
        let d = format!(
            "M0 {:.2}C40 {:.2} 88 {:.2} 128 {:.2}V128H0z",
            y + a,
            y - a,
            y + b,
            y - b
        );
        self.path(&d, &fill);
    }

    fn hills(&mut self, y: f32, colour: u32, snow: f32) {
        let fill = self.land(colour, snow);
        for i in 0..3 {
            let x = 64.0 * i as f32 + self.jitter(-14.0, 14.0);
            let (rx, ry) = (self.jitter(38.0, 52.0), self.jitter(12.0, 20.0));
            self.oval(x, y + 4.0, rx, ry, &fill);
        }
    }

    fn tufts(&mut self, count: usize, art: &str, snow: f32) {
        for _ in 0..count {
            let (x, y, h) = (
                self.jitter(4.0, 124.0),
                self.jitter(119.0, 127.0),
                self.jitter(4.0, 6.0),
            );
            self.prop(art, x, y, h, snow);
        }
    }
}
