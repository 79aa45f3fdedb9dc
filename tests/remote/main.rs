//! Engines elsewhere, against servers in this process that speak their protocols, and lie.

mod comfy;
mod server;
#[cfg(unix)]
mod stories;
mod words;

use std::ops::ControlFlow;

use vokenboard::remote::{Address, Client};

/// A client of the test's server, without a key.
fn client(address: &str) -> Client {
    Client::new(Address::parse(address).unwrap(), None).unwrap()
}

/// Never cancels.
fn go_on() -> ControlFlow<()> {
    ControlFlow::Continue(())
}
