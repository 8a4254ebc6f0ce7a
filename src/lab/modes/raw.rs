//! No gateway: every client asks the server itself, and what the server does is what it gets.

use crate::domain::Moment;
use crate::lab::server::Server;

use super::{Answer, Asked, Desk, own_call};

pub(super) struct Raw;

impl Desk for Raw {
    fn arrive(&mut self, _now: Moment, asked: Asked, server: &mut Server) -> Answer {
        server.start(own_call(asked));
        Answer::Taken(None)
    }

    fn leave(&mut self, _now: Moment, id: u64, server: &mut Server) -> f64 {
        server.cancel(id)
    }

    fn drops(&mut self, _now: Moment, id: u64, server: &mut Server) -> f64 {
        server.abandon(id)
    }
}
