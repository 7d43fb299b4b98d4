//! The nouns that faces exchange with the engine: options of the verbs, views of what is, events, streams.

pub mod event;
pub mod exec;
pub mod image;
pub mod network;
pub mod options;
mod parts;
pub mod stream;
pub mod system;
pub mod view;
