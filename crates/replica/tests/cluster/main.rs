//! Small clusters without faults. The simulator does the rest.

mod basics;
mod harness;
mod limits;
mod links;
mod operator;
