//! `gaucho explain`: what would happen to a request now, and why, without sending it.
//!
//! Owns the output and the exit codes: 0 it would run, 1 it would be refused, 2 nobody could be asked. The account is the
//! running gateway's own.

use std::io::{self, Write};

use clap::builder::NonEmptyStringValueParser;
use serde_json::Value;

use super::door::{DoorArgs, cell, plain};

/// Say what would happen to a request now and why, without sending it; exit code 0 if it would run, 1 if it would be
/// refused, 2 if the gateway cannot be asked.
#[derive(Debug, clap::Args)]
pub(crate) struct ExplainArgs {
    /// Application that would send it
    #[arg(long, value_name = "NAME")]
    app: String,
    /// Model it would name
    #[arg(long, value_name = "MODEL", value_parser = NonEmptyStringValueParser::new())]
    model: String,
    /// Tokens of its prompt [default: 500]
    #[arg(long, value_name = "N")]
    prompt_tokens: Option<u64>,
    /// Most tokens it would ask for [default: as many as the policy allows]
    #[arg(long, value_name = "N")]
    output_tokens: Option<u64>,
    /// Print the gateway's whole account as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    door: DoorArgs,
}

pub(crate) fn run(args: &ExplainArgs, out: &mut dyn Write, err: &mut dyn Write) -> i32 {
    let text = |number: Option<u64>| number.map(|number| number.to_string());
    let query = [
        ("app", Some(args.app.clone())),
        ("model", Some(args.model.clone())),
        ("prompt_tokens", text(args.prompt_tokens)),
        ("output_tokens", text(args.output_tokens)),
    ];
    let Some(account) = args.door.ask("/v1/explain", &query, err) else { return 2 };
    // an output that is closed early does not change the verdict
    let _ = if args.json { writeln!(out, "{account:#}") } else { tell(&account, out) };
    i32::from(account["verdict"] == "refused")
}

fn tell(account: &Value, out: &mut dyn Write) -> io::Result<()> {
    writeln!(
        out,
        "{} asks {} on {} with a prompt of {} tokens",
        cell(account, "app"),
        cell(account, "model"),
        cell(account, "surface"),
        cell(account, "prompt_tokens")
    )?;
    writeln!(out, "policy    {}", policy(&account["policy"]))?;
    if let Some(resolved) = account.get("resolved") {
        // `sha256-` and as much as people compare
        let weights: String = cell(resolved, "weights").chars().take(19).collect();
        writeln!(out, "model     {} ({weights})", cell(resolved, "model"))?;
    }
    let mut label = "servers";
    for endpoint in account["endpoints"].as_array().into_iter().flatten() {
        writeln!(out, "{label:<9} {}: {}", cell(endpoint, "name"), cell(endpoint, "reason"))?;
        label = "";
    }
    if let Some(overflow) = account["overflow"].as_str() {
        writeln!(out, "overflow  {}", plain(overflow))?;
    }
    writeln!(out, "outlook   {}", outlook(account))
}

fn policy(policy: &Value) -> String {
    let file = if policy["file"] == true { "" } else { " (no policy file of its own: default.toml holds)" };
    match policy["allowed"].as_bool() {
        None => format!("not asked{file}"),
        Some(false) => format!("refuses it{file}"),
        Some(true) => {
            let rate = match &policy["rate"] {
                Value::Null => "no rate".to_owned(),
                rate => format!("{} of {} requests left", cell(rate, "remaining"), cell(rate, "limit")),
            };
            let (class, weight, wait) =
                (cell(policy, "class"), cell(policy, "weight"), cell(policy, "max_wait_seconds"));
            format!("allows it: {class}, weight {weight}, {rate}, may wait {wait} s{file}")
        }
    }
}

fn outlook(account: &Value) -> String {
    match account["verdict"].as_str() {
        Some("starts") => format!("starts at once on {}", cell(&account["starts"], "endpoint")),
        Some("waits") => {
            let waits = &account["waits"];
            let eta = waits["eta_seconds"].as_f64().map_or_else(String::new, |eta| format!(", about {} s", eta.ceil()));
            format!("waits: number {}{eta}: {}", cell(waits, "position"), cell(waits, "reason_text"))
        }
        _ => {
            let refusal = &account["refusal"];
            format!("refused ({}): {}", cell(refusal, "class"), plain(refusal["text"].as_str().unwrap_or_default()))
        }
    }
}
