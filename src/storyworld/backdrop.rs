//! The twelve places as vector pictures: sky, far scenery, ground, near scenery. The layout
//! number moves and swaps things about; time and weather only change the colours and the sky,
//! so one layout is the same spot at another hour.

use std::fmt::Write;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::cast::view_box;
use super::place::{Place, Time, Weather};

macro_rules! art {
    ($name:literal) => {
        include_str!(concat!("../../assets/clipart/scenery/", $name, ".svg"))
    };
}

const OAK: &str = art!("oak");
const PINE: &str = art!("pine");
const PALM: &str = art!("palm");
const CACTUS: &str = art!("cactus");
const ROCK: &str = art!("rock");
const SUN: &str = art!("sun");
const MOON: &str = art!("moon");
const CLOUD: &str = art!("cloud");
const PLANET: &str = art!("ringed-planet");
const EARTH: &str = art!("earth");
const FLOWERS: [&str; 3] = [art!("tulip"), art!("hibiscus"), art!("rose")];
const GRASS: &str = art!("grass");
const SHELL: &str = art!("shell");
const PLANT: &str = art!("potted-plant");
const PAN: &str = art!("pan");
const BED: &str = art!("bed");
const PICTURE: &str = art!("picture");

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
                dim(c.0, 0.87),
                dim(c.1, 0.9),
                dim(c.2, 0.99) + 8.0 * (1.0 - keep),
            )
        }
    }
}

/// The SVG, 128 units square, of a place.
pub(super) fn svg(place: Place, time: Time, weather: Weather, layout: u8) -> String {
    let rng =
        ChaCha8Rng::seed_from_u64(0x5ce0 + 97 * place.index() as u64 + 1009 * u64::from(layout));
    let mut b = Painter {
        time,
        weather,
        rng,
        mirror: layout % 2 == 1,
        out: String::new(),
    };
    b.out
        .push_str("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 128 128\">");
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
    b.out + "</svg>"
}

struct Painter {
    time: Time,
    weather: Weather,
    rng: ChaCha8Rng,
    /// Layouts come in mirrored pairs of compositions: the tall thing left or right.
    mirror: bool,
    out: String,
}

impl Painter {
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
                self.out.push_str(&embed(SUN, sx - 11.0, 6.0, 22.0, 22.0))
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

    fn forest(&mut self) {
        self.sky(70.0);
        self.hills(72.0, 0x2f7d3b, 0.45);
        for row in 0..2 {
            let count = 6 - row;
            for i in 0..count {
                let x = 128.0 / count as f32 * (i as f32 + 0.5) + self.jitter(-6.0, 6.0);
                let h = self.jitter(36.0, 48.0) + 8.0 * row as f32;
                let art = if self.rng.random_bool(0.35) {
                    PINE
                } else {
                    OAK
                };
                // The clearing in the middle keeps subjects free of trunks.
                if row == 1 && (x - 64.0).abs() < 30.0 {
                    continue;
                }
                self.prop(art, x, 78.0 + 5.0 * row as f32, h, 0.5);
            }
        }
        self.ground(78.0, 0x6cb04a, 0.85);
        self.tufts(4, GRASS, 0.4);
    }

    fn beach(&mut self) {
        self.sky(58.0);
        let sea = self.plain(0x1f9be0);
        let deep = self.plain(0x1583c8);
        self.rect(0.0, 56.0, 128.0, 30.0, &sea);
        self.rect(0.0, 56.0, 128.0, 7.0, &deep);
        let foam = self.plain(0xdff4ff);
        for _ in 0..9 {
            let (x, y, w) = (
                self.jitter(2.0, 116.0),
                self.jitter(60.0, 78.0),
                self.jitter(5.0, 12.0),
            );
            self.rect(x, y, w, 0.9, &foam);
        }
        let edge = self.jitter(80.0, 84.0);
        self.path(&format!("M0 {edge:.1}c30 -5 60 5 128 -2v50h-128z"), &foam);
        let sand = self.land(0xf6dc9c, 0.75);
        self.path(
            &format!("M0 {:.1}c30 -5 60 5 128 -2v50h-128z", edge + 2.2),
            &sand,
        );
        let x = self.side(2.0, 0.0) + self.jitter(-2.0, 8.0) * if self.mirror { -1.0 } else { 1.0 };
        self.prop(PALM, x, 90.0, 62.0, 0.35);
        for _ in 0..3 {
            let (x, y) = (self.jitter(8.0, 120.0), self.jitter(120.0, 127.0));
            self.prop(SHELL, x, y, 4.6, 0.3);
        }
    }

    fn city(&mut self) {
        self.sky(84.0);
        for row in 0..2 {
            let mut x = self.jitter(-8.0, 0.0);
            while x < 128.0 {
                let w = self.jitter(13.0, 20.0);
                let h = if row == 0 {
                    self.jitter(34.0, 62.0)
                } else {
                    self.jitter(20.0, 44.0)
                };
                let colours = [
                    [0x9fb2c6, 0xaab6d0, 0x93a4bd],
                    [0x6e7f9a, 0x7d87a6, 0x66748f],
                ][row];
                let pick = self.rng.random_range(0..3);
                let fill = self.plain(colours[pick]);
                self.rect(x, 92.0 - h, w, h, &fill);
                let mut y = 95.0 - h;
                while y < 86.0 {
                    let mut wx = x + 2.2;
                    while wx + 2.4 < x + w {
                        let lit = self.rng.random_bool(0.6);
                        let pane = match self.time {
                            Time::Day => self.plain(0xd9ecfa),
                            _ if lit => "#ffe08a".into(),
                            _ => self.plain(0x4d5a78),
                        };
                        self.rect(wx, y, 2.2, 3.2, &pane);
                        wx += 4.4;
                    }
                    y += 6.2;
                }
                x += w + 0.8;
            }
        }
        let pavement = self.land(0xc3c7cc, 0.7);
        let road = self.land(0x6d737b, 0.4);
        let mark = self.plain(0xf7e9a0);
        self.rect(0.0, 88.0, 128.0, 9.0, &pavement);
        self.rect(0.0, 96.0, 128.0, 32.0, &road);
        let start = self.jitter(-10.0, 4.0);
        for i in 0..6 {
            self.rect(start + 26.0 * i as f32, 121.0, 14.0, 2.4, &mark);
        }
    }

    fn mountain(&mut self) {
        self.sky(84.0);
        let peaks = [
            (20.0, 46.0, 0x8793a5),
            (104.0, 40.0, 0x8793a5),
            (64.0, 58.0, 0x6f7c91),
        ];
        for (x, h, colour) in peaks {
            let (x, h) = (x + self.jitter(-9.0, 9.0), h + self.jitter(-5.0, 7.0));
            let half = h * 0.82;
            let (top, foot) = (86.0 - h, 88.0);
            let fill = self.plain(colour);
            let snow = self.plain(0xf6faff);
            self.path(
                &format!("M{x:.1} {top:.1}L{:.1} {foot}H{:.1}z", x + half, x - half),
                &fill,
            );
            let (dx, dy) = (half * 0.36, h * 0.36);
            self.path(
                &format!(
                    "M{x:.1} {top:.1}l{dx:.1} {dy:.1}l{:.1} {:.1}l{:.1} {:.1}l{:.1} {:.1}L{:.1} {:.1}z",
                    -dx * 0.5, -dy * 0.22, -dx * 0.45, dy * 0.3, -dx * 0.5, -dy * 0.3, x - dx, top + dy
                ),
                &snow,
            );
        }
        self.ground(84.0, 0x7fbe5a, 0.85);
        for i in 0..4 {
            let x = [6.0, 22.0, 106.0, 122.0][i] + self.jitter(-5.0, 5.0);
            let (y, h) = (self.jitter(85.0, 90.0), self.jitter(15.0, 22.0));
            self.prop(PINE, x, y, h, 0.5);
        }
        self.tufts(3, GRASS, 0.4);
    }

    fn desert(&mut self) {
        self.sky(74.0);
        self.hills(78.0, 0xe0a557, 0.55);
        self.ground(82.0, 0xf2c777, 0.75);
        let dune = self.land(0xe9b964, 0.75);
        let y = self.jitter(98.0, 104.0);
        self.path(&format!("M0 {y:.1}c40 -8 70 8 128 -4v40h-128z"), &dune);
        for i in 0..3 {
            let x = [10.0, 112.0, 122.0][i] + self.jitter(-5.0, 5.0);
            let (y, h) = (86.0 + 3.0 * i as f32, self.jitter(20.0, 32.0));
            self.prop(CACTUS, self.side(x, 0.0), y, h, 0.35);
        }
        let x = self.jitter(30.0, 98.0);
        self.prop(ROCK, x, 88.0, 7.0, 0.5);
    }

    fn moon(&mut self) {
        let (top, bottom) = match self.time {
            Time::Day => (0x1a0f3c, 0x46307c),
            Time::Sunset => (0x2b0f3a, 0xb14a6e),
            Time::Night => (0x04030f, 0x15103a),
        };
        self.gradient(0.0, 0.0, 128.0, 100.0, top, bottom);
        self.stars(46, 84.0);
        let x = self.side(14.0, 26.0);
        self.out.push_str(&embed(PLANET, x, 12.0, 26.0, 25.0));
        let x = self.side(96.0, 17.0);
        self.out.push_str(&embed(EARTH, x, 9.0, 17.0, 17.0));
        if self.time == Time::Day {
            let x = self.side(62.0, 0.0);
            self.oval(x, 13.0, 7.0, 7.0, "#fff3c4");
        }
        let ground = match self.time {
            Time::Day => 0xcfc9dd,
            Time::Sunset => 0xd2a3ae,
            Time::Night => 0x6f6a94,
        };
        let (soil, dent) = (hex(rgb(ground)), hex(mix(rgb(ground), rgb(0x2a2148), 0.25)));
        let a = self.jitter(-4.0, 4.0);
        self.path(
            &format!(
                "M0 {:.1}C40 {:.1} 88 {:.1} 128 {:.1}V128H0z",
                84.0 + a,
                78.0 - a,
                90.0 + a,
                82.0 - a
            ),
            &soil,
        );
        for i in 0..6 {
            let x = 22.0 * i as f32 + self.jitter(0.0, 16.0);
            let (y, r) = (self.jitter(92.0, 124.0), self.jitter(3.5, 9.0));
            self.oval(x, y, r, r * 0.36, &dent);
        }
    }

    fn snowfield(&mut self) {
        self.sky(76.0);
        let far = self.plain(0xc7d8ea);
        for i in 0..3 {
            let (x, h) = (
                50.0 * i as f32 + self.jitter(0.0, 30.0),
                self.jitter(16.0, 30.0),
            );
            self.path(
                &format!(
                    "M{x:.1} {:.1}l{:.1} {:.1}h{:.1}z",
                    80.0 - h,
                    h * 1.3,
                    h,
                    -2.6 * h
                ),
                &far,
            );
        }
        for i in 0..4 {
            let x = [8.0, 26.0, 104.0, 120.0][i] + self.jitter(-6.0, 6.0);
            let h = self.jitter(17.0, 28.0);
            let tree = recolour(PINE, |c| mix(c, rgb(0xf3f7fc), 0.5));
            self.prop(&tree, x, 83.0, h, 0.0);
        }
        let (near, drift) = (self.plain(0xf4f8fd), self.plain(0xdce8f4));
        let a = self.jitter(-3.0, 3.0);
        self.path(
            &format!(
                "M0 {:.1}C40 {:.1} 88 {:.1} 128 {:.1}V128H0z",
                79.0 + a,
                75.0 - a,
                84.0 + a,
                78.0 - a
            ),
            &near,
        );
        for _ in 0..3 {
            let (x, y, rx) = (
                self.jitter(10.0, 118.0),
                self.jitter(98.0, 124.0),
                self.jitter(14.0, 26.0),
            );
            self.oval(x, y, rx, 2.6, &drift);
        }
    }

    fn garden(&mut self) {
        self.sky(72.0);
        self.hills(76.0, 0x5da84a, 0.6);
        let picket = self.plain(0xffffff);
        let shade = self.plain(0xd9dde6);
        self.rect(0.0, 70.0, 128.0, 3.0, &shade);
        self.rect(0.0, 79.0, 128.0, 3.0, &shade);
        let start = self.jitter(-7.0, 0.0);
        for i in 0..17 {
            let x = start + 8.2 * i as f32;
            self.path(
                &format!("M{x:.1} 86V66.500l2.600 -3.500l2.600 3.500V86z"),
                &picket,
            );
        }
        self.ground(86.0, 0x7ccc52, 0.8);
        for i in 0..9 {
            let x = 7.0 + 14.2 * i as f32 + self.jitter(-3.0, 3.0);
            let (y, h) = (self.jitter(88.0, 92.0), self.jitter(11.0, 15.0));
            let art = FLOWERS[self.rng.random_range(0..FLOWERS.len())];
            self.prop(art, x, y, h, 0.25);
        }
        self.tufts(4, GRASS, 0.4);
    }

    fn river(&mut self) {
        self.sky(64.0);
        self.hills(66.0, 0x5aa14c, 0.6);
        for i in 0..6 {
            let x = [6.0, 20.0, 36.0, 92.0, 108.0, 122.0][i] + self.jitter(-4.0, 4.0);
            let h = self.jitter(20.0, 32.0);
            let art = if self.rng.random_bool(0.5) { OAK } else { PINE };
            self.prop(art, x, 70.0, h, 0.5);
        }
        self.ground(67.0, 0x8cc763, 0.85);
        let (bank, water, foam) = (
            self.land(0xd8bd83, 0.5),
            self.plain(0x2b9fe3),
            self.plain(0xbfe6fb),
        );
        let bend = self.jitter(-4.0, 4.0) * if self.mirror { -1.0 } else { 1.0 };
        let band = |y: f32, h: f32| {
            format!(
                "M0 {:.1}C40 {:.1} 88 {:.1} 128 {:.1}V{:.1}C88 {:.1} 40 {:.1} 0 {:.1}z",
                y + bend,
                y - 4.0 - bend,
                y + 4.0 + bend,
                y - bend,
                y - bend + h,
                y + 5.0 + bend + h,
                y - 3.0 - bend + h,
                y + bend + h
            )
        };
        self.path(&band(72.0, 25.0), &bank);
        self.path(&band(74.0, 21.0), &water);
        for _ in 0..8 {
            let (x, y, w) = (
                self.jitter(2.0, 116.0),
                self.jitter(78.0, 92.0),
                self.jitter(5.0, 11.0),
            );
            self.rect(x, y, w, 0.9, &foam);
        }
        self.tufts(5, GRASS, 0.4);
    }

    fn village(&mut self) {
        self.sky(78.0);
        self.hills(80.0, 0x78a957, 0.65);
        let walls = [0xf6d9a8, 0xe8b48a, 0xf3e6cf, 0xcfdcc0];
        let roofs = [0xd9483b, 0xb5603c, 0x8a5a8f, 0x3f7fa6];
        for i in 0..5 {
            let w = self.jitter(20.0, 25.0);
            let x = -6.0 + 27.0 * i as f32 + self.jitter(-2.0, 2.0);
            let h = self.jitter(15.0, 21.0);
            let (wall, roof) = (self.rng.random_range(0..4), self.rng.random_range(0..4));
            let (wall, roof) = (self.plain(walls[wall]), self.land(roofs[roof], 0.75));
            let pane = if self.time == Time::Day {
                self.plain(0xbfe3f7)
            } else {
                "#ffd76a".into()
            };
            let door = self.plain(0x8a5a3c);
            self.rect(x, 90.0 - h, w, h, &wall);
            let top = 90.0 - h;
            self.path(
                &format!(
                    "M{:.1} {top:.1}L{:.1} {:.1}L{:.1} {top:.1}z",
                    x - 2.5,
                    x + w / 2.0,
                    top - 13.0,
                    x + w + 2.5
                ),
                &roof,
            );
            self.rect(x + w * 0.15, 90.0 - 10.0, 5.0, 10.0, &door);
            self.rect(x + w * 0.58, 90.0 - h * 0.75, 5.5, 5.5, &pane);
        }
        self.ground(89.0, 0xd9b98a, 0.75);
        let cobble = self.land(0xc3a276, 0.75);
        for _ in 0..12 {
            let (x, y) = (self.jitter(2.0, 126.0), self.jitter(96.0, 126.0));
            self.oval(x, y, 3.4, 1.3, &cobble);
        }
    }

    /// A framed window showing the hour.
    fn window(&mut self, x: f32, y: f32, w: f32, h: f32) {
        let (top, bottom) = self.sky_colours();
        let frame = self.plain(0x8a5a3c);
        self.rect(x - 2.5, y - 2.5, w + 5.0, h + 5.0, &frame);
        self.gradient(x, y, w, h, top, bottom);
        match self.time {
            Time::Day => self
                .out
                .push_str(&embed(SUN, x + w * 0.56, y + 2.5, w * 0.34, w * 0.34)),
            Time::Sunset => self.oval(x + w * 0.7, y + h * 0.72, w * 0.2, w * 0.2, "#ffe29a"),
            Time::Night => {
                self.out
                    .push_str(&embed(MOON, x + w * 0.56, y + 3.0, w * 0.32, w * 0.32));
                for (dx, dy) in [(0.15, 0.2), (0.3, 0.7), (0.8, 0.8), (0.2, 0.5)] {
                    self.oval(x + w * dx, y + h * dy, 0.7, 0.7, "#fff7d6");
                }
            }
        }
        self.rect(x + w / 2.0 - 0.9, y, 1.8, h, &frame);
        self.rect(x, y + h / 2.0 - 0.9, w, 1.8, &frame);
    }

    fn floor(&mut self, y: f32) {
        let (wood, seam, skirting) = (
            self.plain(0xc8935c),
            self.plain(0xb27f4b),
            self.plain(0x8a5a3c),
        );
        self.rect(0.0, y, 128.0, 128.0 - y, &wood);
        self.rect(0.0, y - 1.0, 128.0, 2.0, &skirting);
        for i in 1..5 {
            let y = y + 8.5 * i as f32;
            self.rect(0.0, y, 128.0, 0.8, &seam);
        }
    }

    fn kitchen(&mut self) {
        let paint = [0xd5efe2, 0xfdeecb, 0xdde9f7][self.rng.random_range(0..3)];
        let wall = self.plain(paint);
        let (tile, grout) = (self.plain(0xf7f9fb), self.plain(0xc9d3dd));
        self.rect(0.0, 0.0, 128.0, 92.0, &wall);
        self.rect(0.0, 54.0, 128.0, 38.0, &tile);
        for i in 0..3 {
            self.rect(0.0, 54.0 + 9.0 * i as f32, 128.0, 0.7, &grout);
        }
        for i in 0..11 {
            self.rect(12.0 * i as f32 + 4.0, 54.0, 0.7, 38.0, &grout);
        }
        self.floor(92.0);
        let (x, w) = (self.side(12.0, 28.0), 28.0);
        self.window(x, 14.0, w, 26.0);
        let cw = self.jitter(58.0, 70.0);
        let cx = self.side(128.0 - cw, cw);
        let (cabinet, door, top, knob) = (
            self.plain(0xc0703f),
            self.plain(0xd08550),
            self.plain(0x7c4a2b),
            self.plain(0xf3d9a4),
        );
        self.rect(cx, 68.0, cw, 25.0, &cabinet);
        self.rect(cx - 1.5, 65.0, cw + 3.0, 4.0, &top);
        for i in 0..3 {
            let dx = cx + 2.0 + (cw - 2.0) / 3.0 * i as f32;
            self.rect(dx, 71.0, cw / 3.0 - 3.0, 19.0, &door);
            self.oval(dx + cw / 6.0 - 1.5, 74.0, 1.1, 1.1, &knob);
        }
        self.prop(PLANT, cx + cw * 0.2, 65.5, 13.0, 0.0);
        let (px, shelf) = (cx + cw * 0.3, self.plain(0x8a5a3c));
        self.rect(px, 37.0, cw * 0.6, 2.4, &shelf);
        self.prop(PAN, px + 8.0, 37.0, 11.0, 0.0);
        let (jar, lid) = (self.plain(0xe86f5a), self.plain(0xf7e7c9));
        self.rect(px + 19.0, 29.0, 6.0, 8.0, &jar);
        self.rect(px + 18.5, 27.0, 7.0, 2.4, &lid);
    }

    fn bedroom(&mut self) {
        let (a, b) = [
            (0xd9e8fb, 0xc6dbf6),
            (0xe6dcf8, 0xd8caf3),
            (0xfde3df, 0xf9d3cd),
        ][self.rng.random_range(0..3)];
        let (wall, stripe) = (self.plain(a), self.plain(b));
        self.rect(0.0, 0.0, 128.0, 88.0, &wall);
        for i in 0..9 {
            self.rect(15.0 * i as f32 + 2.0, 0.0, 7.0, 88.0, &stripe);
        }
        self.floor(88.0);
        let x = self.side(76.0, 30.0);
        self.window(x, 14.0, 30.0, 28.0);
        let x = self.side(48.0, 0.0);
        self.prop(PICTURE, x, 38.0, 18.0, 0.0);
        let x = self.side(24.0, 0.0);
        self.prop(BED, x, 97.0, 42.0, 0.0);
        let (rug, inner) = [
            (0xd96a8b, 0xe892ab),
            (0x5a9f8f, 0x7fbcae),
            (0x7c74c9, 0x9f98dd),
        ][self.rng.random_range(0..3)];
        let (rug, inner) = (self.plain(rug), self.plain(inner));
        self.oval(66.0, 115.0, 46.0, 9.0, &rug);
        self.oval(66.0, 115.0, 38.0, 6.6, &inner);
    }
}
