//! What happens to real clusters.

mod away;
mod clock;
mod crashes;
mod disk;
mod identity;
mod partition;
mod restored;
mod slow;
