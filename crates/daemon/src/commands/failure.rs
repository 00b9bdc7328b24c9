//! How a command fails: a sentence and a code on standard error, and a status that scripts can read.

use std::fmt;

use crate::admin::AdminError;
use crate::backup::BackupError;
use crate::config::ConfigError;
use crate::demo::DemoError;
use crate::engine::EngineError;
use crate::exit::Exit;
use crate::folder::FolderError;
use crate::init::InitError;
use crate::invite::InviteError;
use crate::join::JoinCommandError;
use crate::keys::KeysError;
use crate::log::LogError;

use super::remark;

/// Why a command failed.
#[derive(Debug)]
pub(super) struct Failure {
    code: &'static str,
    text: String,
}

impl Failure {
    pub(super) fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    pub(super) fn code(&self) -> &'static str {
        self.code
    }

    pub(super) fn exit(&self) -> Exit {
        Exit::of_code(self.code)
    }

    /// Says it, and gives the status.
    pub(super) fn report(&self) -> Exit {
        let (Self { code, text }, exit) = (self, self.exit());
        if exit == Exit::Ok {
            remark(text);
            return exit;
        }
        remark(&format!("Error: {text}"));
        remark(&format!("{code}: crdt-engine explain {code} tells more"));
        exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

macro_rules! from_errors {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::new(error.code(), error.to_string())
            }
        })+
    };
}

from_errors!(
    AdminError,
    BackupError,
    ConfigError,
    DemoError,
    EngineError,
    FolderError,
    InitError,
    InviteError,
    JoinCommandError,
    KeysError,
    LogError,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_ends_with_the_status_of_its_code() {
        assert_eq!(Failure::from(AdminError::NotConfirmed).report(), Exit::Usage);
        assert_eq!(Failure::from(DemoError::Interrupted).report(), Exit::Ok);
    }
}
