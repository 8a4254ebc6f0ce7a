//! The macro that says a document once: its struct, its reader and its JSON Schema come from the same lines.
//!
//! Owns no key itself. Every field is optional in the file; the doc comment of a field is its text in the schema.

/// Declares a document: `struct Name { /// what it is \n key: Form, … }`. Each key becomes an
/// `Option<Placed<Form>>`; [`Form`](super::Form) is implemented by reading exactly these keys.
macro_rules! document {
    (
        $(#[doc = $about:literal])+
        $vis:vis struct $name:ident {
            $( $(#[doc = $doc:literal])+ $key:ident : $form:ty, )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Default)]
        $vis struct $name {
            $( $(#[doc = $doc])+ pub(crate) $key: Option<$crate::policy::Placed<$form>>, )+
        }

        impl $name {
            const KEYS: &'static [&'static str] = &[$(stringify!($key)),+];
        }

        impl $crate::policy::Form for $name {
            const TABLE: bool = true;

            fn read(
                value: &toml::de::DeValue<'_>,
                place: &$crate::policy::Place,
                reader: &mut $crate::policy::Reader<'_>,
            ) -> Option<Self> {
                let Some(table) = value.as_table() else {
                    reader.refuse(value, place, &format!("a table with the keys {}", Self::KEYS.join(", ")));
                    return None;
                };
                let mut document = Self::default();
                for (key, value) in table {
                    let name = key.get_ref().as_ref();
                    match name {
                        $( stringify!($key) => {
                            let place = reader.key_place(place, name, value.span());
                            document.$key = $crate::policy::Form::read(value.get_ref(), &place, reader);
                        } )+
                        _ => {
                            let place = reader.key_place(place, name, key.span());
                            reader.unknown_key(&place, name, Self::KEYS);
                        }
                    }
                }
                Some(document)
            }

            fn schema() -> serde_json::Value {
                $crate::policy::object_schema(
                    concat!($($about),+),
                    [$((
                        stringify!($key),
                        concat!($($doc),+),
                        <$form as $crate::policy::Form>::schema(),
                    )),+],
                )
            }
        }
    };
}

pub(crate) use document;
