//! `init`, `invite` and `join`.

use std::io::{self, Read};

use super::failure::Failure;
use super::{Context, now_s, print, remark};
use crate::cli::{InitArgs, InviteArgs, JoinArgs, OwnArgs};
use crate::config::config_text;
use crate::exit::Exit;
use crate::folder::hex;
use crate::init::{self, InitOptions, OwnFiles};
use crate::invite::{self, InviteOptions};
use crate::join::{self, JoinOptions};

/// Most bytes that are read for a token or a key; the longest has a tenth of them.
const TOKEN_BYTES_MAX: u64 = 8 << 10;

pub(super) fn init(context: &Context, arguments: &InitArgs) -> Result<Exit, Failure> {
    let options = InitOptions {
        node: arguments.node_id.clone(),
        key_kind: arguments.key_kind.into(),
        own: own_files(&arguments.own),
        addresses: context.config.transport.told_addresses(),
        config_text: config_text(&context.settings),
        now_s: now_s(),
    };
    let made = init::init(&context.folder, &options)?;
    let flag = context.folder_flag();
    let mut text = format!("{} is the first node of a new cluster.\n", made.node);
    text.push_str(&format!("  folder         {}\n", made.folder.display()));
    text.push_str(&format!("  configuration  {}\n", config_remark(context, made.config_written)));
    text.push_str(&format!("  cluster        {:032x}\n", made.cluster));
    text.push_str(&format!("  CA (SHA-256)   {}\n", hex::encode(&made.authority_sha256)));
    if let Some(key) = made.authority_key {
        text.push_str(&format!("  CA key         {}\n", key.display()));
        text.push_str("Keep a copy of the CA key offline: without it no further node can join.\n");
    }
    text.push_str(&format!("\nNext:\n  crdt-engine run{flag}\n  crdt-engine invite --node-id node_02{flag}\n"));
    print(&text)
}

/// The token alone goes to standard output, so that scripts can take it.
pub(super) fn invite(context: &Context, arguments: &InviteArgs) -> Result<Exit, Failure> {
    let options = InviteOptions {
        node: arguments.node_id.clone(),
        address: arguments.address.clone(),
        port: context.config.transport.listen.port(),
        valid_s: arguments.valid_for,
        renew: arguments.renew,
        now_s: now_s(),
    };
    let made = invite::invite(&context.folder, &options)?;
    if made.address_guessed {
        remark(&format!(
            "Warning: nobody named an address of this node, so the token names {}. If the other machine does not reach \
             that, add --address HOST:PORT.",
            made.address
        ));
    }
    let hours = arguments.valid_for / 3_600;
    let time = if hours > 0 { format!("{hours} h") } else { format!("{} min", arguments.valid_for / 60) };
    print(&format!("{}\n", made.token))?;
    remark(&format!(
        "It lets one machine in as {}, once, within {time}, by {}. Who has it can enter: keep it to yourself.\nThere, \
         run: crdt-engine join TOKEN && crdt-engine run",
        made.node, made.address
    ));
    Ok(Exit::Ok)
}

pub(super) fn join(context: &Context, arguments: &JoinArgs) -> Result<Exit, Failure> {
    let transport = &context.config.transport;
    let options = JoinOptions {
        token: read_secret_line(&arguments.token, "ERR_TOKEN_INVALID")?,
        addresses: transport.told_addresses(),
        port: transport.listen.port(),
        key_kind: arguments.key_kind.into(),
        own: own_files(&arguments.own),
        config_text: config_text(&context.settings),
        now_s: now_s(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::new("ERR_SYSTEM", format!("the runtime cannot be started: {error}")))?;
    let member = runtime.block_on(join::join(&context.folder, &options))?;
    let flag = context.folder_flag();
    let mut text = match member.renewed {
        true => format!("{} has a new certificate.\n", member.node),
        false => format!("{} is a member now, one of {}.\n", member.node, member.members),
    };
    text.push_str(&format!("  folder         {}\n", member.folder.display()));
    text.push_str(&format!("  configuration  {}\n", config_remark(context, member.config_written)));
    text.push_str(&format!("  cluster        {:032x}\n", member.cluster));
    text.push_str(&format!("  id slot        {}\n", member.slot));
    text.push_str(&match member.renewed {
        true => "\nNext: restart the node, which takes the certificate then.\n".to_owned(),
        false => format!("\nNext:\n  crdt-engine run{flag}\n"),
    });
    print(&text)
}

fn config_remark(context: &Context, written: bool) -> String {
    let path = context.folder.config();
    let what = if written { "written, all defaults as comments" } else { "was there, and is left as it is" };
    format!("{} ({what})", path.display())
}

fn own_files(own: &OwnArgs) -> Option<OwnFiles> {
    let OwnArgs { certificate, key, ca } = own.clone();
    Some(OwnFiles { certificate: certificate?, key: key?, ca: ca? })
}

/// A token or a key from the command line, or with `-` from standard input; `code` is that of a line that does not read.
pub(super) fn read_secret_line(argument: &str, code: &'static str) -> Result<String, Failure> {
    if argument != "-" {
        return Ok(argument.to_owned());
    }
    let mut text = String::new();
    let read = io::stdin().lock().take(TOKEN_BYTES_MAX).read_to_string(&mut text);
    read.map_err(|error| Failure::new(code, format!("standard input cannot be read: {error}")))?;
    Ok(text.trim().to_owned())
}
