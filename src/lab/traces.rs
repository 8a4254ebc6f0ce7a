//! Traces of real use as workloads: rows of text in, requests out. Files are read by whoever calls.
//!
//! On one GPU as people have it: 24 GB, a 3 B, a 14 B and a 32 B model, two slots each. A trace is made to fit by
//! scaling its time, never by dropping requests; a window of it is what is said in its note.

use crate::domain::Class;

use super::workload::{Demand, Host, ModelSpec, Workload};

/// `servegen-3models`: `seconds, client, model, input_tokens, output_tokens`, `speed` times as fast.
///
/// # Errors
/// The line that is not such a row.
pub fn servegen(text: &str, speed: f64) -> Result<Workload, String> {
    let note = format!("two hours of 20 real clients of three models, at {speed} of their speed");
    let mut workload = house(&format!("servegen-{speed}"), &note);
    for (number, row) in rows(text) {
        let [seconds, client, model, input, output] = row[..] else { return Err(wrong(number)) };
        let model = workload.models.iter().position(|own| own.name == model).ok_or_else(|| wrong(number))?;
        let app = workload.apps.iter().position(|own| own.name == client);
        let app = app.unwrap_or_else(|| workload.app(client, Class::Standard, 1.0));
        let demand = demand(app, model, input, output).ok_or_else(|| wrong(number))?;
        let seconds: f64 = seconds.parse().map_err(|_| wrong(number))?;
        workload.planned.push((seconds / speed, demand));
    }
    Ok(done(workload))
}

/// Two services side by side, `TIMESTAMP, ContextTokens, GeneratedTokens` each: `code` on the middle model, `chat` on
/// the small one. Takes the first `minutes` and stretches them until the GPU has work for `load` of the time.
///
/// # Errors
/// The line that is not such a row.
pub fn azure(code: &str, chat: &str, minutes: f64, load: f64) -> Result<Workload, String> {
    let mut workload = house("azure-2023", "");
    let mut from = f64::INFINITY;
    for (name, model, text) in [("code", 1, code), ("chat", 0, chat)] {
        let app = workload.app(name, Class::Standard, 1.0);
        for (number, row) in rows(text) {
            let [stamp, input, output] = row[..] else { return Err(wrong(number)) };
            let demand = demand(app, model, input, output).ok_or_else(|| wrong(number))?;
            let seconds = of_day(stamp).ok_or_else(|| wrong(number))?;
            from = from.min(seconds);
            workload.planned.push((seconds, demand));
        }
    }
    workload.planned.retain(|(at, _)| *at < from + 60.0 * minutes);
    let work: f64 = workload.planned.iter().map(|(_, demand)| workload.models[demand.model].solo(demand)).sum();
    let stretch = work / (load * 60.0 * minutes);
    for (at, _) in &mut workload.planned {
        *at = (*at - from) * stretch;
    }
    workload.note = format!(
        "{minutes} minutes of code completion (14 B) and chat (3 B), {stretch:.0} times slower: work for {:.0} % of the time",
        100.0 * load
    );
    Ok(done(workload))
}

fn house(name: &str, note: &str) -> Workload {
    let host = Host { slots: 2, memory: Some(24_000_000_000), max_loaded: 3, pace: vec![1.0] };
    let mut workload = Workload::new(name, note, host, 1);
    let kinds = [("small", 2, 5.0, 2500.0, 90.0), ("mid", 9, 12.0, 900.0, 45.0), ("large", 20, 25.0, 400.0, 22.0)];
    workload.models = kinds
        .map(|(name, gigabytes, load, prompt_rate, output_rate)| ModelSpec {
            name: name.to_owned(),
            bytes: gigabytes * 1_000_000_000,
            load,
            unload: 0.5,
            prompt_rate,
            output_rate,
        })
        .into();
    workload
}

fn done(mut workload: Workload) -> Workload {
    workload.planned.sort_by(|a, b| a.0.total_cmp(&b.0));
    workload.window = workload.planned.last().map_or(0.0, |(at, _)| *at);
    workload
}

/// Numbered rows after the heading.
fn rows(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let lines = text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(at, line)| (at + 1, line.split(',').map(str::trim).collect()))
}

fn wrong(number: usize) -> String {
    format!("line {number} is no row of this trace")
}

fn demand(app: usize, model: usize, input: &str, output: &str) -> Option<Demand> {
    let (prompt, output) = (input.parse().ok()?, output.parse().ok()?);
    Some(Demand { capped: false, ..Demand::chat(app, model, prompt, output) })
}

/// Seconds of the day of `2023-11-16 18:17:03.9799600`.
fn of_day(stamp: &str) -> Option<f64> {
    let mut parts = stamp.split(' ').nth(1)?.split(':').map(|part| part.parse::<f64>().ok());
    Some(parts.next()?? * 3600.0 + parts.next()?? * 60.0 + parts.next()??)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn rows_become_requests_and_what_is_no_row_is_named() {
        let head = "seconds,client,model,input_tokens,output_tokens\n";
        let workload = servegen(&format!("{head}4.0,mid-0,mid,131,23\n2.0,small-2,small,18,14\n"), 2.0).unwrap();
        let at: Vec<f64> = workload.planned.iter().map(|(at, _)| *at).collect();
        assert_eq!((at, workload.apps.len(), workload.planned[1].1.prompt), (vec![1.0, 2.0], 2, 131));
        assert!(servegen(&format!("{head}4.0,mid-0,huge,131,23\n"), 1.0).unwrap_err().contains("line 2"));
        let head = "TIMESTAMP,ContextTokens,GeneratedTokens\n";
        let code = format!("{head}2023-11-16 18:17:01.5,900,45\n2023-11-16 18:27:00.0,1,1\n");
        let chat = format!("{head}2023-11-16 18:17:00.5,2500,90\n");
        let workload = azure(&code, &chat, 1.0, 0.5).unwrap();
        // four seconds of work for half of the time: the minute becomes eight seconds
        assert_eq!(workload.planned.len(), 2);
        assert!((workload.planned[1].0 - 8.0 / 60.0).abs() < 1e-9, "{:?}", workload.planned[1]);
    }
}
