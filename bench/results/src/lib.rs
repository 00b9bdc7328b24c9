//! `bench/results.json`: what a claim is, and how several programs write one file. Each replaces the claims that it
//! made anew and keeps the others' to the letter, digits included.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// One figure of ours beside a peer's.
#[derive(Debug, Serialize)]
pub struct Claim {
    /// Stable name; its first word up to the dot says which program measures it.
    pub id: String,
    /// What was measured.
    pub what: String,
    /// Our figure, in `unit`.
    pub ours: f64,
    /// The peer's figure in the same run, or the stated goal.
    pub peer: f64,
    /// The peer, or `goal`.
    pub peer_name: String,
    /// Of both figures.
    pub unit: &'static str,
    /// Which way a figure is good.
    pub better: Better,
    /// Ours divided by the peer's.
    pub ratio: f64,
    /// Everything that somebody who doubts the figure asks for first.
    pub conditions: String,
}

/// Which way a figure is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Such as operations a second.
    Higher,
    /// Such as milliseconds or bytes.
    Lower,
}

/// The claims, a line for each.
pub fn table(claims: &[Claim]) -> String {
    let mut text = String::from("\n");
    for claim in claims {
        let Claim { id, what, ours, peer, peer_name, unit, ratio, .. } = claim;
        // Infallible into a string.
        let _ = writeln!(text, "{id:<26} ours {ours:>12.1} {unit}, {peer_name} {peer:.1}: ratio {ratio:.2} ({what})");
    }
    text
}

/// The processor's name and how many threads it has, since an absolute figure means nothing without them.
pub fn machine() -> String {
    let processor = fs::read_to_string("/proc/cpuinfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        })
        .unwrap_or_else(|| "an unnamed processor".to_owned());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    format!("{processor}, {threads} hardware threads")
}

/// The file, in this workspace as it was when this was built.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../results.json")
}

/// A claim of before, as it stands in the file.
struct Kept<'a> {
    id: String,
    text: &'a RawValue,
}

/// Puts `claims` into the file in the place of those whose id `replaces` says yes to. A file that is not there is begun.
///
/// # Errors
/// When the file cannot be read or written, or is no list of claims; it is as before then.
pub fn write(path: &Path, replaces: impl Fn(&str) -> bool, claims: &[Claim]) -> io::Result<()> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    let before = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => "[]".to_owned(),
        Err(error) => return Err(error),
    };
    let listed: Vec<&RawValue> = serde_json::from_str(&before)?;
    let kept = listed
        .into_iter()
        .map(|text| -> io::Result<Kept<'_>> { Ok(Kept { id: serde_json::from_str::<Named>(text.get())?.id, text }) });
    let mut entries = Vec::new();
    for kept in kept.collect::<io::Result<Vec<_>>>()?.iter().filter(|kept| !replaces(&kept.id)) {
        entries.push((kept.id.clone(), kept.text.get().to_owned()));
    }
    for claim in claims {
        // One level deeper than the writer thinks: it stands in a list. No string of JSON holds a line break.
        entries.push((claim.id.clone(), serde_json::to_string_pretty(claim)?.replace('\n', "\n  ")));
    }
    // Stable: within a program's claims the order is that of its run.
    entries.sort_by(|(a, _), (b, _)| program(a).cmp(program(b)));
    let texts: Vec<String> = entries.into_iter().map(|(_, text)| text).collect();
    let text = if texts.is_empty() { "[]\n".to_owned() } else { format!("[\n  {}\n]\n", texts.join(",\n  ")) };
    let beside = path.with_extension("json.new");
    fs::write(&beside, text)?;
    fs::rename(beside, path)
}

fn program(id: &str) -> &str {
    id.split_once('.').map_or(id, |(program, _)| program)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

    use super::*;

    fn claim(id: &str, ours: f64) -> Claim {
        Claim {
            id: id.to_owned(),
            what: "a figure".to_owned(),
            ours,
            peer: 2.0,
            peer_name: "goal".to_owned(),
            unit: "ms",
            better: Better::Lower,
            ratio: ours / 2.0,
            conditions: "made up, with a \"quote\" and a\nbreak".to_owned(),
        }
    }

    fn ids(path: &Path) -> Vec<(String, f64)> {
        let text = fs::read_to_string(path).unwrap();
        let list: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        list.iter().map(|entry| (entry["id"].as_str().unwrap().to_owned(), entry["ours"].as_f64().unwrap())).collect()
    }

    #[test]
    fn each_program_replaces_its_own_and_keeps_the_others_to_the_letter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        write(&path, |id| id.starts_with("node."), &[claim("node.a", 1.0), claim("node.b", 2.0)]).unwrap();
        write(&path, |id| id.starts_with("core."), &[claim("core.x", 0.1 + 0.2)]).unwrap();
        let of_core = fs::read_to_string(&path).unwrap();
        write(&path, |id| id == "node.b", &[claim("node.b", 3.0)]).unwrap();
        let expected = [("core.x", 0.1 + 0.2), ("node.a", 1.0), ("node.b", 3.0)];
        assert_eq!(ids(&path), expected.map(|(id, ours)| (id.to_owned(), ours)));
        // Writing the same again changes no letter.
        write(&path, |id| id == "node.b", &[claim("node.b", 2.0)]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), of_core);
    }

    #[test]
    fn the_form_is_that_of_the_pretty_writer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        let claims = [claim("core.x", 1.5), claim("core.y", 2.5)];
        write(&path, |_| true, &claims).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), serde_json::to_string_pretty(&claims).unwrap() + "\n");
    }

    #[test]
    fn a_file_that_is_no_list_of_claims_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results.json");
        for text in ["{}", "[{\"ours\": 1}]", "["] {
            fs::write(&path, text).unwrap();
            assert!(write(&path, |_| true, &[claim("core.x", 1.0)]).is_err(), "{text}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
