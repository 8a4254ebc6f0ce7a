//! What the scheduler promises under the present settings, for `gaucho check`: per model, in seconds.
//!
//! Owns the table. The bounds are `scheduler::core`'s, the figures what a running gateway learned.

use std::collections::BTreeMap;
use std::io::{self, Write};

use crate::app::{Kept, kept};
use crate::config::Settings;
use crate::domain::{AppName, Class};
use crate::policy::Policies;
use crate::scheduler::core::{Contender, longest_claim, longest_head_wait, swap_overhead};
use crate::store::Store;

/// Writes the table; nothing where no gateway has served from the state folder yet.
pub(super) fn write(
    settings: &Settings,
    policies: &Policies,
    state: Option<&Store>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let learned = state.and_then(|store| kept(store).ok()).unwrap_or_default();
    if learned.is_empty() {
        return writeln!(
            out,
            "no speed of a model has been saved by this gateway yet (it saves them every five minutes, and when it stops): \
             waits are promised once they are known"
        );
    }
    let mut endpoints: BTreeMap<&str, Vec<&Kept>> = BTreeMap::new();
    for model in &learned {
        endpoints.entry(&model.endpoint).or_default().push(model);
    }
    let longest = policies.apps().into_iter().map(|(_, rules)| rules.max_output_tokens).chain([default_cap(policies)]);
    let longest = longest.map(|cap| cap.unwrap_or(u64::MAX)).max().unwrap_or(u64::MAX);
    writeln!(out, "swaps under load take at most {:.0} % of the time", swap_overhead() * 100.0)?;
    for (endpoint, models) in endpoints {
        let known = settings.endpoints.iter().find(|known| known.name == endpoint);
        let slots = known.map_or(1, |known| known.num_parallel);
        let contenders: Vec<Contender> = models.iter().map(|model| contender(model, longest, slots)).collect();
        let wait = longest_head_wait(&contenders);
        for (model, contender) in models.iter().zip(&contenders) {
            let run = time(contender.longest_run);
            let wait = if wait.is_finite() { format!("waits at most {}", time(wait)) } else { NO_BOUND.to_owned() };
            writeln!(
                out,
                "  {} on {endpoint}: a swap to it costs {}, its longest answer takes {run}; its first request {wait}",
                model.model,
                time(contender.cost),
            )?;
        }
        for class in less_urgent(policies) {
            let more = longest_claim(&contenders, class);
            let more = if wait.is_finite() { format!("up to {} more", time(more)) } else { "without bound".to_owned() };
            let class = class.as_str();
            writeln!(
                out,
                "  on {endpoint}, beside endless work of more urgent classes, that of a {class} application {more}"
            )?;
        }
    }
    Ok(())
}

/// The classes that some application has and a more urgent one is above.
fn less_urgent(policies: &Policies) -> Vec<Class> {
    let mut classes: Vec<Class> = policies.apps().into_iter().map(|(_, rules)| rules.class).collect();
    // an application without a file of its own
    classes.push(policies.app(&AppName::local()).class);
    classes.sort_unstable();
    classes.dedup();
    classes.split_off(1.min(classes.len()))
}

const NO_BOUND: &str = "waits without bound: set max_output_tokens for every application";

fn default_cap(policies: &Policies) -> Option<u64> {
    // an application without a file of its own
    policies.app(&AppName::local()).max_output_tokens
}

#[expect(clippy::cast_precision_loss, reason = "token counts")]
fn contender(model: &Kept, longest: u64, slots: u32) -> Contender {
    let speed = model.output_tokens_per_second.max(1e-3);
    // every slot may be busy that long, and all share the GPU
    let run = if longest == u64::MAX { f64::INFINITY } else { longest as f64 * f64::from(slots) / speed };
    Contender { cost: model.swap_seconds, longest_run: run }
}

fn time(seconds: f64) -> String {
    match seconds {
        s if s.is_infinite() => "any time".to_owned(),
        s if s < 60.0 => format!("{s:.1} s"),
        s if s < 3600.0 => format!("{:.0} min {:02.0} s", (s / 60.0).floor(), s % 60.0),
        s => format!("{:.0} h {:02.0} min", (s / 3600.0).floor(), (s % 3600.0) / 60.0),
    }
}
