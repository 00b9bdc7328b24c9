//! What a setting may be, and how it is read from text (environment, flags) and shown.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Longest text of one value; paths and addresses are far below.
const TEXT_BYTES_MAX: usize = 4_096;
/// Most entries of a list: addresses of one member.
pub const LIST_LEN_MAX: usize = transport::ADDRESSES_MAX;
/// What turns an address off.
pub const OFF: &str = "off";

/// A value that fits its setting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A text, a choice, an address, a path or a file mode.
    Text(String),
    /// A whole number.
    Integer(u64),
    /// True or false.
    Boolean(bool),
    /// Addresses, `host:port`.
    List(Vec<String>),
}

/// Which values a setting takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Any text without control characters.
    Text,
    /// An absolute path, or nothing.
    Path,
    /// One of these.
    Choice(&'static [&'static str]),
    /// `address:port` to listen on, where the address is numeric; `off` where it can be turned off.
    Listen {
        /// Whether `off` is taken.
        can_be_off: bool,
        /// Only addresses of this machine alone.
        loopback_only: bool,
    },
    /// A whole number.
    Integer {
        /// The least.
        least: u64,
        /// The greatest.
        most: u64,
        /// What is counted, as in "bytes"; empty for what is no amount.
        unit: &'static str,
    },
    /// True or false.
    Boolean,
    /// A file mode, four octal digits.
    Mode,
    /// `host:port`, at most [`LIST_LEN_MAX`].
    Addresses,
}

impl Kind {
    /// Reads a value from the text of a flag or a variable.
    ///
    /// # Errors
    /// What the value must be.
    pub fn read(self, text: &str) -> Result<Value, String> {
        match self {
            Self::Integer { .. } => match text.parse() {
                Ok(number) => self.check(Value::Integer(number)),
                Err(_) => Err(self.expected()),
            },
            Self::Boolean => match text {
                "true" | "yes" | "on" | "1" => Ok(Value::Boolean(true)),
                "false" | "no" | "off" | "0" => Ok(Value::Boolean(false)),
                _ => Err(self.expected()),
            },
            Self::Addresses => {
                let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
                self.check(Value::List(words.map(str::to_owned).collect()))
            }
            _ => self.check(Value::Text(text.to_owned())),
        }
    }

    /// Gives the value back if it fits.
    ///
    /// # Errors
    /// What the value must be.
    pub fn check(self, value: Value) -> Result<Value, String> {
        let fits = match (self, &value) {
            (Self::Integer { least, most, .. }, Value::Integer(number)) => (least..=most).contains(number),
            (Self::Boolean, Value::Boolean(_)) => true,
            (Self::Addresses, Value::List(list)) => {
                list.len() <= LIST_LEN_MAX && list.iter().all(|address| is_host_and_port(address))
            }
            (_, Value::Text(text)) if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) => false,
            (Self::Text, Value::Text(_)) => true,
            (Self::Path, Value::Text(text)) => text.is_empty() || text.starts_with('/'),
            (Self::Choice(choices), Value::Text(text)) => choices.contains(&text.as_str()),
            (Self::Listen { can_be_off, loopback_only }, Value::Text(text)) => match text.parse::<SocketAddr>() {
                Ok(address) => !loopback_only || is_loopback(address.ip()),
                Err(_) => can_be_off && text == OFF,
            },
            (Self::Mode, Value::Text(text)) => read_mode(text).is_some(),
            _ => false,
        };
        if fits { Ok(value) } else { Err(self.expected()) }
    }

    /// What a value must be, in words that go on from "it must be".
    pub fn expected(self) -> String {
        match self {
            Self::Text => format!("a text without control characters, of at most {TEXT_BYTES_MAX} bytes"),
            Self::Path => "an absolute path, or nothing".to_owned(),
            Self::Choice(choices) => format!("one of {}", choices.join(", ")),
            Self::Listen { can_be_off, loopback_only } => {
                let example = if loopback_only { "127.0.0.1:6380" } else { "0.0.0.0:8888 or [::1]:8888" };
                let place = if loopback_only { ", on the loopback interface alone" } else { "" };
                let off = if can_be_off { ", or off" } else { "" };
                format!("a numeric address with a port, such as {example}{place}{off}")
            }
            Self::Integer { least, most, unit: "" } => format!("a whole number, {least} to {most}"),
            Self::Integer { least, most, unit } => format!("a whole number of {unit}, {least} to {most}"),
            Self::Boolean => "true or false".to_owned(),
            Self::Mode => "a file mode of four octal digits, such as 0660".to_owned(),
            Self::Addresses => format!("at most {LIST_LEN_MAX} of HOST:PORT"),
        }
    }
}

impl fmt::Display for Value {
    /// As a TOML value.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => quote(text, formatter),
            Self::Integer(number) => number.fmt(formatter),
            Self::Boolean(value) => value.fmt(formatter),
            Self::List(list) => {
                formatter.write_str("[")?;
                for (place, text) in list.iter().enumerate() {
                    formatter.write_str(if place > 0 { ", " } else { "" })?;
                    quote(text, formatter)?;
                }
                formatter.write_str("]")
            }
        }
    }
}

/// A basic string of TOML. Control characters do not occur: [`Kind::check`] refuses them.
fn quote(text: &str, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(formatter, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The bits of a file mode of four octal digits; `None` for anything else, and for bits beyond permissions.
pub(super) fn read_mode(text: &str) -> Option<u32> {
    let mode = u32::from_str_radix(text, 8).ok()?;
    (text.len() == 4 && text.starts_with('0') && mode <= 0o777).then_some(mode)
}

/// True for addresses that no other machine reaches.
fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// True for `host:port` as a member is dialled.
fn is_host_and_port(address: &str) -> bool {
    /// A DNS name, a colon, a port.
    const BYTES_MAX: usize = 259;
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b',');
    address.len() <= BYTES_MAX
        && !host.is_empty()
        && host.bytes().all(is_plain)
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTEN: Kind = Kind::Listen { can_be_off: true, loopback_only: false };
    const LOCAL: Kind = Kind::Listen { can_be_off: true, loopback_only: true };
    const COUNT: Kind = Kind::Integer { least: 2, most: 9, unit: "things" };

    #[test]
    fn values_that_fit_are_read() {
        let good = [
            (COUNT, "2", "2"),
            (COUNT, "9", "9"),
            (Kind::Boolean, "on", "true"),
            (Kind::Boolean, "0", "false"),
            (Kind::Choice(&["a", "b"]), "b", "\"b\""),
            (LISTEN, "[::]:8888", "\"[::]:8888\""),
            (LISTEN, "off", "\"off\""),
            (LOCAL, "[::ffff:127.0.0.1]:1", "\"[::ffff:127.0.0.1]:1\""),
            (Kind::Mode, "0660", "\"0660\""),
            (Kind::Path, "", "\"\""),
            (Kind::Addresses, "a:1, b.example:2", "[\"a:1\", \"b.example:2\"]"),
            (Kind::Addresses, "", "[]"),
            (Kind::Text, "a\"b\\c", "\"a\\\"b\\\\c\""),
        ];
        for (kind, text, shown) in good {
            assert_eq!(kind.read(text).map(|value| value.to_string()), Ok(shown.to_owned()), "{text}");
        }
    }

    #[test]
    fn values_that_do_not_fit_are_refused_with_what_would() {
        let bad = [
            (COUNT, "1"),
            (COUNT, "10"),
            (COUNT, "-3"),
            (COUNT, ""),
            (Kind::Boolean, "maybe"),
            (Kind::Choice(&["a", "b"]), "c"),
            (LISTEN, "example.org:8888"),
            (LISTEN, ""),
            (LOCAL, "0.0.0.0:1"),
            (Kind::Mode, "660"),
            (Kind::Mode, "7777"),
            (Kind::Path, "relative"),
            (Kind::Addresses, "a"),
            (Kind::Addresses, "a:0"),
            (Kind::Addresses, "a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8,a:9"),
            (Kind::Text, "a\nb"),
        ];
        for (kind, text) in bad {
            assert_eq!(kind.read(text), Err(kind.expected()), "{text}");
        }
    }
}
