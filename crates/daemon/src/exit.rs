//! How a command ends: the codes of `sysexits.h`, so that scripts and systemd can tell causes apart.

use std::process::ExitCode;

/// Exit status of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked.
    Ok = 0,
    /// It did what it was asked, and what it found is not good: nodes differ, a member is away.
    Unwell = 1,
    /// `EX_USAGE`: the command line is wrong.
    Usage = 64,
    /// `EX_DATAERR`: what the user gave cannot be used, such as a token.
    Data = 65,
    /// `EX_NOINPUT`: a file or a node folder that is needed is not there.
    NoInput = 66,
    /// `EX_UNAVAILABLE`: somebody who is needed does not answer or refuses: the daemon, a member, Redis.
    Unavailable = 69,
    /// `EX_SOFTWARE`: a bug of ours.
    Software = 70,
    /// `EX_OSERR`: the system refused something that it should give, such as a port.
    System = 71,
    /// `EX_CANTCREAT`: something is there already, or cannot be made.
    CannotCreate = 73,
    /// `EX_IOERR`: a disk refused a read or a write.
    Io = 74,
    /// `EX_TEMPFAIL`: the same command may work later.
    Temporary = 75,
    /// `EX_PROTOCOL`: somebody speaks otherwise than agreed.
    Protocol = 76,
    /// `EX_NOPERM`: not allowed.
    Permission = 77,
    /// `EX_CONFIG`: the configuration is wrong.
    Config = 78,
}

impl Exit {
    /// The name in `sysexits.h`, for documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "EX_OK",
            Self::Unwell => "1",
            Self::Usage => "EX_USAGE",
            Self::Data => "EX_DATAERR",
            Self::NoInput => "EX_NOINPUT",
            Self::Unavailable => "EX_UNAVAILABLE",
            Self::Software => "EX_SOFTWARE",
            Self::System => "EX_OSERR",
            Self::CannotCreate => "EX_CANTCREAT",
            Self::Io => "EX_IOERR",
            Self::Temporary => "EX_TEMPFAIL",
            Self::Protocol => "EX_PROTOCOL",
            Self::Permission => "EX_NOPERM",
            Self::Config => "EX_CONFIG",
        }
    }

    /// The status of a command that ended with an error of this code; [`Exit::Software`] for a code that the catalogue
    /// does not have.
    pub fn of_code(code: &str) -> Self {
        crate::codes::find(code).map_or(Self::Software, |entry| entry.exit)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_lead_to_the_status_of_their_cause() {
        assert_eq!(Exit::of_code("ERR_CONFIG_INVALID"), Exit::Config);
        assert_eq!(Exit::of_code("ERR_NOT_INITIALISED"), Exit::NoInput);
        assert_eq!(Exit::of_code("ERR_THAT_NOBODY_HAS"), Exit::Software);
        assert_eq!(Exit::Config as u8, 78);
    }
}
