//! What a user does on the command line, one module a subject. One program for all of them, since
//! each would link the whole library.

mod built_in_frame;
mod cast;
mod cli;
#[path = "../common/mod.rs"]
mod common;
mod eval;
mod fuzz;
mod gpu;
mod library;
mod own_models;
mod support;
#[cfg(unix)]
mod trust;
mod writers;
