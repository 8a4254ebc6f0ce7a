//! How long a certificate is good, and what operators are told of it.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::domain::date;

/// How long before its end operators are warned: renewals by machines come a month before, so this one was missed.
const SOON: Duration = Duration::from_secs(14 * DAY);
const DAY: u64 = 24 * 60 * 60;

/// When a chain is good: as long as each of its certificates is. Times are since 1970.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    begins: Duration,
    pub(super) ends: Duration,
}

/// How it is with a certificate at a time, changing once a day at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Good,
    /// Ends within this many days.
    Ending(u64),
    /// Ended this many days ago.
    Over(u64),
    Early,
}

impl Validity {
    /// What the certificates say; `None` where one cannot be read.
    pub(super) fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let seconds = |time: i64| Duration::from_secs(u64::try_from(time).unwrap_or(0));
        chain.iter().try_fold(Self { begins: Duration::ZERO, ends: Duration::MAX }, |all, certificate| {
            let (_, read) = X509Certificate::from_der(certificate).ok()?;
            let (begins, ends) = (read.validity().not_before.timestamp(), read.validity().not_after.timestamp());
            Some(Self { begins: all.begins.max(seconds(begins)), ends: all.ends.min(seconds(ends)) })
        })
    }

    pub(super) fn standing(self, now: Duration) -> Standing {
        let days = |time: Duration| time.as_secs() / DAY;
        match self.ends.checked_sub(now) {
            None => Standing::Over(days(now.saturating_sub(self.ends))),
            Some(_) if now < self.begins => Standing::Early,
            Some(left) if left < SOON => Standing::Ending(days(left)),
            Some(_) => Standing::Good,
        }
    }

    /// What is to be said of that, if anything.
    pub(super) fn concern(self, standing: Standing) -> Option<String> {
        const REMEDY: &str = "put a new one in its place, which is used within seconds";
        let (begins, ends) = (date(self.begins), date(self.ends));
        match standing {
            Standing::Good => None,
            Standing::Ending(days) => Some(format!("it ends on {ends}, in {days} days: {REMEDY}")),
            Standing::Over(_) => Some(format!("it ended on {ends}, and clients refuse it: {REMEDY}")),
            Standing::Early => Some(format!("it begins on {begins}, and clients refuse it until then")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_are_told_once_a_day_from_two_weeks_before_the_end() {
        let days = |days: u64| Duration::from_secs(days * DAY);
        let validity = Validity { begins: days(100), ends: days(190) };
        for (now, standing) in [
            (days(99), Standing::Early),
            (days(100), Standing::Good),
            (days(176), Standing::Good),
            (days(177), Standing::Ending(13)),
            (days(190) - Duration::from_secs(1), Standing::Ending(0)),
            (days(190) + Duration::from_secs(1), Standing::Over(0)),
            (days(193), Standing::Over(3)),
        ] {
            assert_eq!(validity.standing(now), standing, "{now:?}");
            assert_eq!(validity.concern(standing).is_none(), standing == Standing::Good, "{now:?}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_dates() {
        assert!(Validity::of(&[CertificateDer::from_slice(b"x")]).is_none());
    }
}
