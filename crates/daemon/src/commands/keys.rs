//! `key`: the keys behind MACs.

use transport::identity::ClusterKeys;

use super::failure::Failure;
use super::joining::read_secret_line;
use super::{Context, asked, print, remark};
use crate::admin::{AdminError, Cause, Daemon, KeyUse};
use crate::cli::KeyCommand;
use crate::exit::Exit;
use crate::keys::{self, KeysError};

pub(super) fn key(context: &Context, command: &KeyCommand) -> Result<Exit, Failure> {
    let folder = &context.folder;
    let keys = match command {
        KeyCommand::List(output) => return asked::ask(context, |daemon| daemon.key_list(output.format)),
        KeyCommand::New => {
            // The line alone goes to standard output, so that scripts can take it.
            let token = keys::begin(folder)?;
            reload(context)?;
            print(&format!("{}\n", token.to_text()))?;
            remark(&format!(
                "Key {} is valid here, and signs nothing yet. Who has this line can sign as a member: keep it to \
                 yourself.\nNext:\n  on every other member   crdt-engine key add LINE\n  then on every member    \
                 crdt-engine key promote\n  then on every member    crdt-engine key retire, once `crdt-engine key list` \
                 shows no batch that needs the old one",
                token.key.id
            ));
            return Ok(Exit::Ok);
        }
        KeyCommand::Add { key } => keys::add(folder, &read_secret_line(key, "ERR_KEY_INVALID")?)?,
        KeyCommand::Promote => keys::promote(folder)?,
        KeyCommand::Retire { force } => {
            if !force {
                check_unneeded(context)?;
            }
            keys::retire(folder)?
        }
    };
    let when = if reload(context)? { "" } else { "; no daemon runs here, so from its next start on" };
    print(&format!("{}{when}\n", told(&keys)))
}

fn told(keys: &ClusterKeys) -> String {
    match &keys.other {
        Some(other) => format!("key {} signs, key {} is valid as well", keys.current.id, other.id),
        None => format!("key {} signs, and no other is valid", keys.current.id),
    }
}

/// The daemon takes the keys from the folder; false when none runs.
fn reload(context: &Context) -> Result<bool, Failure> {
    let Some(mut daemon) = running(context)? else { return Ok(false) };
    daemon.key_use(true)?;
    Ok(true)
}

/// An error while a member may need the key that does not sign.
fn check_unneeded(context: &Context) -> Result<(), Failure> {
    let Some(other) = context.folder.mac_keys()?.other else { return Ok(()) };
    let Some(mut daemon) = running(context)? else { return Err(KeysError::NotRunning { key: other.id }.into()) };
    match daemon.key_use(true)? {
        KeyUse { batches: 0, .. } => Ok(()),
        KeyUse { batches, .. } => Err(KeysError::StillNeeded { key: other.id, batches }.into()),
    }
}

/// The daemon on the folder, if one runs.
fn running(context: &Context) -> Result<Option<Daemon>, Failure> {
    match Daemon::connect(&context.door()) {
        Ok(daemon) => Ok(Some(daemon)),
        Err(AdminError::Unreachable { cause: Cause::NoSocket | Cause::NobodyListens, .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
