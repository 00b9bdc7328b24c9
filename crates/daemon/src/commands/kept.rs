//! `backup` and `restore`.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use store::RedisTarget;

use super::failure::Failure;
use super::{Context, now_s, print, remark};
use crate::admin::Daemon;
use crate::backup::{self, Backup, BackupError};
use crate::exit::Exit;
use crate::folder::FolderError;

/// Between two questions how far the node is.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Between two words about long work: on a terminal, where they replace each other, and in a file.
const TELL_EVERY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

pub(super) fn backup(context: &Context, target: &Path) -> Result<Exit, Failure> {
    let made = match backup::backup(&context.folder, target, now_s()) {
        Err(BackupError::Folder(in_use @ FolderError::InUse { .. })) => beside(context, target, in_use)?,
        made => made?,
    };
    if !made.has_records && context.config.store.redis.is_some() {
        remark(
            "Warning: the state of this node is in Redis, and not in this backup. Start the node and make the backup while it \
             runs, or back Redis up too.",
        );
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
    let redis = context.config.store.redis.clone().map(|redis| RedisTarget {
        url: redis.url,
        tls: redis.tls,
        prefix: redis.prefix.unwrap_or_default(),
    });
    let mut telling = Telling::default();
    let mut progress = |done: u64, all: u64| telling.tell(&format!("brought back {} of {}", mib(done), mib(all)));
    let restored = backup::restore(&context.folder, source, redis, &mut progress)?;
    telling.end();
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

/// Beside the node that runs.
fn beside(context: &Context, target: &Path, in_use: FolderError) -> Result<Backup, Failure> {
    if target.exists() {
        return Err(BackupError::Exists { path: target.into() }.into());
    }
    // Where nobody answers, it is another command that holds the folder.
    let Ok(mut daemon) = Daemon::connect(&context.door()) else { return Err(in_use.into()) };
    let number = daemon.begin_copy()?;
    let mut telling = Telling::default();
    let records = loop {
        let progress = daemon.copy_progress(number)?;
        telling.tell(&format!("copied {} records, {}", progress.records, mib(progress.bytes)));
        match progress.file {
            Some(file) => break file,
            None => thread::sleep(ASK_EVERY),
        }
    };
    telling.end();
    let made = backup::backup_running(&context.folder, target, now_s(), &records);
    // The next copy replaces it, and so does the next start.
    let _ = fs::remove_file(&records);
    Ok(made?)
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Tells how far long work is, on standard error.
#[derive(Default)]
struct Telling {
    since: Option<Instant>,
    has_told: bool,
}

impl Telling {
    fn tell(&mut self, text: &str) {
        let is_terminal = io::stderr().is_terminal();
        let every = if is_terminal { TELL_EVERY.0 } else { TELL_EVERY.1 };
        let since = *self.since.get_or_insert_with(Instant::now);
        if since.elapsed() < every {
            return;
        }
        self.since = Some(Instant::now());
        self.has_told = true;
        if is_terminal {
            // Nobody is left to be told where standard error is closed.
            let _ = write!(io::stderr(), "\r{text} ...\x1b[K").and_then(|()| io::stderr().flush());
        } else {
            remark(text);
        }
    }

    /// What comes next begins a line.
    fn end(&self) {
        if self.has_told && io::stderr().is_terminal() {
            remark("");
        }
    }
}
