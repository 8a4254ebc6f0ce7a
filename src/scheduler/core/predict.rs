//! How long a request will run: learned per set of weights, with honest first guesses.

use super::fair::AppIndex;
use super::{Lesson, Observed, Work, WorkKind};

/// Weight of the newest observation in a learned mean.
const NEWEST: f64 = 0.2;

/// The same of the length of an answer, which varies more.
const LENGTHS: f64 = 0.05;

/// Answers that what an earlier process learned counts for.
const TAUGHT: u32 = 3;

/// Tokens of a prompt that teaches with its full weight.
const WHOLE_PROMPT: f64 = 256.0;

/// Tokens of one request, and per second, beyond which a figure is nonsense.
const MOST_TOKENS: f64 = 1e6;

/// What is known of one set of weights.
#[derive(Debug, Clone)]
pub(super) struct Speed {
    bytes_per_token: f64,
    prompt_per_second: f64,
    output_per_second: f64,
    /// Output tokens of all requests.
    usual: Mean,
    /// Output tokens of each application's requests, once it had an answer.
    output_tokens: Vec<Mean>,
    /// Real service ÷ predicted, by kind: what sharing the GPU and everything unmodelled add up to.
    bias: [f64; 3],
    /// By how much predictions were off, as a share of them, by kind.
    miss: [f64; 3],
    /// Answers learned from.
    samples: u32,
}

impl Default for Speed {
    /// A 7 B model on a middling GPU; wrong within an order of magnitude until the first answers correct it.
    fn default() -> Self {
        Self {
            bytes_per_token: 4.0,
            prompt_per_second: 800.0,
            output_per_second: 40.0,
            usual: Mean { count: 0, value: 200.0 },
            output_tokens: Vec::new(),
            bias: [1.0; 3],
            miss: [0.25; 3],
            samples: 0,
        }
    }
}

/// A mean of what varies from one to the next: of all so far, later of the last few dozen.
#[derive(Debug, Clone, Copy, Default)]
struct Mean {
    count: u32,
    value: f64,
}

impl Mean {
    fn add(&mut self, sample: f64) {
        self.count = self.count.saturating_add(1);
        blend_by(LENGTHS.max(1.0 / f64::from(self.count)), &mut self.value, sample);
    }
}

fn blend(mean: &mut f64, sample: f64) {
    blend_by(NEWEST, mean, sample);
}

fn blend_by(weight: f64, mean: &mut f64, sample: f64) {
    if sample.is_finite() && sample > 0.0 && sample <= MOST_TOKENS {
        *mean += weight * (sample - *mean);
    }
}

impl Speed {
    /// What an earlier process learned.
    pub(super) fn taught(lesson: &Lesson) -> Self {
        Self {
            bytes_per_token: lesson.bytes_per_token,
            prompt_per_second: lesson.prompt_speed,
            output_per_second: lesson.output_speed,
            usual: Mean { count: TAUGHT, value: lesson.output_tokens.max(1.0) },
            bias: [lesson.bias, 1.0, 1.0],
            samples: TAUGHT,
            ..Self::default()
        }
    }

    /// Predicted service in seconds.
    pub(super) fn predict(&self, app: AppIndex, work: Work) -> f64 {
        self.unbiased(app, work) * self.bias[work.kind as usize]
    }

    /// Seconds that it takes alone when it uses all it may.
    #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
    pub(super) fn longest(&self, work: Work) -> f64 {
        let most = work.output_cap.map_or(10.0 * self.usual.value, |cap| cap as f64);
        self.predict_prompt(work) + most / self.output_per_second
    }

    /// Predicted seconds until the first token, were it alone.
    #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
    pub(super) fn predict_prompt(&self, work: Work) -> f64 {
        work.prompt_bytes as f64 / self.bytes_per_token / self.prompt_per_second
    }

    #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
    fn unbiased(&self, app: AppIndex, work: Work) -> f64 {
        let prompt = self.predict_prompt(work);
        let own = self.output_tokens.get(app.0).filter(|own| own.count > 0);
        let usual = own.unwrap_or(&self.usual).value;
        let output = match work.kind {
            WorkKind::Generate => work.output_cap.map_or(usual, |cap| usual.min(cap as f64)),
            WorkKind::Embed | WorkKind::Load => 0.0,
        };
        // never zero: a request that costs nothing would never be anyone's turn to wait
        (prompt + output / self.output_per_second).max(0.001)
    }

    #[expect(clippy::cast_precision_loss, reason = "sizes far below 2^52")]
    pub(super) fn learn(&mut self, app: AppIndex, work: Work, seen: Observed, service: f64, predicted: f64) {
        if !seen.complete {
            return;
        }
        self.samples = self.samples.saturating_add(1);
        // whatever a peer says, no answer has more tokens
        let (prompt, output) =
            ((seen.prompt_tokens as f64).min(MOST_TOKENS), (seen.output_tokens as f64).min(MOST_TOKENS));
        if predicted > 0.0 && service > 0.0 {
            // what the lengths were is known by now: a guess of them that was wrong says nothing about the rest
            let lengths = prompt / self.prompt_per_second + output / self.output_per_second;
            let bias = &mut self.bias[work.kind as usize];
            let known = if prompt > 0.0 && output > 0.0 { *bias * lengths } else { predicted };
            blend(bias, (*bias * service / known).clamp(0.01, 100.0));
            blend(&mut self.miss[work.kind as usize], (service / predicted - 1.0).abs().clamp(0.01, 0.25));
        }
        // the server's figures are wall time, which what ran beside made longer: speeds are kept per second of service
        let wall = seen.prompt_seconds + seen.output_seconds;
        let share = if wall > 0.0 && service > 0.0 { (service / wall).clamp(0.02, 1.0) } else { 1.0 };
        if prompt > 0.0 {
            // of a short prompt nearly all is the model's template, and of its time nearly all is the start
            let weight = NEWEST * (prompt / WHOLE_PROMPT).min(1.0);
            blend_by(weight, &mut self.bytes_per_token, (work.prompt_bytes as f64 / prompt).clamp(0.1, 100.0));
            blend_by(weight, &mut self.prompt_per_second, prompt / (seen.prompt_seconds * share));
        }
        if output > 0.0 {
            blend(&mut self.output_per_second, output / (seen.output_seconds * share));
            self.usual.add(output);
            if self.output_tokens.len() <= app.0 {
                self.output_tokens.resize(app.0 + 1, Mean::default());
            }
            self.output_tokens[app.0].add(output);
        }
    }

    /// By how much predictions are off, as a share of them, a quarter at most.
    pub(super) fn miss(&self, kind: WorkKind) -> f64 {
        self.miss[kind as usize]
    }

    pub(super) fn prompt_speed(&self) -> f64 {
        self.prompt_per_second
    }

    pub(super) fn output_speed(&self) -> f64 {
        self.output_per_second
    }

    /// Tokens of an answer, over all applications.
    pub(super) fn usual_output(&self) -> f64 {
        self.usual.value
    }

    pub(super) fn text_bias(&self) -> f64 {
        self.bias[WorkKind::Generate as usize]
    }

    /// Answers learned from.
    pub(super) fn samples(&self) -> u32 {
        self.samples
    }

    /// Whether it has seen enough to be believed.
    pub(super) fn is_learned(&self) -> bool {
        self.samples >= 3
    }

    /// Learned bytes of text per prompt token.
    pub(super) fn bytes_per_token(&self) -> f64 {
        self.bytes_per_token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learn(speed: &mut Speed, bytes: usize, tokens: u64, seconds: f64) {
        let work = Work { kind: WorkKind::Generate, prompt_bytes: bytes, output_cap: None };
        let seen = Observed {
            complete: true,
            prompt_tokens: tokens,
            output_tokens: 1,
            prompt_seconds: seconds,
            output_seconds: 0.02,
            ..Observed::default()
        };
        speed.learn(AppIndex(0), work, seen, seconds + 0.02, seconds + 0.02);
    }

    #[test]
    fn short_prompts_say_little_of_long_ones() {
        let mut speed = Speed::default();
        (0..20).for_each(|_| learn(&mut speed, 4000, 1000, 0.5));
        let (bytes, rate) = (speed.bytes_per_token(), speed.prompt_speed());
        // two letters in a template of ten tokens
        (0..25).for_each(|_| learn(&mut speed, 2, 10, 0.05));
        assert!(speed.bytes_per_token() > 0.75 * bytes, "{} of {bytes}", speed.bytes_per_token());
        assert!(speed.prompt_speed() > 0.75 * rate, "{} of {rate}", speed.prompt_speed());
    }
}
