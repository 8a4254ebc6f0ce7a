//! The general forms a value may take: whole numbers in a range, durations, sizes, lists, "unlimited".
//!
//! Owns reading and schema of each form. It does not own forms that belong to one subject (a key's hash: `app`).

use std::time::Duration;

use serde_json::{Value, json};
use toml::de::DeValue;

use super::{Place, Reader, reader, units};

/// A form that a value in a file may take.
pub(crate) trait Form: Sized {
    /// Whether it is written as a table, so that a list of it is written `[[key]]`.
    const TABLE: bool = false;

    /// Reads it; every problem goes to `reader`.
    fn read(value: &DeValue<'_>, place: &Place, reader: &mut Reader<'_>) -> Option<Self>;

    /// Its JSON Schema.
    fn schema() -> Value;
}

/// A form with no parts, so that one sentence says all that is allowed.
pub(crate) trait Scalar: Sized {
    /// Reads it.
    fn parse(value: &DeValue<'_>) -> Option<Self>;

    /// What is allowed, to follow the word "use".
    fn allowed() -> String;

    /// Its JSON Schema.
    fn schema() -> Value;

    /// A refused value as a problem shows it; a form whose values may be secret hides it.
    fn shown(value: &DeValue<'_>) -> String {
        reader::show(value)
    }
}

impl<T: Scalar> Form for T {
    fn read(value: &DeValue<'_>, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        let parsed = T::parse(value);
        if parsed.is_none() {
            reader.refuse_as(T::shown(value), place, &T::allowed());
        }
        parsed
    }

    fn schema() -> Value {
        <T as Scalar>::schema()
    }
}

impl<T: Form> Form for Vec<T> {
    fn read(value: &DeValue<'_>, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        let Some(items) = value.as_array() else {
            let tables = format!("[[{}]], once for each", place.path());
            reader.refuse(value, place, if T::TABLE { &tables } else { "a list: [\"…\", \"…\"]" });
            return None;
        };
        let read = items.iter().enumerate().map(|(n, item)| {
            let place = reader.place(place, &format!("[{n}]"), item.span());
            T::read(item.get_ref(), &place, reader)
        });
        // every item is read, so that every mistake is reported, before one of them spoils the list
        let items: Vec<Option<T>> = read.collect();
        items.into_iter().collect()
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
    }
}

/// One value, or a list of them.
#[derive(Debug)]
pub(crate) struct OneOrMany<T>(pub(crate) Vec<T>);

impl<T: Form> Form for OneOrMany<T> {
    fn read(value: &DeValue<'_>, place: &Place, reader: &mut Reader<'_>) -> Option<Self> {
        if value.is_array() {
            Vec::read(value, place, reader).map(Self)
        } else {
            T::read(value, place, reader).map(|one| Self(vec![one]))
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [T::schema(), Vec::<T>::schema()] })
    }
}

impl Scalar for String {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }

    fn allowed() -> String {
        "a text in quotes".to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

impl Scalar for bool {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }

    fn allowed() -> String {
        "true or false".to_owned()
    }

    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole<const MIN: i64, const MAX: i64>(pub(crate) i64);

impl<const MIN: i64, const MAX: i64> Whole<MIN, MAX> {
    /// The number as an unsigned one; 0 when it is negative.
    pub(crate) fn unsigned(self) -> u64 {
        u64::try_from(self.0).unwrap_or(0)
    }

    /// The number as 32 bits, at most the largest one.
    pub(crate) fn small(self) -> u32 {
        u32::try_from(self.unsigned()).unwrap_or(u32::MAX)
    }
}

impl<const MIN: i64, const MAX: i64> Scalar for Whole<MIN, MAX> {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        integer(value).filter(|number| (MIN..=MAX).contains(number)).map(Self)
    }

    fn allowed() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// A time from `MIN` to `MAX` seconds: a number of seconds, or a text such as `"30s"`, `"2m"`, `"1h30m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span<const MIN: u64, const MAX: u64>(pub(crate) Duration);

impl<const MIN: u64, const MAX: u64> Span<MIN, MAX> {
    /// Keeps a time that lies in the range.
    pub(crate) fn within(time: Duration) -> Option<Self> {
        (Duration::from_secs(MIN)..=Duration::from_secs(MAX)).contains(&time).then_some(Self(time))
    }

    /// Reads it where there are no types (headers, flags, variables): a bare number is a number of seconds.
    pub(crate) fn from_text(text: &str) -> Option<Self> {
        let bare = || text.parse::<f64>().ok().and_then(units::seconds);
        let (negative, time) = units::duration(text).or_else(bare)?;
        Self::within(time).filter(|_| !negative || time.is_zero())
    }
}

impl<const MIN: u64, const MAX: u64> Scalar for Span<MIN, MAX> {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        let (negative, time) = match value.as_str() {
            Some(text) => units::duration(text)?,
            None => units::seconds(number(value)?)?,
        };
        Self::within(time).filter(|_| !negative || time.is_zero())
    }

    fn allowed() -> String {
        let (min, max) = (units::show_seconds(MIN), units::show_seconds(MAX));
        format!("a number of seconds or a time such as \"30s\", \"2m\" or \"1h30m\", from {min} to {max}")
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "number", "minimum": MIN, "maximum": MAX },
            { "type": "string", "pattern": units::DURATION_PATTERN },
        ] })
    }
}

/// A size from `MIN` to `MAX` bytes: a number of bytes, or a text such as `"8MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes<const MIN: u64, const MAX: u64>(pub(crate) u64);

impl<const MIN: u64, const MAX: u64> Bytes<MIN, MAX> {
    /// Keeps a size that lies in the range.
    pub(crate) fn within(size: u64) -> Option<Self> {
        (MIN..=MAX).contains(&size).then_some(Self(size))
    }
}

impl<const MIN: u64, const MAX: u64> Scalar for Bytes<MIN, MAX> {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        Self::within(match value.as_str() {
            Some(text) => units::bytes(text)?,
            None => u64::try_from(integer(value)?).ok()?,
        })
    }

    fn allowed() -> String {
        let (min, max) = (units::show_bytes(MIN), units::show_bytes(MAX));
        format!("a number of bytes or a size such as \"512KiB\" or \"8MiB\", from {min} to {max}")
    }

    fn schema() -> Value {
        json!({ "anyOf": [
            { "type": "integer", "minimum": MIN, "maximum": MAX },
            { "type": "string", "pattern": units::BYTES_PATTERN },
        ] })
    }
}

/// A limit, or the word `"unlimited"` that lifts one inherited from `default.toml`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ceiling<T> {
    /// No limit.
    Unlimited,
    /// At most this.
    At(T),
}

impl<T: Copy> Ceiling<T> {
    /// The limit, where there is one.
    pub(crate) fn limit(self) -> Option<T> {
        match self {
            Self::Unlimited => None,
            Self::At(limit) => Some(limit),
        }
    }
}

impl<T: Scalar> Scalar for Ceiling<T> {
    fn parse(value: &DeValue<'_>) -> Option<Self> {
        if value.as_str() == Some("unlimited") { Some(Self::Unlimited) } else { T::parse(value).map(Self::At) }
    }

    fn allowed() -> String {
        format!("{}, or \"unlimited\"", T::allowed())
    }

    fn schema() -> Value {
        json!({ "anyOf": [<T as Scalar>::schema(), { "const": "unlimited" }] })
    }
}

/// A TOML integer in any radix, where it fits.
pub(crate) fn integer(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A TOML integer or finite float.
pub(crate) fn number(value: &DeValue<'_>) -> Option<f64> {
    let parsed: f64 = match value {
        DeValue::Float(float) => float.as_str().parse().ok()?,
        // exact up to 2^53, far above any range used here
        #[expect(clippy::cast_precision_loss, reason = "ranges are far below 2^53")]
        _ => integer(value)? as f64,
    };
    parsed.is_finite().then_some(parsed)
}

/// The schema of a table with exactly these keys: (name, text, form).
pub(crate) fn object_schema<const N: usize>(about: &str, keys: [(&str, &str, Value); N]) -> Value {
    let properties = keys.into_iter().map(|(key, text, mut form)| {
        if let Some(form) = form.as_object_mut() {
            form.insert("description".to_owned(), json!(text.trim()));
        }
        (key.to_owned(), form)
    });
    let properties: serde_json::Map<String, Value> = properties.collect();
    json!({ "description": about.trim(), "type": "object", "properties": properties, "additionalProperties": false })
}
