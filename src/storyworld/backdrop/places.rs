//! How each place is built up, from the sky to what stands nearest.

use rand::Rng;

use super::{BackdropPainter, MOON, SUN, art, embed, hex, mix, recolour, rgb};
use crate::storyworld::place::Time;

const OAK: &str = art!("oak");
const PINE: &str = art!("pine");
const PALM: &str = art!("palm");
const CACTUS: &str = art!("cactus");
const ROCK: &str = art!("rock");
const PLANET: &str = art!("ringed-planet");
const EARTH: &str = art!("earth");
const FLOWERS: [&str; 3] = [art!("tulip"), art!("hibiscus"), art!("rose")];
const GRASS: &str = art!("grass");
const SHELL: &str = art!("shell");
const PLANT: &str = art!("potted-plant");
const PAN: &str = art!("pan");
const BED: &str = art!("bed");
const PICTURE: &str = art!("picture");

impl BackdropPainter {
    pub(super) fn forest(&mut self) {
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

    pub(super) fn beach(&mut self) {
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

    pub(super) fn city(&mut self) {
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

    pub(super) fn mountain(&mut self) {
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

    pub(super) fn desert(&mut self) {
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

    pub(super) fn moon(&mut self) {
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

    pub(super) fn snowfield(&mut self) {
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

    pub(super) fn garden(&mut self) {
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

    pub(super) fn river(&mut self) {
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

    pub(super) fn village(&mut self) {
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
    pub(super) fn window(&mut self, x: f32, y: f32, w: f32, h: f32) {
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

    pub(super) fn floor(&mut self, y: f32) {
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

    pub(super) fn kitchen(&mut self) {
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

    pub(super) fn bedroom(&mut self) {
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
