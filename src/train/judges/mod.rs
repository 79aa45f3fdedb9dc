//! Stages that make the judges ([`crate::judges`]).

pub mod contrastive;
pub mod recogniser;
