//! `options`: which keys Ollama knows, of which type, and which of them belong to the runner.

use serde_json::{Map, Value};

/// Options that are fixed when a runner starts; a difference makes Ollama reload it (`needsReload`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RunnerOptions {
    /// Context per slot, in tokens, after defaults and limits.
    pub(super) num_ctx: u64,
    pub(super) num_batch: i64,
    /// Layers on the GPU; negative means automatic, and matches anything.
    pub(super) num_gpu: i64,
    pub(super) main_gpu: Option<i64>,
    pub(super) use_mmap: Option<bool>,
    pub(super) num_thread: i64,
    /// Context shift.
    pub(super) shift: bool,
}

impl RunnerOptions {
    /// Whether a runner with these options must be reloaded for a request with `wanted`.
    pub(super) fn needs_reload(&self, wanted: &Self) -> bool {
        let mut wanted = wanted.clone();
        if wanted.num_gpu < 0 {
            wanted.num_gpu = self.num_gpu;
        }
        if wanted.use_mmap.is_none() {
            wanted.use_mmap = self.use_mmap;
        }
        *self != wanted
    }
}

/// Options that shape one answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sampling {
    pub(super) seed: i64,
    /// Tokens to make at most; `None` means until the model stops (or ten contexts).
    pub(super) num_predict: Option<u64>,
    pub(super) stop: Vec<String>,
}

/// All options of a request: the model's own parameters under the request's.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Options {
    pub(super) runner: RunnerOptions,
    pub(super) sampling: Sampling,
}

/// What the model and the server contribute.
pub(super) struct Base<'a> {
    /// The model's `PARAMETER`s.
    pub(super) parameters: &'a Map<String, Value>,
    /// The server's context length where nobody names one.
    pub(super) context_length: u64,
    /// The longest context the model was trained for.
    pub(super) trained: u64,
    /// The request's `shift`.
    pub(super) shift: bool,
}

/// Merges and checks.
///
/// # Errors
/// Ollama's text for a value of the wrong type; it answers 500 with it.
pub(super) fn merge(base: &Base<'_>, request: &Map<String, Value>) -> Result<Options, String> {
    check(base.parameters)?;
    check(request)?;
    let get = |key: &str| {
        let given = request.get(key).filter(|value| !value.is_null());
        given.or_else(|| base.parameters.get(key)).filter(|value| !value.is_null())
    };
    let int = |key: &str| get(key).and_then(as_int);
    let num_ctx = int("num_ctx").and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0);
    let num_ctx = num_ctx.unwrap_or(base.context_length).min(base.trained).max(4);
    let bound = num_ctx.saturating_mul(10);
    Ok(Options {
        runner: RunnerOptions {
            num_ctx,
            num_batch: int("num_batch").unwrap_or(0),
            num_gpu: int("num_gpu").unwrap_or(-1),
            main_gpu: int("main_gpu"),
            use_mmap: get("use_mmap").and_then(Value::as_bool),
            num_thread: int("num_thread").unwrap_or(0),
            shift: base.shift,
        },
        sampling: Sampling {
            seed: int("seed").unwrap_or(-1),
            num_predict: int("num_predict")
                .and_then(|n| u64::try_from(n).ok())
                .filter(|n| *n > 0)
                .map(|n| n.min(bound)),
            stop: get("stop").and_then(Value::as_array).map(|list| texts(list)).unwrap_or_default(),
        },
    })
}

fn texts(list: &[Value]) -> Vec<String> {
    list.iter().filter_map(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned).collect()
}

/// Numbers for integer options are truncated.
fn as_int(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_f64().map(|float| float as i64))
}

/// Unknown keys pass (Ollama logs them); keys are exact-case.
fn check(options: &Map<String, Value>) -> Result<(), String> {
    for (key, value) in options {
        let (fits, wanted) = match key.as_str() {
            "num_keep" | "seed" | "num_predict" | "top_k" | "repeat_last_n" | "num_ctx" | "num_batch" | "num_gpu"
            | "main_gpu" | "num_thread" | "draft_num_predict" => (value.is_number(), "integer"),
            "top_p" | "min_p" | "typical_p" | "temperature" | "repeat_penalty" | "presence_penalty"
            | "frequency_penalty" => (value.is_number(), "float32"),
            "use_mmap" => (value.is_boolean(), "boolean"),
            "stop" => (value.is_array(), "array"),
            _ => continue,
        };
        if !fits && !value.is_null() {
            return Err(format!("option \"{key}\" must be of type {wanted}"));
        }
    }
    let stop = options.get("stop").and_then(Value::as_array);
    match stop.is_some_and(|list| !list.iter().all(Value::is_string)) {
        true => Err("option \"stop\" must be of an array of strings".into()),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    fn merged(parameters: &Value, request: &Value) -> Result<Options, String> {
        let base =
            Base { parameters: parameters.as_object().unwrap(), context_length: 4096, trained: 32768, shift: true };
        merge(&base, request.as_object().unwrap())
    }

    #[test]
    fn the_request_wins_over_the_tag_and_the_tag_over_the_server() {
        let tag = json!({"num_ctx": 2048, "stop": ["\n\n"]});
        let num_ctx = |tag: &Value, request: Value| merged(tag, &request).unwrap().runner.num_ctx;
        assert_eq!(num_ctx(&json!({}), json!({})), 4096);
        assert_eq!(num_ctx(&tag, json!({"num_ctx": null})), 2048);
        assert_eq!(num_ctx(&tag, json!({"num_ctx": 1e9})), 32768);
        let options = merged(&tag, &json!({"num_predict": 3.7, "silly": []})).unwrap();
        assert_eq!((options.sampling.num_predict, options.sampling.stop), (Some(3), vec!["\n\n".to_owned()]));
    }

    #[test]
    fn wrong_types_get_ollama_s_words() {
        for (request, text) in [
            (json!({"num_ctx": "8k"}), "option \"num_ctx\" must be of type integer"),
            (json!({"top_p": true}), "option \"top_p\" must be of type float32"),
            (json!({"use_mmap": 1}), "option \"use_mmap\" must be of type boolean"),
            (json!({"stop": "x"}), "option \"stop\" must be of type array"),
            (json!({"stop": [1]}), "option \"stop\" must be of an array of strings"),
        ] {
            assert_eq!(merged(&json!({}), &request).unwrap_err(), text);
        }
    }

    #[test]
    fn only_runner_options_that_differ_reload() {
        let runner = |request: Value| merged(&json!({}), &request).unwrap().runner;
        let loaded = runner(json!({"num_gpu": 20}));
        for (request, reloads) in [
            (json!({}), false),
            (json!({"num_ctx": 4096, "temperature": 0.1}), false),
            (json!({"num_ctx": 2048}), true),
            (json!({"num_gpu": 10}), true),
            (json!({"num_thread": 2}), true),
        ] {
            assert_eq!(loaded.needs_reload(&runner(request.clone())), reloads, "{request}");
        }
    }
}
