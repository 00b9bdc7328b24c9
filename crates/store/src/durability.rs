//! When a group counts as durable.

use core::fmt;
use core::str::FromStr;
use std::time::Duration;

/// When a group counts as durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// When it is synced: survives a power cut. One sync for all groups that wait.
    Always,
    /// When the operating system (Redis: the server) has it: survives `kill -9` of this process. It is synced within
    /// [`Durability::EVERYSEC`], which is what a power cut may take.
    #[default]
    Everysec,
}

impl Durability {
    /// Longest time between a write and its sync under [`Durability::Everysec`]. A second, as in Redis: longer loses
    /// more with the power, shorter syncs a disk that serves others too.
    pub const EVERYSEC: Duration = Duration::from_secs(1);
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Everysec => "everysec",
        })
    }
}

impl FromStr for Durability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "always" => Ok(Self::Always),
            "everysec" => Ok(Self::Everysec),
            _ => Err(format!("durability {text:?} is neither \"always\" nor \"everysec\"")),
        }
    }
}
