//! Engines elsewhere: any OpenAI-compatible server for words, ComfyUI for pictures. The only room
//! that opens a connection, and only to addresses that the author added.

mod address;
mod client;
pub mod comfy;
mod error;
pub mod keys;
pub mod openai;

pub use address::Address;
pub use client::{Cancel, Client, Timeouts};
pub use error::RemoteError;
pub use keys::ApiKey;
