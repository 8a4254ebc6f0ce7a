//! Server-sent events, read as the standard says (WHATWG HTML, 9.2.6), in chunks cut anywhere.

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerEvent {
    /// The `event` field; empty where there was none.
    pub name: String,
    /// The `data` lines, joined.
    pub data: String,
}

/// Every event that the chunks carry. Fields other than `event`, `data`, `id` and `retry` fail: we never send any.
pub fn events<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<ServerEvent> {
    let mut reader = Reader::default();
    for chunk in chunks {
        chunk.iter().for_each(|&byte| reader.byte(byte));
    }
    assert!(reader.line.is_empty() && reader.data.is_none(), "the stream ends within an event");
    reader.events
}

#[derive(Default)]
struct Reader {
    line: Vec<u8>,
    after_return: bool,
    name: String,
    data: Option<String>,
    events: Vec<ServerEvent>,
}

impl Reader {
    fn byte(&mut self, byte: u8) {
        let after_return = std::mem::replace(&mut self.after_return, byte == b'\r');
        match byte {
            b'\n' if after_return => {}
            b'\n' | b'\r' => self.end_line(),
            other => self.line.push(other),
        }
    }

    fn end_line(&mut self) {
        let line = String::from_utf8(std::mem::take(&mut self.line)).expect("a line is UTF-8");
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            if let Some(data) = self.data.take() {
                self.events.push(ServerEvent { name, data });
            }
            return;
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            // a comment
            "" | "id" | "retry" => {}
            "event" => self.name = value.to_owned(),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            other => panic!("a field we never send: {other:?}"),
        }
    }
}
