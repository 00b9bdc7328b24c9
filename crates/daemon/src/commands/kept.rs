//! `backup` and `restore`.

use std::path::Path;

use super::failure::Failure;
use super::{Context, now_s, print, remark};
use crate::backup;
use crate::exit::Exit;

pub(super) fn backup(context: &Context, target: &Path) -> Result<Exit, Failure> {
    let made = backup::backup(&context.folder, target, now_s())?;
    if context.config.store.redis.is_some() {
        remark("Warning: the state of this node is in Redis, and not in this backup; back Redis up too.");
    }
    print(&format!(
        "{} is kept in {}: {} files, {} bytes. Private keys are in it: keep it as safe as the node.\n",
        made.node,
        made.folder.display(),
        made.files,
        made.bytes
    ))
}

pub(super) fn restore(context: &Context, source: &Path) -> Result<Exit, Failure> {
    let restored = backup::restore(&context.folder, source)?;
    let hours = now_s().saturating_sub(restored.made_s) / 3_600;
    let mut text = format!("{} is back as it was {hours} h ago.\n", restored.node);
    if let Some(before) = &restored.state_before {
        text.push_str(&format!("  the state before  {} (remove it when all is well)\n", before.display()));
    }
    if restored.whole {
        text.push_str("If this node invites others, wait until it has linked to a member before it does so again.\n");
    }
    let flag = context.folder_flag();
    text.push_str(&format!(
        "At its start it takes a fresh replica id and fetches what it lacks.\n\nNext:\n  crdt-engine run{flag}\n"
    ));
    print(&text)
}
