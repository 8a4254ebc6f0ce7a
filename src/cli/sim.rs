//! `gaucho sim`: arguments of the stand-in Ollama.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::Memory;
use crate::policy::Scalar;
use crate::sim::{Model, Scheduler, Settings, Sim, default_models, parse_bytes};

/// What `--help` says of the table of models.
const MODELS_HELP: &str = "\
The table of models (--models) is TOML, or JSON of the same shape; only `name` has to be there:
  [[models]]
  name = \"llama3.2:3b\"
  size = 2019393189                    # bytes of all layers
  memory = 2600000000                 # bytes once loaded, without the context's [default: size]
  kv_bytes_per_token = 114688         # bytes per token of context and slot [default: 0]
  context_length = 131072             # tokens it was trained with
  load_ms = 2000
  prompt_tokens_per_second = 2000.0
  tokens_per_second = 60.0
  parallel_speed = 1.0                # what several answers at once make together, by what one makes alone
  answer_tokens = 200                 # length of its answers [default: 20 to 120, by the prompt]
  capabilities = [\"completion\"]      # also tools, thinking, embedding, vision, insert

  [[models]]
  name = \"nomic-embed-text\"
  capabilities = [\"embedding\"]
  embedding_length = 768              # numbers in a vector

More fields: `slots` (where they differ from --num-parallel), `vram` (bytes of it on the GPU; 0 for a CPU), `text` and
`thinking` (what it always says and thinks), `keeps_calling_tools`; and what /api/tags and /api/show tell of it: `digest`,
`weights` (tags with the same one share a runner), `modified_at`, `family`, `format`, `parent`, `parameter_size`,
`quantization`, `template`, `system`, `parameters`, `license`, `model_info`, `tensors`.";

/// Run a stand-in for Ollama that needs no GPU and no model files.
#[derive(Debug, Args)]
#[command(after_help = MODELS_HELP)]
pub(crate) struct SimArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:11434")]
    listen: SocketAddr,
    /// What becomes of requests whose clients leave: `ollama` (as it is: dead requests keep their places in the queue,
    /// cause evictions and loads, and hold slots to the end) or `ideal` (they take everything along)
    #[arg(long, value_name = "NAME", default_value = "ollama")]
    scheduler: Scheduler,
    /// Requests each runner serves at once
    #[arg(long, value_name = "N", env = "OLLAMA_NUM_PARALLEL", default_value_t = 1)]
    num_parallel: usize,
    /// Models in memory at most
    #[arg(long, value_name = "N", env = "OLLAMA_MAX_LOADED_MODELS", default_value_t = 3, value_parser = max_loaded)]
    max_loaded_models: usize,
    /// Requests that may wait for a load; those for loaded models wait without bound
    #[arg(long, value_name = "N", env = "OLLAMA_MAX_QUEUE", default_value_t = 512)]
    max_queue: usize,
    /// Memory for models, such as 24GB; without it there is plenty
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<u64>,
    /// Table of models (TOML or JSON, see below); without it there are four for demos
    #[arg(long, value_name = "FILE")]
    models: Option<PathBuf>,
    /// How many times faster than the models' own speeds it runs
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    speed: f64,
    /// Serve nothing: compare raw Ollama, plain queues and the gateway in virtual time, draw it into an HTML file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Ollama reads 0 as "choose": three per GPU, of which a stand-in has one.
fn max_loaded(text: &str) -> Result<usize, String> {
    let number: usize = text.trim().parse().map_err(|_| format!("\"{text}\" is not a whole number"))?;
    Ok(if number == 0 { 3 } else { number })
}

/// In the range that a gateway's settings have for a server's memory: a bare "24" is hardly meant as bytes.
fn memory(text: &str) -> Result<u64, String> {
    let size = Memory::within(parse_bytes(text)?);
    size.map(|size| size.0).ok_or_else(|| format!("{text} is not allowed: use {}", Memory::allowed()))
}

impl SimArgs {
    /// The settings they stand for; reads the file of models.
    fn settings(&self) -> Result<Settings, String> {
        let models = match &self.models {
            None => default_models(),
            Some(file) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| format!("--models {}: cannot be read: {error}", file.display()))?;
                Model::parse_file(&text).map_err(|error| format!("--models {}: {error}", file.display()))?
            }
        };
        Ok(Settings {
            listen: self.listen,
            scheduler: self.scheduler,
            max_queue: self.max_queue,
            num_parallel: self.num_parallel,
            max_loaded_models: self.max_loaded_models,
            memory: self.memory,
            models,
            speed: self.speed,
            keep_alive: Duration::from_secs(300),
            ..Settings::default()
        })
    }
}

/// Serves until Ctrl-C; says on standard error where it listens and what it has.
///
/// # Errors
/// What is wrong with an argument or the file, or why it cannot listen.
pub(crate) async fn run(args: SimArgs) -> Result<(), String> {
    use std::io::Write as _;

    if let Some(file) = &args.report {
        let refused = |error| format!("--report {}: {error}", file.display());
        // a mistake in the name is told before the work, not after it
        let mut page = std::fs::File::create(file).map_err(refused)?;
        return page.write_all(crate::lab::report::built_in()?.as_bytes()).map_err(refused);
    }
    let settings = args.settings()?;
    let names: Vec<String> = settings.models.iter().map(|model| model.name.clone()).collect();
    let sim = Sim::start(settings).await.map_err(|error| format!("--listen {}: {error}", args.listen))?;
    let _ = writeln!(std::io::stderr(), "stand-in for Ollama on {} with {}", sim.url(), names.join(", "));
    tokio::signal::ctrl_c().await.map_err(|error| format!("cannot wait for Ctrl-C: {error}"))?;
    sim.shutdown().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SimArgs,
    }

    fn settings(line: &str) -> Result<Settings, String> {
        let words = std::iter::once("sim").chain(line.split_whitespace());
        Line::try_parse_from(words).map_err(|error| error.to_string())?.args.settings()
    }

    #[test]
    fn arguments_become_settings() {
        let settings = settings("--listen 127.0.0.1:0 --memory 24GB --max-loaded-models 0 --speed 20").unwrap();
        assert_eq!(settings.memory, Some(24_000_000_000));
        assert_eq!(settings.max_loaded_models, 3);
        assert_eq!(settings.models.len(), 4);
        assert_eq!((settings.scheduler, settings.max_queue), (Scheduler::Ollama, 512));
    }

    #[test]
    fn the_scheduler_is_ollamas_or_ideal_and_nothing_else() {
        assert_eq!(self::settings("--scheduler ideal").unwrap().scheduler, Scheduler::Ideal);
        assert_eq!(self::settings("--scheduler ollama --max-queue 3").unwrap().max_queue, 3);
        let said = self::settings("--scheduler fair").unwrap_err();
        assert!(said.contains("--scheduler") && said.contains("use ollama (as it is) or ideal"), "{said}");
    }

    #[test]
    fn mistakes_name_the_argument_and_the_remedy() {
        let said = settings("--memory lots").unwrap_err();
        assert!(said.contains("--memory") && said.contains("GB"), "{said}");
        let said = settings("--memory 24").unwrap_err();
        assert!(said.contains("24 is not allowed: use a number of bytes or a size such as"), "{said}");
        let said = settings("--models no/such/file").unwrap_err();
        assert!(said.contains("--models no/such/file"), "{said}");
    }

    #[tokio::test]
    async fn a_report_that_cannot_be_written_is_told_at_once() {
        let line = Line::try_parse_from(["sim", "--report", "no/such/folder/x.html"]).unwrap();
        let said = run(line.args).await.unwrap_err();
        assert!(said.contains("--report no/such/folder/x.html"), "{said}");
    }

    #[test]
    fn the_help_on_models_is_a_table_that_can_be_read_and_leaves_no_field_out() {
        let table = MODELS_HELP.split_once('\n').unwrap().1.split_once("\nMore fields").unwrap().0;
        let models = Model::parse_file(table).unwrap();
        let names: Vec<_> = models.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, ["llama3.2:3b", "nomic-embed-text:latest"]);
        // what it expects instead of a field that is none
        let error = Model::parse_file("{\"models\":[{\"name\":\"a\",\"nothing\":1}]}").unwrap_err();
        let fields: Vec<_> = error.split('`').skip(3).step_by(2).collect();
        assert!(fields.len() > 20, "{error}");
        for field in fields {
            let (row, more) = (format!("\n  {field} = "), format!("`{field}`"));
            assert!(MODELS_HELP.contains(&row) || MODELS_HELP.contains(&more), "{field}");
        }
    }
}
