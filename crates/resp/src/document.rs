//! `docs/commands.md`, written from the table: nobody edits it by hand.

use crate::refused::{REFUSED, Reason};
use crate::table::{Group, TABLE};

const HEAD: &str = "\
# Commands of the local door

Written by `resp::document::commands_markdown` from the tables in `crates/resp`; a test compares. To write it anew:
`UPDATE_DOCS=1 cargo test -p resp --test suite documents`.

The door speaks RESP2 and RESP3 (`HELLO 3`). A write is answered when it is durable under the configured policy; MULTI to
EXEC is one batch, and commands that come together may share one. A command that is not listed here is answered by an error
that says why.

## One name, several types
The state keeps a register, a counter, a set and a map under one name apart: two regions may create them at the same
time, and nobody's write is lost. A client of Redis expects one type. So:

- A command works on its own type if that is there. Else it creates it where nothing is, and answers `WRONGTYPE` where
  another type is. `INCR` on a value that `SET` wrote is `WRONGTYPE`: begin a counter with `INCRBY`.
- `GET` and `MGET` show the register; where there is none, the counter's sum. `TYPE` tells the first of register and
  counter (`string`), set (`set`), map (`hash`).
- `SET` and `MSET` replace all types that this node sees; `DEL` removes them all and counts the name once.
- A field of a map is a register (`HSET`) or a counter (`HINCRBY`) by the same rules: `HGET` shows the register first,
  `HSET` replaces the counter, `HDEL` removes both.
- A counter holds 128 bits. A command that would tell a sum beyond 64 bits is refused; concurrent ones may reach it, and
  then `GET` shows it.

";

/// The whole document.
pub fn commands_markdown() -> String {
    let mut text = HEAD.to_owned();
    for group in Group::ALL {
        text.push_str(&format!("## {}\n", group.name()));
        text.push_str("| command | CRDT | who wins | what a delete costs | what it does |\n|---|---|---|---|---|\n");
        for command in TABLE.iter().filter(|command| command.group == group) {
            let syntax = command.syntax.replace('|', "\\|");
            let data = command.data;
            let cells = [data.name(), data.wins(), data.delete_cost(), command.summary];
            text.push_str(&format!("| `{syntax}` | {} |\n", cells.join(" | ")));
        }
        text.push('\n');
    }
    text.push_str(
        "## Refused\nEvery other command of Redis 7.2, and why.\n\n| commands | why | code |\n|---|---|---|\n",
    );
    for reason in Reason::ALL {
        let names = REFUSED.iter().filter(|(_, other)| *other == reason).map(|(name, _)| format!("`{name}`"));
        let names: Vec<String> = names.collect();
        text.push_str(&format!("| {} | {} | `{}` |\n", names.join(" "), reason.sentence(), reason.code()));
    }
    text
}
