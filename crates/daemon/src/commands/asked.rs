//! Commands that the running daemon answers.

use std::io::{self, IsTerminal, Write};

use super::failure::Failure;
use super::{Context, print};
use crate::admin::{AdminError, Daemon, Report};
use crate::cli::{HeldCommand, NodeCommand, OutputFormat, VerifyArgs};
use crate::exit::Exit;
use crate::folder::FolderError;

/// Asks the daemon, prints, and ends as it found things.
pub(super) fn ask(
    context: &Context,
    ask: impl FnOnce(&mut Daemon) -> Result<Report, AdminError>,
) -> Result<Exit, Failure> {
    let mut daemon = match Daemon::connect(&context.door()) {
        // What to do first where nothing was made yet.
        Err(_) if !context.folder.is_initialised() => {
            return Err(FolderError::NotInitialised { folder: context.folder.path().into() }.into());
        }
        connected => connected?,
    };
    let report = ask(&mut daemon)?;
    print(&report.text)?;
    Ok(report.exit)
}

pub(super) fn status(context: &Context, format: OutputFormat) -> Result<Exit, Failure> {
    ask(context, |daemon| daemon.status(format))
}

pub(super) fn node(context: &Context, command: &NodeCommand) -> Result<Exit, Failure> {
    let NodeCommand::List(output) = command;
    ask(context, |daemon| daemon.node_list(output.format))
}

pub(super) fn verify(context: &Context, arguments: &VerifyArgs) -> Result<Exit, Failure> {
    let node = arguments.node.as_ref().map(ToString::to_string);
    ask(context, |daemon| daemon.verify(node.as_deref(), arguments.output.format))
}

pub(super) fn held(context: &Context, command: &HeldCommand) -> Result<Exit, Failure> {
    match command {
        HeldCommand::List(output) => ask(context, |daemon| daemon.held_list(output.format)),
        HeldCommand::Release { id } => ask(context, |daemon| daemon.held_release(id)),
        HeldCommand::Discard { id, yes } => {
            if !yes && !confirmed(&format!("Drop {id} for ever?")) {
                return Err(AdminError::NotConfirmed.into());
            }
            ask(context, |daemon| daemon.held_discard(id))
        }
    }
}

pub(super) fn gc(context: &Context, format: OutputFormat) -> Result<Exit, Failure> {
    ask(context, |daemon| daemon.gc(format))
}

/// Asks at the terminal; without one nobody has confirmed anything.
fn confirmed(question: &str) -> bool {
    if !io::stdin().is_terminal() {
        return false;
    }
    let mut answer = String::new();
    let asked = write!(io::stderr(), "{question} Type yes: ").and_then(|()| io::stderr().flush());
    asked.is_ok() && io::stdin().read_line(&mut answer).is_ok() && answer.trim() == "yes"
}
