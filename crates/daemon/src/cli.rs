//! The command line of `crdt-engine`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use transport::NodeId;

use crate::config::{FlagValue, split_set};
use crate::invite::VALIDITY_DEFAULT_S;

/// Most characters of a node id or key that is shown back in a message about the command line.
const SHOWN_CHARS_MAX: usize = 80;

/// Multi-master replication without a coordinator: one node.
#[derive(Clone, Debug, Parser)]
#[command(name = "crdt-engine", version, after_help = AFTER_HELP)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What holds for every command.
    #[command(flatten)]
    pub shared: Shared,
}

const AFTER_HELP: &str = "\
A cluster of two in four commands:
  a$ crdt-engine init --node-id node_01
  a$ crdt-engine run                             (leave it running)
  a$ crdt-engine invite --node-id node_02        (prints a token)
  b$ crdt-engine join TOKEN && crdt-engine run

Or all of it on this machine alone: crdt-engine demo --nodes 3

Every error has a code: crdt-engine explain CODE tells more. Exit codes are those of sysexits.h.";

/// Flags that every command takes.
#[derive(Clone, Debug, Default, Args)]
pub struct Shared {
    /// The node folder [default: /var/lib/crdt-engine, or the variable CRDT_FOLDER]
    #[arg(long, global = true, value_name = "PATH")]
    pub folder: Option<PathBuf>,
    /// The configuration [default: config.toml in the node folder]
    #[arg(long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Sets one value of the configuration; may be given several times
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = split_set, help_heading = "Settings")]
    pub set: Vec<FlagValue>,
    /// Sets transport.listen: UDP address for the other members
    #[arg(long, global = true, value_name = "ADDRESS:PORT", help_heading = "Settings")]
    pub listen: Option<String>,
    /// Sets transport.advertise: where the other members reach this node
    #[arg(long, global = true, value_name = "HOST:PORT", value_delimiter = ',', help_heading = "Settings")]
    pub advertise: Vec<String>,
    /// Sets http.listen: address of health and metrics
    #[arg(long, global = true, value_name = "ADDRESS:PORT|off", help_heading = "Settings")]
    pub http: Option<String>,
    /// Sets store.durability: when a client is answered
    #[arg(long, global = true, value_name = "everysec|always", help_heading = "Settings")]
    pub durability: Option<String>,
    /// Sets log.level
    #[arg(long, global = true, value_name = "error|warn|info|debug", help_heading = "Settings")]
    pub log_level: Option<String>,
    /// Sets log.format
    #[arg(long, global = true, value_name = "text|json", help_heading = "Settings")]
    pub log_format: Option<String>,
    /// Sets log.file
    #[arg(long, global = true, value_name = "PATH", help_heading = "Settings")]
    pub log_file: Option<String>,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Runs the node in the foreground, until SIGTERM or Ctrl-C
    Run,
    /// Begins a cluster: makes its CA, keys, a configuration with comments, and its first node
    Init(InitArgs),
    /// Prints a token with which one machine may join, once
    Invite(InviteArgs),
    /// Makes this machine a member, by a token
    Join(JoinArgs),
    /// Shows how the node that runs here is; exit code 1 if a member is not there
    Status(Output),
    /// Members of the cluster
    #[command(subcommand)]
    Node(NodeCommand),
    /// Looks for mistakes in the configuration, and at the machine
    CheckConfig(Output),
    /// The configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Compares the state with that of members; exit code 1 unless all are equal
    Verify(VerifyArgs),
    /// Copies the node into a new folder, also while it runs
    Backup(BackupArgs),
    /// Brings a node back from a backup; it takes a new replica id
    Restore(BackupArgs),
    /// Batches and streams that wait for a decision
    #[command(subcommand)]
    Held(HeldCommand),
    /// The keys behind MACs, which members change in three steps: new and add, promote, retire
    #[command(subcommand)]
    Key(KeyCommand),
    /// Collects now what no member needs any more
    Gc(Output),
    /// Says what an error code means, why it happens and what to do
    Explain(ExplainArgs),
    /// Shows a cluster on this machine with live traffic, and takes it away again
    Demo(DemoArgs),
}

/// `init`.
#[derive(Clone, Debug, Args)]
pub struct InitArgs {
    /// Name of the node: 1 to 63 of a-z 0-9 _ -
    #[arg(long, value_name = "ID", value_parser = node_id)]
    pub node_id: NodeId,
    /// Kind of the node's key
    #[arg(long, value_enum, default_value_t)]
    pub key_kind: KeyKind,
    /// Certificates of your own.
    #[command(flatten)]
    pub own: OwnArgs,
}

/// Certificates that somebody else made.
#[derive(Clone, Debug, Default, Args)]
pub struct OwnArgs {
    /// Certificate of the node (PEM), instead of one that the cluster issues; its only SAN is the node id
    #[arg(long, value_name = "FILE", requires_all = ["key", "ca"], help_heading = "Own certificates")]
    pub certificate: Option<PathBuf>,
    /// Its private key (PEM, mode 0600)
    #[arg(long, value_name = "FILE", requires_all = ["certificate", "ca"], help_heading = "Own certificates")]
    pub key: Option<PathBuf>,
    /// Certificate of the CA (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["certificate", "key"], help_heading = "Own certificates")]
    pub ca: Option<PathBuf>,
}

/// `invite`.
#[derive(Clone, Debug, Args)]
pub struct InviteArgs {
    /// Name of the node that is invited
    #[arg(long, value_name = "ID", value_parser = node_id)]
    pub node_id: NodeId,
    /// Where the other machine reaches this node [default: what this node tells others]
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
    /// How long the token is valid: seconds, or with m, h or d behind the number
    #[arg(long, value_name = "TIME", value_parser = duration_s, default_value_t = VALIDITY_DEFAULT_S)]
    pub valid_for: u64,
    /// A member gets a new certificate
    #[arg(long)]
    pub renew: bool,
}

/// `join`.
#[derive(Clone, Debug, Args)]
pub struct JoinArgs {
    /// The token that invite printed; - reads it from standard input, where no other user sees it
    pub token: String,
    /// Kind of the node's key
    #[arg(long, value_enum, default_value_t)]
    pub key_kind: KeyKind,
    /// Certificates of your own.
    #[command(flatten)]
    pub own: OwnArgs,
}

/// `node`.
#[derive(Clone, Debug, Subcommand)]
pub enum NodeCommand {
    /// Lists the other members with their links and what they lack
    List(Output),
}

/// `config`.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Prints all settings as run would use them
    Show(ShowArgs),
    /// Prints a configuration with all defaults and comments
    Default,
}

/// `config show`.
#[derive(Clone, Debug, Args)]
pub struct ShowArgs {
    /// Also tells where each value comes from
    #[arg(long)]
    pub origin: bool,
    /// Only keys that begin with this
    pub key: Option<String>,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
}

/// `verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// Only with this member
    #[arg(value_parser = node_id)]
    pub node: Option<NodeId>,
    /// How it is shown.
    #[command(flatten)]
    pub output: Output,
}

/// `backup` and `restore`.
#[derive(Clone, Debug, Args)]
pub struct BackupArgs {
    /// The folder of the backup
    pub backup: PathBuf,
}

/// `held`.
#[derive(Clone, Debug, Subcommand)]
pub enum HeldCommand {
    /// Lists what waits, and why
    List(Output),
    /// Lets one go on
    Release {
        /// As in the list
        id: String,
    },
    /// Drops one for ever
    Discard {
        /// As in the list
        id: String,
        /// Does not ask
        #[arg(long)]
        yes: bool,
    },
}

/// `key`.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyCommand {
    /// Shows which keys are valid, and whether the one that does not sign is still needed
    List(Output),
    /// Makes a key, and prints the line that every other member needs; it signs nothing yet
    New,
    /// Makes a key valid that another member has made
    Add {
        /// The line that key new printed; - reads it from standard input, where no other user sees it
        key: String,
    },
    /// Lets the newer key sign, once it is valid on every member
    Promote,
    /// Forgets the older key, once no member needs it
    Retire {
        /// Does not ask whether a member needs it
        #[arg(long)]
        force: bool,
    },
}

/// `explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// A code, such as ERR_TOKEN_EXPIRED; without one, all codes are listed
    pub code: Option<String>,
}

/// `demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// How many nodes, 2 to 7
    #[arg(long, default_value_t = 3)]
    pub nodes: usize,
    /// Ends by itself after so many seconds of traffic [default: at Ctrl-C]
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Operations a second through each door, at most
    #[arg(long, default_value_t = crate::demo::OPS_PER_SECOND_DEFAULT)]
    pub ops_per_second: u32,
}

/// How something is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Args)]
pub struct Output {
    /// How it is shown
    #[arg(long, value_enum, default_value_t)]
    pub format: OutputFormat,
}

/// Forms of output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum OutputFormat {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

/// Kinds of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum KeyKind {
    /// Ed25519
    #[default]
    Ed25519,
    /// ECDSA over P-256, for hardware that knows nothing else
    EcdsaP256,
}

impl From<KeyKind> for transport::identity::KeyKind {
    fn from(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Ed25519 => Self::Ed25519,
            KeyKind::EcdsaP256 => Self::EcdsaP256,
        }
    }
}

impl Shared {
    /// The settings that flags give. `--set` comes last: of two for one key it counts.
    pub fn values(&self) -> Vec<FlagValue> {
        let advertise = (!self.advertise.is_empty()).then(|| self.advertise.join(","));
        let named = [
            ("--listen", "transport.listen", self.listen.clone()),
            ("--advertise", "transport.advertise", advertise),
            ("--http", "http.listen", self.http.clone()),
            ("--durability", "store.durability", self.durability.clone()),
            ("--log-level", "log.level", self.log_level.clone()),
            ("--log-format", "log.format", self.log_format.clone()),
            ("--log-file", "log.file", self.log_file.clone()),
        ];
        let named = named.into_iter().filter_map(|(flag, key, text)| {
            Some(FlagValue { flag: flag.to_owned(), key: key.to_owned(), text: text? })
        });
        named.chain(self.set.iter().cloned()).collect()
    }
}

fn node_id(text: &str) -> Result<NodeId, String> {
    NodeId::new(text).map_err(|error| {
        let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
        format!("{shown:?} is no node id: {error} (ERR_NODE_ID_INVALID)")
    })
}

/// Seconds from `90`, `90s`, `15m`, `24h` or `7d`.
fn duration_s(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let unit_s = match text.get(digits.len()..) {
        Some("" | "s") => 1,
        Some("m") => 60,
        Some("h") => 3_600,
        Some("d") => 86_400,
        _ => return Err("the unit must be s, m, h or d".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "it must be a number, such as 24h".to_owned())?;
    number.checked_mul(unit_s).ok_or_else(|| "it is too long".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(words: &[&str]) -> CommandLine {
        CommandLine::try_parse_from(["crdt-engine"].iter().chain(words)).unwrap()
    }

    #[test]
    fn the_definition_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_documents_is_understood() {
        let lines = [
            "run",
            "run --folder /x --listen 127.0.0.1:1 --http off --durability always",
            "init --node-id node_01",
            "init --node-id node_01 --certificate a --key b --ca c",
            "invite --node-id node_02 --valid-for 2h --renew",
            "join crdt1_abc --advertise a:1,b:2",
            "status --format json",
            "node list",
            "check-config",
            "config show --origin transport",
            "config default",
            "verify",
            "verify node_02",
            "backup /tmp/b",
            "restore /tmp/b",
            "held list",
            "held release x",
            "held discard x --yes",
            "gc",
            "explain ERR_TOKEN_EXPIRED",
            "explain",
            "demo --nodes 3 --seconds 5",
        ];
        for line in lines {
            parse(&line.split(' ').collect::<Vec<_>>());
        }
    }

    #[test]
    fn flags_become_settings_wherever_they_stand() {
        let line = parse(&["--set", "gc.threshold=5", "run", "--http", "off", "--advertise", "a:1,b:2"]);
        let values: Vec<(String, String)> =
            line.shared.values().into_iter().map(|value| (value.key, value.text)).collect();
        let expected = [("transport.advertise", "a:1,b:2"), ("http.listen", "off"), ("gc.threshold", "5")];
        assert_eq!(values, expected.map(|(key, text)| (key.to_owned(), text.to_owned())));
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(["90", "90s", "15m", "2h", "1d"].map(duration_s), [90, 90, 900, 7_200, 86_400].map(Ok));
        for bad in ["", "h", "1w", "-1h", "99999999999999999999d", "1 h"] {
            assert!(duration_s(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn own_certificates_come_whole_or_not_at_all() {
        let words = ["crdt-engine", "init", "--node-id", "a", "--certificate", "x"];
        assert!(CommandLine::try_parse_from(words).is_err());
        assert!(CommandLine::try_parse_from(["crdt-engine", "init", "--node-id", "NODE"]).is_err());
    }
}
