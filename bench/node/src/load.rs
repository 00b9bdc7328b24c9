//! `redis-benchmark`, as everybody has it, against a Unix socket.

use std::path::Path;

use crate::failure::Failure;
use crate::patience::LOAD;
use crate::process::{Captured, ending_with_us, spawn_captured};

/// Connections of one `redis-benchmark`.
pub(crate) const CLIENTS: u32 = 50;
/// Keys and fields that are drawn from.
pub(crate) const KEYS: u32 = 100_000;
/// Members of a set that are drawn from: so many that nearly all are new. One that is there already costs Redis nothing,
/// and a set with removals elsewhere what a new one costs.
const MEMBERS: u32 = 1_000_000_000;
/// Bytes of a value.
pub(crate) const VALUE_BYTES: u32 = 32;

/// One run of one of its tests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Load {
    /// As `-t` takes it.
    pub(crate) test: &'static str,
    /// Requests in a pipeline.
    pub(crate) pipeline: u32,
    pub(crate) requests: u64,
}

/// What it told.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Rate {
    pub(crate) requests_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// A run under way.
pub(crate) struct UnderWay {
    who: String,
    load: Load,
    captured: Captured,
}

impl Load {
    /// Runs it to its end.
    pub(crate) fn run(self, who: &str, socket: &Path, place: &Path) -> Result<Rate, Failure> {
        self.start(who, socket, place)?.rate()
    }

    /// Starts it. `place` names the files of its output.
    pub(crate) fn start(self, who: &str, socket: &Path, place: &Path) -> Result<UnderWay, Failure> {
        let mut command = ending_with_us("redis-benchmark");
        command.arg("-s").arg(socket);
        for (flag, number) in [
            ("-c", u64::from(CLIENTS)),
            ("-r", u64::from(if self.test == "sadd" { MEMBERS } else { KEYS })),
            ("-d", u64::from(VALUE_BYTES)),
            ("-P", u64::from(self.pipeline)),
            ("-n", self.requests),
        ] {
            command.arg(flag).arg(number.to_string());
        }
        command.args(["-t", self.test, "--csv"]);
        let captured = spawn_captured(who, &mut command, place)?;
        Ok(UnderWay { who: who.to_owned(), load: self, captured })
    }
}

impl UnderWay {
    /// Waits for its end.
    pub(crate) fn rate(self) -> Result<Rate, Failure> {
        let output = self.captured.output(LOAD)?;
        rate(self.load.test, &output).ok_or_else(|| Failure::Answer {
            who: format!("redis-benchmark against {}", self.who),
            asked: self.load.test.to_owned(),
            answered: output,
        })
    }
}

/// Reads `"SET","123.4",...` below its header.
fn rate(test: &str, output: &str) -> Option<Rate> {
    let columns =
        |line: &str| -> Vec<String> { line.split(',').map(|cell| cell.trim_matches('"').to_owned()).collect() };
    let header = columns(output.lines().find(|line| line.starts_with("\"test\""))?);
    let row = columns(output.lines().find(|line| line.to_lowercase().starts_with(&format!("\"{test}\"")))?);
    let column = |name: &str| row.get(header.iter().position(|column| column == name)?)?.parse().ok();
    Some(Rate {
        requests_per_second: column("rps")?,
        p50_ms: column("p50_latency_ms")?,
        p99_ms: column("p99_latency_ms")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_redis_benchmark_7_0_writes() {
        let output = "\"test\",\"rps\",\"avg_latency_ms\",\"min_latency_ms\",\"p50_latency_ms\",\"p95_latency_ms\",\
                      \"p99_latency_ms\",\"max_latency_ms\"\n\
                      \"HSET\",\"62500.00\",\"0.525\",\"0.184\",\"0.511\",\"0.767\",\"0.935\",\"1.919\"\n";
        let expected = Rate { requests_per_second: 62_500.0, p50_ms: 0.511, p99_ms: 0.935 };
        assert_eq!(rate("hset", output), Some(expected));
        assert_eq!(rate("set", output), None);
        assert_eq!(rate("set", "Error from server: ERR no\n"), None);
    }
}
