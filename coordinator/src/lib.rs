//! coordinator

pub mod split;
