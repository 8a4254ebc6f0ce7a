//! A JSON value that satisfies a simple JSON Schema.
//!
//! Knows types, properties, items, enums, constants, bounds, alternatives and local references; everything
//! else of the language is passed over.

use serde_json::{Map, Number, Value};

use super::words::Source;

/// Nesting after which values become null, so that a schema that refers to itself ends.
const DEEPEST: usize = 12;

/// Values made for one schema at most; what is left becomes null.
const MOST: usize = 50_000;

/// A value for `schema`; strings come from `speak`.
pub(super) fn instance(schema: &Value, source: &mut Source, speak: &mut dyn FnMut(&mut Source) -> String) -> Value {
    Maker { root: schema, left: MOST, source, speak }.value(schema, 0)
}

struct Maker<'a> {
    root: &'a Value,
    left: usize,
    source: &'a mut Source,
    speak: &'a mut dyn FnMut(&mut Source) -> String,
}

impl Maker<'_> {
    fn value(&mut self, schema: &Value, depth: usize) -> Value {
        if depth > DEEPEST || self.left == 0 {
            return Value::Null;
        }
        self.left -= 1;
        if let Some(fixed) = schema.get("const") {
            return fixed.clone();
        }
        if let Some(choices) = schema.get("enum").and_then(Value::as_array) {
            return choices.get(self.source.below(choices.len())).cloned().unwrap_or_default();
        }
        if let Some(path) = schema.get("$ref").and_then(Value::as_str) {
            let target = path.strip_prefix('#').and_then(|path| self.root.pointer(path)).cloned();
            return target.map_or(Value::Null, |target| self.value(&target, depth + 1));
        }
        for alternatives in ["anyOf", "oneOf", "allOf"] {
            if let Some(first) = schema.get(alternatives).and_then(|list| list.get(0)) {
                return self.value(first, depth + 1);
            }
        }
        let kind = schema.get("type").map(|kind| kind.get(0).unwrap_or(kind));
        match kind.and_then(Value::as_str) {
            Some("string") => self.text(schema),
            Some("integer") => self.integer(schema),
            Some("number") => self.number(schema),
            Some("boolean") => Value::Bool(self.source.below(2) == 1),
            Some("null") => Value::Null,
            Some("array") => self.list(schema, depth),
            Some("object") => self.object(schema, depth),
            _ if schema.get("properties").is_some() => self.object(schema, depth),
            _ if schema.get("items").is_some() => self.list(schema, depth),
            _ => self.text(schema),
        }
    }

    fn text(&mut self, schema: &Value) -> Value {
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        let mut text = (self.speak)(self.source);
        let shortest = bound("minLength").unwrap_or(0).min(10_000);
        while text.chars().count() < shortest {
            text.push('a');
        }
        if let Some(longest) = bound("maxLength") {
            text = text.chars().take(longest).collect();
        }
        Value::String(text)
    }

    fn integer(&mut self, schema: &Value) -> Value {
        let bound = |key: &str| schema.get(key).and_then(Value::as_i64);
        let low = bound("minimum").or(bound("exclusiveMinimum").map(|low| low.saturating_add(1)));
        let high = bound("maximum").or(bound("exclusiveMaximum").map(|high| high.saturating_sub(1)));
        let wish = i64::try_from(self.source.below(100)).unwrap_or(0);
        wish.max(low.unwrap_or(i64::MIN)).min(high.unwrap_or(i64::MAX)).into()
    }

    fn number(&mut self, schema: &Value) -> Value {
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        let (low, high) = (bound("minimum").unwrap_or(0.0), bound("maximum"));
        let wish = low + 0.5;
        Number::from_f64(high.map_or(wish, |high| wish.min(high))).map_or(Value::Null, Value::Number)
    }

    fn list(&mut self, schema: &Value, depth: usize) -> Value {
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
        let length = bound("minItems").unwrap_or(2).clamp(1, 10_000).min(bound("maxItems").unwrap_or(u64::MAX));
        let text = serde_json::json!({"type": "string"});
        let items = schema.get("items").unwrap_or(&text).clone();
        Value::Array((0..length).map(|_| self.value(&items, depth + 1)).collect())
    }

    fn object(&mut self, schema: &Value, depth: usize) -> Value {
        let mut out = Map::new();
        for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            out.insert(name.clone(), self.value(property, depth + 1));
        }
        Value::Object(out)
    }
}
