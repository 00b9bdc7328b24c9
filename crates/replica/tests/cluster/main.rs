//! Small clusters without faults. The simulator does the rest.

mod basics;
mod blast;
mod blast_life;
mod gaps;
mod gathered;
mod harness;
mod limits;
mod links;
mod operator;
mod parts;
