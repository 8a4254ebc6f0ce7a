//! JSON as a list of leaves, with every number and text as it was written and keys in their order.

/// Where a value is (`choices[].delta.content`) and its text. Objects and lists that are empty are leaves.
pub(crate) type Leaf = (String, String);

/// The leaves of one JSON value; `None` when it is none.
pub(crate) fn leaves(text: &str) -> Option<Vec<Leaf>> {
    serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
    let mut reader = Reader { text, at: 0, found: Vec::new() };
    reader.value("");
    Some(reader.found)
}

/// A walk over text that is known to be JSON.
struct Reader<'a> {
    text: &'a str,
    at: usize,
    found: Vec<Leaf>,
}

impl Reader<'_> {
    fn peek(&mut self) -> u8 {
        let bytes = self.text.as_bytes();
        while bytes.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        bytes.get(self.at).copied().unwrap_or_default()
    }

    fn value(&mut self, path: &str) {
        match self.peek() {
            b'{' => self.members(path, b'}'),
            b'[' => self.members(path, b']'),
            _ => {
                let token = self.token();
                self.found.push((path.to_owned(), token));
            }
        }
    }

    fn members(&mut self, path: &str, end: u8) {
        let start = self.at;
        self.at += 1;
        if self.peek() == end {
            self.at += 1;
            self.found.push((path.to_owned(), self.text[start..self.at].to_owned()));
            return;
        }
        loop {
            self.peek();
            if end == b'}' {
                let key = self.token();
                self.peek();
                self.at += 1;
                let key = key.trim_matches('"');
                self.value(&if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") });
            } else {
                self.value(&format!("{path}[]"));
            }
            let last = self.peek() == end;
            self.at += 1;
            if last {
                return;
            }
        }
    }

    fn token(&mut self) -> String {
        let start = self.at;
        let bytes = self.text.as_bytes();
        if bytes[start] == b'"' {
            self.at += 1;
            while bytes[self.at] != b'"' {
                self.at += if bytes[self.at] == b'\\' { 2 } else { 1 };
            }
            self.at += 1;
        } else {
            while bytes.get(self.at).is_some_and(|byte| !b",]} \t\r\n".contains(byte)) {
                self.at += 1;
            }
        }
        self.text[start..self.at].to_owned()
    }
}
