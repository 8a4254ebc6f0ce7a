//! What `policies/models.toml` may say: one runner profile per model name or pattern.
//!
//! Owns the keys. Which profile a model gets is `profile`'s.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use toml::de::DeValue;

use super::app::ModelGlob;
use super::forms::{Form, Whole};
use super::{KeepAlive, Place, Placed, Reader, document};

document! {
    /// Runner profiles: how each model is loaded, whoever asks for it.
    pub(crate) struct ModelsDocument {
        /// One profile per model name or pattern; the exact name wins, then the pattern with the most letters.
        models: Profiles,
    }
}

/// A profile and its fallback have the same keys, said once.
macro_rules! profile_document {
    ($(#[doc = $about:literal])+ $name:ident { $($more:tt)* }) => {
        document! {
            $(#[doc = $about])+
            pub(crate) struct $name {
                /// Context length of each slot, in tokens.
                num_ctx: Whole<4, 100_000_000>,
                /// Requests admitted at once; lowers what the server allows, never raises it.
                num_parallel: Whole<1, 1024>,
                /// How long the model stays in memory after its last request: seconds, a time such as "30m", or -1 for ever.
                keep_alive: KeepAlive,
                /// Prompt tokens computed at once.
                num_batch: Whole<1, 65_536>,
                /// Layers on the GPU; -1 lets the server choose.
                num_gpu: Whole<-1, 100_000>,
                /// The GPU that holds small tensors.
                main_gpu: Whole<0, 1024>,
                /// Whether the weights are mapped from disk rather than read.
                use_mmap: bool,
                /// CPU threads; 0 lets the server choose.
                num_thread: Whole<0, 4096>,
                /// Tokens a draft model predicts ahead.
                draft_num_predict: Whole<0, 1024>,
                /// Whether a full context drops its oldest half to go on.
                shift: bool,
                $($more)*
            }
        }

        impl $name {
            /// The runner options it gives, in Ollama's spelling.
            pub(crate) fn options(&self) -> BTreeMap<&'static str, Value> {
                fn given<T: Copy + Into<Value>>(value: Option<&Placed<T>>) -> Option<Value> {
                    value.map(|placed| placed.value.into())
                }
                let options = [
                    ("num_ctx", given(self.num_ctx.as_ref())),
                    ("num_batch", given(self.num_batch.as_ref())),
                    ("num_gpu", given(self.num_gpu.as_ref())),
                    ("main_gpu", given(self.main_gpu.as_ref())),
                    ("use_mmap", given(self.use_mmap.as_ref())),
                    ("num_thread", given(self.num_thread.as_ref())),
                    ("draft_num_predict", given(self.draft_num_predict.as_ref())),
                    ("shift", given(self.shift.as_ref())),
                ];
                options.into_iter().filter_map(|(key, value)| Some((key, value?))).collect()
            }
        }
    };
}

profile_document! {
    /// How a model is loaded. What is absent is left to the server.
    ProfileDocument {
        /// What is different where the profile does not fit into the memory that the server has for models.
        fallback: FallbackDocument,
    }
}

profile_document! {
    /// What is different from the profile where that does not fit into the memory that the server has for models.
    FallbackDocument {}
}

impl<const MIN: i64, const MAX: i64> From<Whole<MIN, MAX>> for Value {
    fn from(number: Whole<MIN, MAX>) -> Self {
        json!(number.0)
    }
}

/// The table `[models]`: patterns and their profiles, in the order of the keys.
#[derive(Debug, Default)]
pub(crate) struct Profiles(pub(crate) Vec<(Placed<ModelGlob>, ProfileDocument)>);

impl Form for Profiles {
    fn read(value: &DeValue<'_>, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(table) = value.as_table() else {
            reader.refuse(value, place, "a table of profiles: [models.\"llama3.2:*\"]");
            return None;
        };
        let mut profiles = Vec::new();
        for (key, value) in table {
            let place = reader.key_place(place, key.get_ref(), key.span());
            let glob = ModelGlob::from_text(key.get_ref());
            if glob.is_none() {
                reader.refuse(&DeValue::String(key.get_ref().clone()), &place, ModelGlob::ALLOWED);
            }
            let profile = ProfileDocument::read(value.get_ref(), &place, reader);
            if let (Some(value), Some(profile)) = (glob, profile) {
                profiles.push((Placed { value, place }, profile));
            }
        }
        Some(Self(profiles))
    }

    fn schema() -> Value {
        json!({
            "type": "object",
            "propertyNames": { "pattern": ModelGlob::PATTERN },
            "additionalProperties": ProfileDocument::schema(),
        })
    }
}
