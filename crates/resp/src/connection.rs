//! Commands about the connection: AUTH, HELLO, SELECT, CLIENT, COMMAND, PING, ECHO.

use crdt::{Name, Namespace};

use crate::error::ErrorReply;
use crate::number::parse_integer;
use crate::reply::{Reply, Version};
use crate::request::Arguments;
use crate::session::Session;
use crate::table::{self, Command, Keys, TABLE, Verb};

/// Longest name of a connection.
const NAME_BYTES_MAX: usize = 255;
/// The one user.
const USER: &[u8] = b"default";

impl Session {
    /// Answers a command that concerns this connection alone.
    pub(crate) fn connection(&mut self, command: &Command, arguments: Arguments<'_>) -> Result<Reply, ErrorReply> {
        match command.verb {
            Verb::Ping => match arguments.len() {
                1 => Ok(Reply::Simple("PONG")),
                2 => Ok(Reply::bulk(arguments.at(1))),
                _ => Err(ErrorReply::arity(command.name)),
            },
            Verb::Echo => Ok(Reply::bulk(arguments.at(1))),
            Verb::Select => self.select(arguments.at(1)),
            Verb::Auth => match arguments.len() {
                2 => self.authenticate_alone(arguments.at(1)),
                3 => self.authenticate(arguments.at(1), arguments.at(2)).map(|()| Reply::OK),
                _ => Err(ErrorReply::syntax()),
            },
            Verb::Hello => self.hello(arguments),
            Verb::Client => self.client(arguments),
            Verb::Command => tell_commands(arguments),
            // The others run over keys, control the transaction or go to the daemon.
            _ => Err(ErrorReply::err(format!("'{}' cannot run here", command.name))),
        }
    }

    fn select(&mut self, index: &[u8]) -> Result<Reply, ErrorReply> {
        let index = parse_integer(index).ok_or_else(ErrorReply::not_an_integer)?;
        let index = u32::try_from(index).ok().filter(|index| *index < self.config.limits.databases_max);
        self.namespace = index.map(Namespace).ok_or_else(|| ErrorReply::err("DB index is out of range"))?;
        Ok(Reply::OK)
    }

    fn authenticate_alone(&mut self, password: &[u8]) -> Result<Reply, ErrorReply> {
        if self.config.password.is_none() {
            return Err(ErrorReply::err(
                "AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        self.authenticate(USER, password).map(|()| Reply::OK)
    }

    fn authenticate(&mut self, user: &[u8], password: &[u8]) -> Result<(), ErrorReply> {
        let fits = self.config.password.as_ref().is_none_or(|own| own.matches(password));
        if !fits || user != USER {
            return Err(ErrorReply::new("WRONGPASS", "invalid username-password pair or user is disabled."));
        }
        self.is_authenticated = true;
        Ok(())
    }

    fn hello(&mut self, arguments: Arguments<'_>) -> Result<Reply, ErrorReply> {
        let mut version = self.version;
        if let Some(number) = arguments.get(1) {
            version = match parse_integer(number) {
                Some(2) => Version::Resp2,
                Some(3) => Version::Resp3,
                Some(_) => return Err(ErrorReply::new("NOPROTO", "unsupported protocol version")),
                None => return Err(ErrorReply::err("Protocol version is not an integer or out of range")),
            };
        }
        let mut credentials = None;
        let mut name = None;
        let mut at = 2;
        while let Some(option) = arguments.get(at) {
            match (option.to_ascii_uppercase().as_slice(), arguments.get(at + 1), arguments.get(at + 2)) {
                (b"AUTH", Some(user), Some(password)) => {
                    credentials = Some((user, password));
                    at += 3;
                }
                (b"SETNAME", Some(given), _) => {
                    name = Some(connection_name(given)?);
                    at += 2;
                }
                _ => {
                    let option = String::from_utf8_lossy(option);
                    return Err(ErrorReply::err(format!("Syntax error in HELLO option '{option}'")));
                }
            }
        }
        if let Some((user, password)) = credentials {
            self.authenticate(user, password)?;
        }
        if !self.is_authenticated {
            return Err(ErrorReply::new(
                "NOAUTH",
                "HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> \
                 <pass> option can be used to authenticate the client and select the RESP protocol version at the \
                 same time",
            ));
        }
        if let Some(name) = name {
            self.name = name;
        }
        self.version = version;
        Ok(self.greeting())
    }

    fn greeting(&self) -> Reply {
        let pairs = [
            ("server", Reply::bulk("crdt-engine")),
            ("version", Reply::bulk(&self.config.server_version)),
            ("proto", Reply::Integer(self.version.number())),
            ("id", Reply::Integer(self.id as i64)),
            ("mode", Reply::bulk("standalone")),
            // Every node takes writes, which is what a client asks for with this word.
            ("role", Reply::bulk("master")),
            ("modules", Reply::Array(Vec::new())),
        ];
        Reply::Map(pairs.into_iter().map(|(name, value)| (Reply::bulk(name), value)).collect())
    }

    fn client(&mut self, arguments: Arguments<'_>) -> Result<Reply, ErrorReply> {
        let subcommand = arguments.at(1).to_ascii_uppercase();
        match (subcommand.as_slice(), arguments.len()) {
            (b"ID", 2) => Ok(Reply::Integer(self.id as i64)),
            (b"INFO", 2) => Ok(Reply::Text(self.description())),
            (b"GETNAME", 2) if self.name.is_empty() => Ok(Reply::Null),
            (b"GETNAME", 2) => Ok(Reply::bulk(&self.name)),
            (b"SETNAME", 3) => {
                self.name = connection_name(arguments.at(2))?;
                Ok(Reply::OK)
            }
            (b"SETINFO", 4) => match arguments.at(2).to_ascii_uppercase().as_slice() {
                // Clients tell who they are when they connect, and want an OK. Nothing here asks for it.
                b"LIB-NAME" | b"LIB-VER" => connection_name(arguments.at(3)).map(|_| Reply::OK),
                other => Err(ErrorReply::err(format!("Unrecognized option '{}'", String::from_utf8_lossy(other)))),
            },
            // Nothing is evicted here, so both are true already.
            (b"NO-EVICT" | b"NO-TOUCH", 3) => match arguments.at(2).to_ascii_uppercase().as_slice() {
                b"ON" | b"OFF" => Ok(Reply::OK),
                _ => Err(ErrorReply::syntax()),
            },
            (b"HELP", 2) => Ok(help("CLIENT", table::find(b"CLIENT"))),
            (b"ID" | b"INFO" | b"GETNAME" | b"SETNAME" | b"SETINFO" | b"NO-EVICT" | b"NO-TOUCH" | b"HELP", _) => {
                Err(ErrorReply::arity(&format!("client|{}", String::from_utf8_lossy(&subcommand))))
            }
            _ => Err(unknown_subcommand("CLIENT", arguments.at(1))),
        }
    }

    fn description(&self) -> String {
        let (id, name) = (self.id, String::from_utf8_lossy(&self.name));
        let (database, version) = (self.namespace.0, self.version.number());
        format!("id={id} name={name} db={database} user=default resp={version}\n")
    }
}

/// Names are shown in lists of one line, so they are printable and have no spaces.
fn connection_name(name: &[u8]) -> Result<Vec<u8>, ErrorReply> {
    if name.len() > NAME_BYTES_MAX || !name.iter().all(u8::is_ascii_graphic) {
        return Err(ErrorReply::err("Client names cannot contain spaces, newlines or special characters."));
    }
    Ok(name.to_vec())
}

fn unknown_subcommand(command: &str, subcommand: &[u8]) -> ErrorReply {
    let subcommand = subcommand.get(..128).unwrap_or(subcommand);
    let subcommand = String::from_utf8_lossy(subcommand);
    ErrorReply::err(format!("unknown subcommand '{subcommand}'. Try {command} HELP."))
}

fn help(name: &'static str, command: Option<&'static Command>) -> Reply {
    let lines = command.map_or([name, ""], |command| [command.syntax, command.summary]);
    Reply::Array(lines.into_iter().map(Reply::Simple).collect())
}

fn tell_commands(arguments: Arguments<'_>) -> Result<Reply, ErrorReply> {
    let Some(subcommand) = arguments.get(1) else {
        return Ok(Reply::Array(TABLE.iter().map(description).collect()));
    };
    let named = || arguments.rest(2).map(table::find);
    let is_all = arguments.len() == 2;
    match subcommand.to_ascii_uppercase().as_slice() {
        b"COUNT" if is_all => Ok(Reply::count(TABLE.len())),
        b"LIST" if is_all => Ok(Reply::Array(TABLE.iter().map(|command| Reply::Bulk(small(command))).collect())),
        b"INFO" if is_all => Ok(Reply::Array(TABLE.iter().map(description).collect())),
        b"INFO" => Ok(Reply::Array(named().map(|found| found.map_or(Reply::NullArray, description)).collect())),
        b"DOCS" if is_all => Ok(Reply::Map(TABLE.iter().map(documentation).collect())),
        b"DOCS" => Ok(Reply::Map(named().flatten().map(documentation).collect())),
        b"HELP" if is_all => Ok(help("COMMAND", table::find(b"COMMAND"))),
        b"COUNT" | b"LIST" | b"HELP" => {
            Err(ErrorReply::arity(&format!("command|{}", String::from_utf8_lossy(subcommand))))
        }
        _ => Err(unknown_subcommand("COMMAND", subcommand)),
    }
}

/// Names are told in small letters, as Redis tells them.
fn small(command: &Command) -> Name {
    command.name.to_ascii_lowercase().as_bytes().into()
}

/// One row as Redis 7 tells it: name, arity, flags, keys, categories, tips, key specifications, subcommands.
fn description(command: &Command) -> Reply {
    let (first, last, step): Keys = command.keys;
    Reply::Array(vec![
        Reply::Bulk(small(command)),
        Reply::Integer(command.arity),
        Reply::Set(command.flags.iter().map(|flag| Reply::Simple(flag.name())).collect()),
        Reply::Integer(first),
        Reply::Integer(last),
        Reply::Integer(step),
        Reply::Set(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
    ])
}

fn documentation(command: &Command) -> (Reply, Reply) {
    let pairs = [
        ("summary", command.summary),
        ("since", "0.1.0"),
        ("group", command.group.name()),
        ("syntax", command.syntax),
        ("crdt", command.data.name()),
        ("wins", command.data.wins()),
        ("delete", command.data.delete_cost()),
    ];
    let pairs = pairs.into_iter().map(|(name, text)| (Reply::bulk(name), Reply::bulk(text)));
    (Reply::Bulk(small(command)), Reply::Map(pairs.collect()))
}
