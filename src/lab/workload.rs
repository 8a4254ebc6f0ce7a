//! What is asked of a server: its models and memory, the applications, and how their clients behave.
//!
//! Owns the words of a workload, and the waves that open-loop traffic is drawn from. Seeds decide everything: a
//! client's n-th request is the same in every mode.

use crate::domain::Class;

use super::dice::Dice;

/// One model; rates are what a request gets that runs alone.
#[derive(Debug, Clone)]
pub struct ModelSpec {
    /// Its tag.
    pub name: String,
    /// Bytes in memory, context included.
    pub bytes: u64,
    /// Seconds to load.
    pub load: f64,
    /// Seconds from an unload until the memory is back.
    pub unload: f64,
    /// Prompt tokens read per second.
    pub prompt_rate: f64,
    /// Tokens made per second.
    pub output_rate: f64,
}

impl ModelSpec {
    /// Seconds a request takes alone.
    #[must_use]
    pub fn solo(&self, demand: &Demand) -> f64 {
        demand.effort * (f64::from(demand.prompt) / self.prompt_rate + f64::from(demand.output) / self.output_rate)
    }
}

/// One application.
#[derive(Debug, Clone)]
pub struct AppSpec {
    /// Its name.
    pub name: String,
    /// Its class.
    pub class: Class,
    /// Its share beside others of its class.
    pub weight: f64,
}

/// The server.
#[derive(Debug, Clone)]
pub struct Host {
    /// Slots per runner.
    pub slots: u32,
    /// Bytes for runners; `None` where only their number is limited.
    pub memory: Option<u64>,
    /// Runners in memory at most.
    pub max_loaded: u32,
    /// Speed of the GPU with 1, 2, … requests running, in requests that run alone; the last one holds for more.
    pub pace: Vec<f64>,
}

impl Host {
    /// Speed of the GPU with `running` requests.
    #[must_use]
    pub fn speed(&self, running: usize) -> f64 {
        let at = running.min(self.pace.len());
        if at == 0 { 1.0 } else { self.pace[at - 1] }
    }

    /// The best speed any number of requests up to the slots of one runner gives.
    #[must_use]
    pub fn best_speed(&self) -> f64 {
        (1..=self.slots as usize).map(|running| self.speed(running)).fold(0.0, f64::max)
    }

    /// The speed with one runner's slots all busy.
    #[must_use]
    pub fn full_speed(&self) -> f64 {
        self.speed(self.slots as usize)
    }
}

/// How long a caller stays.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Patience {
    /// Until it is answered.
    Endless,
    /// Hangs up when no first token came within so many seconds.
    FirstToken(f64),
    /// Hangs up so many seconds after asking, whatever it got.
    HangsUp(f64),
    /// Stops reading once this share of the answer filled the socket's buffers, and drops after so many seconds.
    StopsReading {
        /// 0 to 1.
        share: f64,
        /// Seconds after asking.
        drops: f64,
    },
}

/// One request.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    /// Whose, by place in [`Workload::apps`].
    pub app: usize,
    /// For which model, by place in [`Workload::models`].
    pub model: usize,
    /// Tokens.
    pub prompt: u32,
    /// Tokens it will make.
    pub output: u32,
    /// Whether the request names that number as its limit (`num_predict`).
    pub capped: bool,
    /// Context asked for.
    pub num_ctx: u64,
    /// Its work, 1 = what the tokens say.
    pub effort: f64,
    /// How long its caller waits.
    pub patience: Patience,
}

impl Demand {
    /// A chat of some tokens, whose caller says how many it wants and waits.
    #[must_use]
    pub fn chat(app: usize, model: usize, prompt: u32, output: u32) -> Self {
        Self { app, model, prompt, output, capped: true, num_ctx: 4096, effort: 1.0, patience: Patience::Endless }
    }
}

/// A client that asks again once it is answered (or gave up).
#[derive(Debug, Clone)]
pub struct Client {
    /// What it asks for, in turn, over and over.
    pub turns: Vec<Demand>,
    /// When it begins, seconds.
    pub starts: f64,
    /// Mean seconds between an answer and its next request.
    pub gap: f64,
    /// It asks nothing after this second.
    pub until: f64,
    /// It asks at most so often, and not again once answered when it is a retry (`only_until_answered`).
    pub limit: u32,
    /// Whether it stops at its first answer.
    pub only_until_answered: bool,
}

/// What the scheduler of this program promises on a workload.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// At least this share of the ideal.
    Ideal(f64),
    /// Not worse against the ideal than raw Ollama, but for 2 %.
    AsRaw,
    /// No request of the application waits longer than the bound for a model with so many others ahead of it.
    Late {
        /// Which application.
        app: usize,
        /// Models ahead of its own.
        others: usize,
    },
    /// The application keeps this share of the work it could do alone.
    Keeps {
        /// Which application.
        app: usize,
        /// 0 to 1.
        share: f64,
    },
    /// The first application has so many times the GPU time of the second, within 10 %.
    Ratio {
        /// Applications.
        of: (usize, usize),
        /// How many times.
        times: f64,
    },
    /// Median answer of the application within so many seconds.
    Median {
        /// Which application.
        app: usize,
        /// Seconds from asking to the last token.
        within: f64,
    },
    /// Swapping takes at most the share h of the busy time, the idle time, and twice the dearest swap.
    Overhead,
}

/// Everything about one comparison.
#[derive(Debug, Clone)]
pub struct Workload {
    /// A short name.
    pub name: String,
    /// What it is, in a sentence.
    pub note: String,
    /// The server.
    pub host: Host,
    /// Its models.
    pub models: Vec<ModelSpec>,
    /// The applications.
    pub apps: Vec<AppSpec>,
    /// Closed loops.
    pub clients: Vec<Client>,
    /// Requests at set times, seconds, in order.
    pub planned: Vec<(f64, Demand)>,
    /// Models in memory at the start.
    pub warm: Vec<usize>,
    /// Seconds from the start in which applications contend; shares of GPU time are taken in it.
    pub window: f64,
    /// How far work and loads vary, 0.05 = ± 5 %.
    pub jitter: f64,
    /// Seeds its numbers.
    pub seed: u64,
    /// What is promised on it.
    pub goals: Vec<Goal>,
}

impl Workload {
    /// A workload without any traffic yet.
    #[must_use]
    pub fn new(name: &str, note: &str, host: Host, seed: u64) -> Self {
        Self {
            name: name.to_owned(),
            note: note.to_owned(),
            host,
            models: Vec::new(),
            apps: Vec::new(),
            clients: Vec::new(),
            planned: Vec::new(),
            warm: Vec::new(),
            window: 0.0,
            jitter: 0.0,
            seed,
            goals: Vec::new(),
        }
    }

    /// Adds an application; returns its place.
    pub fn app(&mut self, name: &str, class: Class, weight: f64) -> usize {
        self.apps.push(AppSpec { name: name.to_owned(), class, weight });
        self.apps.len() - 1
    }

    /// Adds `count` clients that ask for `demand` over and over, without thinking, until `until`.
    pub fn loops(&mut self, count: u32, demand: Demand, until: f64) {
        self.window = self.window.max(until);
        for _ in 0..count {
            // programs start their clients one after another
            let starts = 0.001 * self.clients.len() as f64;
            self.clients.push(Client {
                turns: vec![demand],
                starts,
                gap: 0.008,
                until,
                limit: u32::MAX,
                only_until_answered: false,
            });
        }
    }

    /// Adds requests at random times until `until`; `next` draws the gap to the next one, `demand` the request.
    pub fn wave(
        &mut self,
        dice: &mut Dice,
        until: f64,
        next: impl Fn(&mut Dice) -> f64,
        demand: impl Fn(&mut Dice) -> Demand,
    ) {
        let mut at = next(dice);
        while at < until {
            let asked = demand(dice);
            self.planned.push((at, asked));
            at += next(dice);
        }
        self.window = self.window.max(until);
        self.planned.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
}
