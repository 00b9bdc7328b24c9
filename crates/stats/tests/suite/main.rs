//! What the catalogue promises.

mod catalogue;
mod documents;
mod exposition;
