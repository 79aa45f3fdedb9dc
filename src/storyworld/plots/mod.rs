//! The plots of stories: somebody wishes for something, something stands in the way, somebody
//! helps, and it ends well.
//!
//! In the texts `{h}` is the hero, `{f}` and `{g}` are friends, `{t}` and `{u}` things, spoken of
//! as known; `{f1}`, `{t1}` and so on introduce them. `{he}`, `{him}`, `{his}` stand for the hero,
//! `{at}` says where and when, `{place}` only where.

mod friends;
mod journeys;
mod nights;
mod seasons;
mod wishes;

use super::place::{Time, Weather};

/// A plot: beats in order, each told in one of several ways.
pub(super) struct Plot {
    pub name: &'static str,
    /// Names of things that fit `{t}`; empty: any.
    pub things: &'static [&'static str],
    pub beats: &'static [Beat],
}

/// One panel.
pub(super) struct Beat {
    /// Roles on the stage from left to right, of `hfgtu`.
    pub cast: &'static str,
    /// Which of the story's places.
    pub place: usize,
    pub time: Time,
    /// Falls outdoors whatever the story's weather.
    pub weather: Option<Weather>,
    /// Ways to tell it.
    pub texts: &'static [&'static str],
}

const fn beat(
    cast: &'static str,
    place: usize,
    time: Time,
    texts: &'static [&'static str],
) -> Beat {
    Beat {
        cast,
        place,
        time,
        weather: None,
        texts,
    }
}

const fn under(
    weather: Weather,
    cast: &'static str,
    place: usize,
    time: Time,
    texts: &'static [&'static str],
) -> Beat {
    Beat {
        cast,
        place,
        time,
        weather: Some(weather),
        texts,
    }
}

const fn plot(name: &'static str, things: &'static [&'static str], beats: &'static [Beat]) -> Plot {
    Plot {
        name,
        things,
        beats,
    }
}

/// All plots. A story draws its plot by number, so new ones go to the end.
pub(super) static PLOTS: &[Plot] = &[
    nights::FINDING_A_LIGHT,
    journeys::RUNAWAY_BALLOON,
    friends::BIRTHDAY,
    nights::AFRAID_OF_THE_DARK,
    journeys::JOURNEY_BY_BOAT,
    journeys::TRIP_TO_THE_SKY,
    wishes::LOST_TREASURE,
    seasons::CAUGHT_IN_THE_RAIN,
    seasons::SNOWMAN,
    seasons::GARDEN,
    friends::MUSIC,
    journeys::TRAIN_TO_A_FRIEND,
    friends::RACE,
    friends::SHY_ONE,
    nights::PLACE_TO_SLEEP,
    journeys::OLD_CASTLE,
    nights::CAMPFIRE,
    wishes::BROKEN_MACHINE,
    wishes::TOO_MANY_WISHES,
    seasons::WINTER_TREE,
    friends::QUARREL,
    journeys::LEARNING_TO_FLY,
    journeys::LETTER_FROM_FAR_AWAY,
    friends::HELPER,
    friends::PICNIC,
    nights::STAR_WATCHERS,
];
