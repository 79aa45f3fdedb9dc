//! Engines elsewhere, against servers in this process that speak their protocols, and lie.

mod comfy;
#[cfg(unix)]
mod farm;
mod real;
mod server;
#[cfg(unix)]
mod stories;
mod words;

use std::ops::ControlFlow;
use std::time::Duration;

use vokenboard::remote::{Address, Client, Timeouts};

/// A client of the test's server, without a key.
fn client(address: &str) -> Client {
    Client::with_patience(Address::parse(address).unwrap(), None, hasty()).unwrap()
}

/// Little patience, so that servers which lie don't take long.
fn hasty() -> Timeouts {
    let ms = Duration::from_millis;
    Timeouts {
        look: ms(5),
        connect: ms(1_000),
        answer: ms(1_000),
        silence: ms(1_000),
        pauses: [ms(5), ms(10)],
        ask_seldom: ms(500),
        ask_often: ms(20),
    }
}

/// Never cancels.
fn go_on() -> ControlFlow<()> {
    ControlFlow::Continue(())
}
