//! Who stands between the clients and the server: nobody, a plain queue, a quantum, or Gaucho's scheduler.
//!
//! Owns the one interface the player drives them by. Each sees the server only as a gateway would: it sends requests,
//! loads and unloads, and learns what came of them.

mod fifo;
mod gaucho;
mod quantum;
mod raw;

use crate::domain::Moment;

use crate::scheduler::core::Lesson;

use super::server::{Call, Event, Server};
use super::workload::{Demand, Patience, Workload};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Every client asks Ollama itself.
    Raw,
    /// A gateway lets in at most as many as a runner has slots, strictly in order of arrival; Ollama loads.
    Fifo,
    /// A gateway keeps a resident model for three times its load, or until its queue is dry; in order within a model.
    Quantum,
    /// The scheduler of this program.
    Gaucho,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Raw, Self::Fifo, Self::Quantum, Self::Gaucho];

    /// Its name in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Fifo => "fifo",
            Self::Quantum => "quantum",
            Self::Gaucho => "gaucho",
        }
    }

    /// The mode at work, with what an earlier process learned, where it can use that; where nobody listens, waits need not be
    /// foretold well.
    pub(crate) fn desk(
        self,
        workload: &Workload,
        lessons: Vec<Lesson>,
        foretells: bool,
    ) -> Result<Box<dyn Desk>, String> {
        Ok(match self {
            Self::Raw => Box::new(raw::Raw),
            Self::Fifo => Box::new(fifo::Fifo::new(workload)),
            Self::Quantum => Box::new(quantum::Quantum::new(workload)),
            Self::Gaucho => Box::new(gaucho::Gaucho::new(workload, lessons, foretells)?),
        })
    }
}

/// A request on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) id: u64,
    pub(crate) demand: Demand,
}

/// What a mode answers at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Answer {
    /// It waits or runs. Seconds until it starts, as told to the caller now, where the mode makes such promises.
    Taken(Option<f64>),
    /// Refused.
    Refused,
}

/// One mode at work.
pub(crate) trait Desk {
    /// The doors open; what is resident now was there before.
    fn open(&mut self, _now: Moment, _server: &mut Server) {}
    /// A request arrives.
    fn arrive(&mut self, now: Moment, asked: Asked, server: &mut Server) -> Answer;
    /// Its caller left. Returns the GPU seconds it had.
    fn leave(&mut self, now: Moment, id: u64, server: &mut Server) -> f64;
    /// A caller that had stopped reading dropped the connection. Gateways read at full speed, so it is a departure.
    fn drops(&mut self, now: Moment, id: u64, server: &mut Server) -> f64 {
        self.leave(now, id, server)
    }
    /// The server did something.
    fn event(&mut self, _now: Moment, _event: Event, _server: &mut Server) {}
    /// It is [`Desk::next_due`].
    fn tick(&mut self, _now: Moment, _server: &mut Server) {}
    /// What it learned, for a process after it.
    fn lessons(&self) -> Vec<Lesson> {
        Vec::new()
    }
    /// When [`Desk::tick`] is due, if nothing happens before.
    fn next_due(&self) -> Option<Moment> {
        None
    }
}

/// The call a client makes itself: as it likes.
fn own_call(asked: Asked) -> Call {
    let stalls = match asked.demand.patience {
        Patience::StopsReading { share, .. } => Some(share),
        _ => None,
    };
    Call { id: asked.id, demand: asked.demand, keep_alive: None, stalls }
}

/// The call a gateway makes: one context for everybody, a long keep-alive, and it reads at full speed.
fn gateway_call(asked: Asked) -> Call {
    let demand = Demand { num_ctx: 4096, ..asked.demand };
    Call { id: asked.id, demand, keep_alive: Some(std::time::Duration::from_secs(86_400)), stalls: None }
}
