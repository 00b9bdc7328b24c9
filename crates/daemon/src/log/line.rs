//! One line of the log.

use std::fmt::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

use super::{Format, Level};

/// Longest line in bytes; what is above is cut. A message may quote what a peer sent.
const LINE_BYTES_MAX: usize = 8 << 10;

/// A line, ready to be written.
pub(super) struct Line {
    level: Level,
    /// With the time and the line's end.
    text: String,
    /// Where the part begins that the journal does not add by itself.
    after_time: usize,
}

impl Line {
    pub(super) fn new(
        format: Format,
        at: SystemTime,
        level: Level,
        code: Option<&'static str>,
        message: &str,
        fields: &[(&str, &dyn fmt::Display)],
    ) -> Self {
        let stamp = stamp(at);
        let (mut text, after_time) = match format {
            Format::Text => (text_line(&stamp, level, code, message, fields), stamp.len() + 1),
            Format::Json => (json_line(&stamp, level, code, message, fields), 0),
        };
        text.push('\n');
        Self { level, text, after_time }
    }

    /// With its time.
    pub(super) fn for_file(&self) -> &str {
        &self.text
    }

    /// With the level as the journal reads it, and without the time that it adds.
    pub(super) fn for_journal(&self) -> String {
        let text = self.text.get(self.after_time..).unwrap_or(&self.text);
        format!("<{}>{text}", self.level.severity())
    }
}

fn text_line(
    stamp: &str,
    level: Level,
    code: Option<&'static str>,
    message: &str,
    fields: &[(&str, &dyn fmt::Display)],
) -> String {
    let mut text = format!("{stamp} {:<5}", level.name());
    if let Some(code) = code {
        text.push(' ');
        text.push_str(code);
    }
    text.push(' ');
    push_plain(&mut text, message);
    for (name, value) in fields {
        let value = value.to_string();
        // Writing into a String does not fail.
        let _ = write!(text, " {name}=");
        if value.is_empty() || value.contains([' ', '"', '=']) {
            text.push('"');
            push_plain(&mut text, &value.replace('"', "\\\""));
            text.push('"');
        } else {
            push_plain(&mut text, &value);
        }
    }
    cut(&mut text, LINE_BYTES_MAX);
    text
}

/// What others sent may stand in a message: with line ends it could forge a line, with escapes rule a terminal.
fn push_plain(text: &mut String, words: &str) {
    for character in words.chars() {
        match character.is_control() {
            true => text.extend(character.escape_default()),
            false => text.push(character),
        }
    }
}

fn json_line(
    stamp: &str,
    level: Level,
    code: Option<&'static str>,
    message: &str,
    fields: &[(&str, &dyn fmt::Display)],
) -> String {
    // In an order that people can read, which a map would not keep.
    let mut text = format!("{{\"time\":\"{stamp}\",\"level\":\"{}\"", level.name().to_ascii_lowercase());
    if let Some(code) = code {
        let _ = write!(text, ",\"code\":\"{code}\"");
    }
    let mut left = LINE_BYTES_MAX;
    push_json(&mut text, &mut left, "message", message);
    for (name, value) in fields {
        push_json(&mut text, &mut left, name, &value.to_string());
    }
    text.push('}');
    text
}

/// Adds a name with a text, if `left` bytes are enough; a longer text is cut.
fn push_json(text: &mut String, left: &mut usize, name: &str, value: &str) {
    let mut value = value.to_owned();
    cut(&mut value, *left);
    *left = left.saturating_sub(value.len() + name.len());
    let (name, value) = (serde_json::Value::from(name), serde_json::Value::from(value));
    let _ = write!(text, ",{name}:{value}");
}

fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push_str("...");
    }
}

/// RFC 3339, UTC, milliseconds.
fn stamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or_default();
    let date = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let (hour, minute, second) = (date.hour(), date.minute(), date.second());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn line(format: Format, message: &str, fields: &[(&str, &dyn fmt::Display)]) -> Line {
        let at = UNIX_EPOCH + Duration::from_millis(1_795_383_785_120);
        Line::new(format, at, Level::Warn, Some("ERR_X"), message, fields)
    }

    #[test]
    fn a_line_of_text_reads_from_left_to_right() {
        let line = line(Format::Text, "it fell", &[("peer", &"node_02"), ("why", &"no \"route\""), ("none", &"")]);
        let words = "WARN  ERR_X it fell peer=node_02 why=\"no \\\"route\\\"\" none=\"\"\n";
        assert_eq!(line.for_file(), format!("2026-11-22T21:43:05.120Z {words}"));
        assert_eq!(line.for_journal(), format!("<4>{words}"));
    }

    #[test]
    fn what_a_peer_sent_forges_no_line() {
        let line = line(Format::Text, "a\nb\u{1b}[2J", &[("x", &"c\r\nd")]);
        assert_eq!(line.for_file().lines().count(), 1);
        assert!(!line.for_file().contains('\u{1b}'));
    }

    #[test]
    fn a_line_of_json_is_an_object_with_the_same_words() {
        let line = line(Format::Json, "a\n\"b\"", &[("peer", &"node_02")]);
        let read: serde_json::Value = serde_json::from_str(line.for_file()).unwrap();
        assert_eq!(read["time"], "2026-11-22T21:43:05.120Z");
        assert_eq!(read["level"], "warn");
        assert_eq!(read["message"], "a\n\"b\"");
        assert_eq!(read["peer"], "node_02");
    }

    #[test]
    fn long_lines_are_cut_between_characters() {
        let long = "\u{e4}".repeat(LINE_BYTES_MAX);
        assert!(line(Format::Text, &long, &[]).for_file().len() < LINE_BYTES_MAX + 8);
        let json = line(Format::Json, &long, &[("more", &long)]);
        assert!(json.for_file().len() < LINE_BYTES_MAX + 256);
        assert!(serde_json::from_str::<serde_json::Value>(json.for_file()).is_ok());
    }
}
