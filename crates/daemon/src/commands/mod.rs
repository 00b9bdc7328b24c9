//! Each command of the command line, from its arguments to what it prints.

mod asked;
mod configured;
mod failure;
mod joining;
mod kept;
mod keys;
mod run;

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;

use crate::cli::{Command, CommandLine, ConfigCommand, DemoArgs, Shared};
use crate::config::{Config, Settings, Sources};
use crate::demo::{self, DemoOptions};
use crate::exit::Exit;
use crate::explain;
use crate::folder::{DEFAULT_FOLDER, Folder};
use failure::Failure;

/// Names the node folder where no flag does.
const FOLDER_VARIABLE: &str = "CRDT_FOLDER";

/// What most commands need.
struct Context {
    folder: Folder,
    settings: Settings,
    config: Config,
    /// The configuration file, which need not be there.
    file: PathBuf,
}

/// Carries out the command line.
pub(crate) fn main() -> Exit {
    let line = match CommandLine::try_parse() {
        Ok(line) => line,
        Err(error) => {
            // Where the message cannot be written, the status still tells.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage } else { Exit::Ok };
        }
    };
    carry_out(line).unwrap_or_else(|failure| failure.report())
}

fn carry_out(line: CommandLine) -> Result<Exit, Failure> {
    let shared = &line.shared;
    match line.command {
        Command::Explain(arguments) => explain(arguments.code.as_deref()),
        Command::Demo(arguments) => demo(&arguments),
        Command::Config(ConfigCommand::Default) => configured::default_text(),
        Command::Run => run::run(&Context::load(shared)?),
        Command::Init(arguments) => joining::init(&Context::load(shared)?, &arguments),
        Command::Invite(arguments) => joining::invite(&Context::load(shared)?, &arguments),
        Command::Join(arguments) => joining::join(&Context::load(shared)?, &arguments),
        Command::CheckConfig(output) => configured::check(&Context::load(shared)?, output.format),
        Command::Config(ConfigCommand::Show(arguments)) => configured::show(&Context::load(shared)?, &arguments),
        Command::Status(output) => asked::status(&Context::load(shared)?, output.format),
        Command::Node(command) => asked::node(&Context::load(shared)?, &command),
        Command::Verify(arguments) => asked::verify(&Context::load(shared)?, &arguments),
        Command::Held(command) => asked::held(&Context::load(shared)?, &command),
        Command::Key(command) => keys::key(&Context::load(shared)?, &command),
        Command::Gc(output) => asked::gc(&Context::load(shared)?, output.format),
        Command::Backup(arguments) => kept::backup(&Context::load(shared)?, &arguments.backup),
        Command::Restore(arguments) => kept::restore(&Context::load(shared)?, &arguments.backup),
    }
}

impl Context {
    fn load(shared: &Shared) -> Result<Self, Failure> {
        let variable = || env::var_os(FOLDER_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        let folder = shared.folder.clone().or_else(variable);
        let folder = Folder::new(folder.unwrap_or_else(|| PathBuf::from(DEFAULT_FOLDER)));
        let file = shared.config.clone().unwrap_or_else(|| folder.config());
        let sources = Sources {
            file: Some(file.clone()),
            file_needed: shared.config.is_some(),
            environment: env::vars_os().collect(),
            flags: shared.values(),
        };
        let settings = Settings::load(&sources)?;
        let config = Config::new(&settings)?;
        Ok(Self { folder, settings, config, file })
    }

    /// The socket of the local door.
    fn door(&self) -> PathBuf {
        self.config.door.socket.clone().unwrap_or_else(|| self.folder.door())
    }

    /// What stands behind further commands about this node, as in ` --folder /x`.
    fn folder_flag(&self) -> String {
        match self.folder.path().to_str() {
            Some(DEFAULT_FOLDER) => String::new(),
            _ => format!(" --folder {}", self.folder.path().display()),
        }
    }
}

fn explain(code: Option<&str>) -> Result<Exit, Failure> {
    let text = match code {
        Some(code) => explain::explain(code).map_err(|text| Failure::new("ERR_CODE_UNKNOWN", text))?,
        None => explain::list(),
    };
    print(&text)
}

fn demo(arguments: &DemoArgs) -> Result<Exit, Failure> {
    let program = env::current_exe()
        .map_err(|error| Failure::new("ERR_SYSTEM", format!("the path of this program is not known: {error}")))?;
    let options = DemoOptions {
        nodes: arguments.nodes,
        seconds: arguments.seconds,
        ops_per_second: arguments.ops_per_second,
        program,
    };
    demo::run(&options, &mut io::stdout())?;
    Ok(Exit::Ok)
}

/// Writes a result to standard output. A reader that has seen enough, as `head`, is no error.
fn print(text: &str) -> Result<Exit, Failure> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new("ERR_SYSTEM", format!("standard output cannot be written: {error}")))
        }
        _ => Ok(Exit::Ok),
    }
}

/// Writes a remark to standard error, where it does not mix with results.
fn remark(text: &str) {
    // Nobody is left to be told where standard error is closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Seconds since 1970, for certificates and tokens.
fn now_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
