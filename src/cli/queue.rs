//! `gaucho queue`: what waits in a running gateway, next to start first.
//!
//! Owns the table. The listing is the running gateway's own.

use std::io::{self, Write};

use serde_json::Value;

use super::door::{DoorArgs, cell};

/// Show the requests that wait, next to start first.
#[derive(Debug, clap::Args)]
pub(crate) struct QueueArgs {
    /// Only those of this application
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    door: DoorArgs,
}

const COLUMNS: [&str; 8] = ["ID", "APP", "MODEL", "CLASS", "PLACE", "WAITING", "STARTS IN", "WHY"];

pub(crate) fn run(args: &QueueArgs, out: &mut dyn Write, err: &mut dyn Write) -> i32 {
    let Some(listing) = args.door.ask("/v1/queue", &[("app", args.app.clone())], err) else { return 1 };
    // an output that is closed early is the reader's own wish
    let _ = if args.json { writeln!(out, "{listing:#}") } else { table(&listing, out) };
    0
}

fn table(listing: &Value, out: &mut dyn Write) -> io::Result<()> {
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    rows.extend(listing["data"].as_array().into_iter().flatten().map(cells));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    for row in &rows {
        let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

fn cells(row: &Value) -> [String; 8] {
    let seconds =
        |field: &str| row[field].as_f64().map_or_else(|| "?".to_owned(), |seconds| format!("{:.0} s", seconds.ceil()));
    [
        cell(row, "id"),
        cell(row, "app"),
        cell(row, "model"),
        cell(row, "class"),
        cell(row, "position"),
        seconds("waiting_seconds"),
        seconds("eta_seconds"),
        cell(row, "reason_text"),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them_and_cells_keep_to_their_line() {
        let row = json!({
            "id": "req_1", "app": "chat-ui", "model": "gemma:a\n", "class": "interactive", "position": 12,
            "waiting_seconds": 0.2, "eta_seconds": 61.5, "reason_text": "why"
        });
        let mut out = Vec::new();
        let mut nobody_knows = row.clone();
        nobody_knows["eta_seconds"] = serde_json::Value::Null;
        table(&json!({ "data": [row, nobody_knows] }), &mut out).unwrap();
        let wanted = "ID     APP      MODEL     CLASS        PLACE  WAITING  STARTS IN  WHY\n\
                      req_1  chat-ui  gemma:a   interactive  12     1 s      62 s       why\n\
                      req_1  chat-ui  gemma:a   interactive  12     1 s      ?          why\n";
        assert_eq!(String::from_utf8(out).unwrap(), wanted);
    }
}
