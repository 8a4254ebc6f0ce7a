//! `gaucho doctor`: what each server is like, and whether it is as the configuration says.
//!
//! Owns the output and the exit code. What is looked at is `app`'s, how slots are measured `upstream`'s.

use std::io::{self, Write};
use std::path::PathBuf;

use crate::app::{Doctor, Finding, Subject};
use crate::config::Overrides;
use crate::domain::{Clock, GpuView, Resident};
use crate::upstream::Slots;

/// Look at every Ollama server: does it answer, what does it have, is it as configured. Exit code 0 if so, 1 if not.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Not as configured is a server that does not answer, a GPU of `gpus` that is not seen, and a model \
                        that is partly beside the GPU although what is in memory would fit into the server's `memory` or \
                        `gpus`; without these, such a model is pointed out and no more. With --slots also a server that \
                        does not run as many requests at once as the configuration claims; the exit code is 2 where that \
                        could not be measured."
)]
pub(crate) struct DoctorArgs {
    /// An Ollama server; repeat or separate by commas for several [env: GAUCHO_OLLAMA] [default: those of the settings]
    #[arg(long, value_name = "URL")]
    ollama: Vec<String>,
    /// Measure how many requests each server runs at once for a model (its OLLAMA_NUM_PARALLEL), by some short
    /// generations. It uses the GPU for some seconds, and may load a model
    #[arg(long)]
    slots: bool,
    /// The model to measure with [default: a small one, if possible one in memory]
    #[arg(long, value_name = "MODEL", requires = "slots")]
    model: Option<String>,
    /// What the configuration claims, instead of what it says [env: GAUCHO_NUM_PARALLEL]
    #[arg(long, value_name = "N")]
    num_parallel: Option<String>,
    /// Settings file [env: GAUCHO_CONFIG] [default: ./gaucho.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder of policy files, for the profile of the model [env: GAUCHO_POLICIES] [default: ./policies if it is there]
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
}

/// How a server is; the worst one is the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Fine,
    Unknown,
    Wrong,
}

impl Verdict {
    fn code(self) -> i32 {
        match self {
            Self::Fine => 0,
            Self::Wrong => 1,
            Self::Unknown => 2,
        }
    }
}

pub(crate) fn run(args: &DoctorArgs, out: &mut dyn Write, err: &mut dyn Write) -> i32 {
    // what cannot even be asked for is not measured
    let failed = if args.slots { Verdict::Unknown } else { Verdict::Wrong };
    let overrides = Overrides {
        ollama: args.ollama.clone(),
        policies: args.policies.clone(),
        num_parallel: args.num_parallel.clone(),
        ..Overrides::default()
    };
    let Some(settings) = super::settings(args.config.as_deref(), overrides, err) else { return failed.code() };
    let examined = super::block_on(async {
        let doctor = Doctor::look(settings, Clock::real()).await?;
        Ok(examine(&doctor, args, out, err).await)
    });
    match examined {
        Ok(Ok(verdict)) => verdict.code(),
        // an output that is closed early: nobody reads the verdict either
        Ok(Err(_)) => failed.code(),
        Err(problems) => {
            for problem in problems {
                let _ = writeln!(err, "gaucho doctor: {problem}");
            }
            failed.code()
        }
    }
}

async fn examine(doctor: &Doctor, args: &DoctorArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Verdict> {
    let mut worst = Verdict::Fine;
    for (at, finding) in doctor.findings().enumerate() {
        tell(&finding, args.slots, out)?;
        let verdict = match (args.slots, &finding.view.trouble) {
            (true, _) => slots(doctor, (at, &finding), args.model.as_deref(), out, err).await?,
            (false, None) => Verdict::Fine,
            (false, Some(_)) => Verdict::Wrong,
        };
        worst = worst.max(verdict).max(memory(&finding));
    }
    machine(doctor, out)?;
    Ok(worst)
}

/// Whether the server's GPUs, and what they hold, are as configured.
fn memory(finding: &Finding<'_>) -> Verdict {
    let Finding { endpoint, view, gpus } = finding;
    let totals: Option<Vec<u64>> = gpus.iter().map(|(_, seen)| seen.map(|gpu| gpu.total)).collect();
    let Some(totals) = totals else { return Verdict::Wrong };
    let of_gpus = (!totals.is_empty()).then(|| totals.iter().sum::<u64>());
    // `memory` beside GPUs is the most that is used of them
    let Some(room) = endpoint.memory.into_iter().chain(of_gpus).min() else { return Verdict::Fine };
    let needed: u64 = view.resident.iter().map(|loaded| loaded.size).sum();
    let spilled = view.resident.iter().any(|loaded| loaded.spilled() > 0);
    if spilled && needed <= room { Verdict::Wrong } else { Verdict::Fine }
}

/// A line of a server: what it is about, and what is so. A mark stands before what somebody should look at.
fn line(out: &mut dyn Write, mark: bool, what: &str, text: &str) -> io::Result<()> {
    writeln!(out, "{} {what:<9} {text}", if mark { '!' } else { ' ' })
}

fn tell(finding: &Finding<'_>, measured: bool, out: &mut dyn Write) -> io::Result<()> {
    let Finding { endpoint, view, gpus } = finding;
    let url = endpoint.url.as_str().trim_end_matches('/');
    writeln!(out, "{}  {url}", endpoint.name)?;
    match &view.trouble {
        Some(why) => line(out, true, "answers", &format!("no: {why}"))?,
        None => {
            let version = view.version.as_deref().unwrap_or("unknown");
            line(out, false, "answers", &format!("version {version}, {}", count(view.models.len(), "model")))?;
        }
    }
    let hint = if measured { "" } else { "; `--slots` measures them" };
    line(out, false, "slots", &format!("{} claimed ({}){hint}", endpoint.num_parallel, endpoint.num_parallel_by))?;
    let memory = match endpoint.memory {
        Some(bytes) => format!("{} by `memory`", size(bytes)),
        None if gpus.is_empty() => "not configured (`memory` or `gpus`): learned".to_owned(),
        None => "that of its GPUs".to_owned(),
    };
    line(
        out,
        false,
        "memory",
        &format!("{memory}; {} in it at most", count(endpoint.max_loaded_models as usize, "model")),
    )?;
    for (name, seen) in gpus {
        match seen {
            Some(gpu) => line(out, false, "GPU", &shown(gpu))?,
            None => line(out, true, "GPU", &format!("{name} is not seen on this machine: correct `gpus`"))?,
        }
    }
    view.resident.iter().try_for_each(|loaded| resident(loaded, out))
}

fn resident(loaded: &Resident, out: &mut dyn Write) -> io::Result<()> {
    let context = loaded.context_length.map_or(String::new(), |tokens| format!(", context {tokens}"));
    let place = match loaded.spilled() {
        0 if loaded.size_vram == 0 => ", all of it beside the GPU (in main memory)".to_owned(),
        0 => String::new(),
        spilled => format!(", {} of it NOT on the GPU: slow; use a smaller num_ctx or fewer slots", size(spilled)),
    };
    line(out, loaded.spilled() > 0, "in memory", &format!("{} {}{context}{place}", loaded.name, size(loaded.size)))
}

fn shown(gpu: &GpuView) -> String {
    format!("{} {} {}: {} of {} used", gpu.index, gpu.uuid, gpu.name, size(gpu.used), size(gpu.total))
}

/// The GPUs of this machine, whoever uses them.
fn machine(doctor: &Doctor, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "this machine")?;
    for gpu in &doctor.gpus().gpus {
        line(out, false, "GPU", &shown(gpu))?;
    }
    for fault in &doctor.gpus().faults {
        let text = if doctor.gpus().gpus.is_empty() { format!("none is seen: {fault}") } else { fault.clone() };
        line(out, false, "GPU", &text)?;
    }
    Ok(())
}

async fn slots(
    doctor: &Doctor,
    (at, finding): (usize, &Finding<'_>),
    model: Option<&str>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Verdict> {
    let subject = match doctor.subject(at, model) {
        Ok(subject) => subject,
        Err(why) => {
            line(out, true, "measured", &format!("nothing: {why}"))?;
            return Ok(Verdict::Unknown);
        }
    };
    let load = if subject.resident {
        "which is in memory"
    } else {
        "which is loaded for it (another may have to go) and unloaded afterwards"
    };
    writeln!(
        err,
        "measuring the slots of {} with {}, {load}: this uses its GPU for some seconds, and a gateway that serves from it \
         may warn meanwhile that somebody uses the server directly",
        finding.endpoint.name, subject.model
    )?;
    match doctor.measure(&subject).await {
        Ok(found) => judge(&subject, finding, found, out),
        Err(why) => {
            line(out, true, "measured", &format!("nothing: {why}"))?;
            Ok(Verdict::Unknown)
        }
    }
}

fn judge(subject: &Subject, finding: &Finding<'_>, found: Slots, out: &mut dyn Write) -> io::Result<Verdict> {
    let (at_least, number) = match found {
        Slots::Exactly(number) => ("", number),
        Slots::AtLeast(number) => ("at least ", number),
    };
    let agrees = subject.agrees(found);
    let (claimed, by) = (subject.claimed, finding.endpoint.num_parallel_by);
    let measured = format!("{at_least}{} at once with {}", count(number as usize, "request"), subject.model);
    line(out, !agrees, "measured", &measured)?;
    if subject.one_at_a_time {
        let text = "Ollama serves this model one at a time whatever OLLAMA_NUM_PARALLEL is: name another with --model";
        line(out, false, "", text)?;
    }
    let advice = if agrees {
        format!("as claimed: {claimed}")
    } else if subject.one_at_a_time {
        "this version of Ollama does otherwise: the gateway sends it one at a time all the same".to_owned()
    } else if number > claimed {
        format!(
            "{claimed} claimed ({by}): the gateway leaves slots empty; set num_parallel = {number} for this endpoint, or \
             GAUCHO_NUM_PARALLEL"
        )
    } else {
        format!(
            "{claimed} claimed ({by}): unless others used the server meanwhile (then measure again), the gateway sends more \
             than run, and these wait inside Ollama, out of its sight; set num_parallel = {number} for this endpoint (or \
             GAUCHO_NUM_PARALLEL), or start the server with OLLAMA_NUM_PARALLEL={claimed}"
        )
    };
    line(out, !agrees, "", &advice)?;
    Ok(if agrees { Verdict::Fine } else { Verdict::Wrong })
}

fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Bytes for people.
#[expect(clippy::cast_precision_loss, reason = "one digit after the point")]
fn size(bytes: u64) -> String {
    let mib = bytes as f64 / 1_048_576.0;
    if mib < 1024.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}
