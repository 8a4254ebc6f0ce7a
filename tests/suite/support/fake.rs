//! An upstream that says exactly the bytes it was told to, for what a well-made server never does.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// What an inference request is answered with.
#[derive(Debug, Clone)]
pub(crate) struct Act {
    /// The bytes, status line and all.
    pub(crate) bytes: Vec<u8>,
    /// Whether the connection then stays open, silent, until the client goes.
    pub(crate) hold: bool,
}

#[derive(Default)]
struct Notebook {
    acts: VecDeque<Act>,
    said: usize,
    left: usize,
    /// Answers of other routes, until further notice.
    control: HashMap<String, Act>,
    /// Requests by path.
    asked: HashMap<String, usize>,
    /// The body of the last request by path.
    bodies: HashMap<String, String>,
    /// `/api/show` requests that are open, and the most that ever were.
    shows: (usize, usize),
    /// Requests for one token, and whether they are left without an answer.
    probes: usize,
    deaf: bool,
    /// Ends what is held on routes that are not for inference.
    release: Arc<Notify>,
}

/// A running fake; its only model is `fake:latest`, beside two names that stand for models elsewhere.
pub(crate) struct Fake {
    addr: SocketAddr,
    book: Arc<Mutex<Notebook>>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    pub(crate) async fn start_at(addr: &str) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let book = Arc::new(Mutex::new(Notebook::default()));
        let shared = Arc::clone(&book);
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                open.spawn(serve(socket, Arc::clone(&shared)));
            }
        });
        Self { addr, book, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Answers the next inference request, after those already told, with `bytes`, and then closes or holds.
    pub(crate) fn next(&self, bytes: impl Into<Vec<u8>>, hold: bool) {
        self.book.lock().unwrap().acts.push_back(Act { bytes: bytes.into(), hold });
    }

    /// Answers a route that is not for inference with this body from now on; then closes, or holds.
    pub(crate) fn always(&self, path: &str, body: &str, hold: bool) {
        let act = Act { bytes: if hold { Vec::new() } else { reply("200 OK", body).into() }, hold };
        self.book.lock().unwrap().control.insert(path.to_owned(), act);
    }

    /// Answers the route as it did at first, those requests too that it holds.
    pub(crate) fn as_before(&self, path: &str) {
        let mut book = self.book.lock().unwrap();
        book.control.remove(path);
        book.release.notify_waiters();
    }

    /// Whether requests for one token hang.
    pub(crate) fn deaf(&self, deaf: bool) {
        self.book.lock().unwrap().deaf = deaf;
    }

    /// Requests for one token so far.
    pub(crate) fn probes(&self) -> usize {
        self.book.lock().unwrap().probes
    }

    /// Requests for a path so far.
    pub(crate) fn asked(&self, path: &str) -> usize {
        self.book.lock().unwrap().asked.get(path).copied().unwrap_or(0)
    }

    /// The body of the last request for a path.
    pub(crate) fn last(&self, path: &str) -> String {
        self.book.lock().unwrap().bodies.get(path).cloned().unwrap_or_default()
    }

    /// The most `/api/show` requests that were open at once.
    pub(crate) fn most_shows(&self) -> usize {
        self.book.lock().unwrap().shows.1
    }

    /// Acts said to their last byte.
    pub(crate) fn said(&self) -> usize {
        self.book.lock().unwrap().said
    }

    /// Clients that went while an act held the connection.
    pub(crate) fn left(&self) -> usize {
        self.book.lock().unwrap().left
    }

    /// Closes the door and every connection: whoever calls now is refused.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

/// A reply with this body and a fitting length.
pub(crate) fn reply(status: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// The head of a stream.
pub(crate) const STREAM: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";

/// One chunk of a stream.
pub(crate) fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// An object of an answer on either text route.
pub(crate) fn piece(text: &str, done: bool) -> String {
    let end = if done { ",\"done\":true,\"done_reason\":\"stop\",\"eval_count\":1" } else { ",\"done\":false" };
    format!(
        "{{\"model\":\"fake:latest\",\"created_at\":\"2026-11-23T06:28:50.1Z\",\"response\":\"{text}\",\
         \"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}}{end}}}\n"
    )
}

/// A good answer, streamed or not.
fn good(stream: bool) -> String {
    if stream {
        format!("{STREAM}{}{}0\r\n\r\n", chunk(&piece("ok", false)), chunk(&piece("", true)))
    } else {
        reply("200 OK", &piece("ok", true))
    }
}

async fn serve(socket: TcpStream, book: Arc<Mutex<Notebook>>) {
    let mut socket = BufReader::new(socket);
    while let Some((_, path, body)) = request(&mut socket).await {
        *book.lock().unwrap().asked.entry(path.clone()).or_default() += 1;
        book.lock().unwrap().bodies.insert(path.clone(), body.clone());
        // a request without prompt or messages only loads; one for one token is a probe
        let loads = !body.contains("\"prompt\"") && !body.contains("\"messages\"");
        let probes = body.contains("\"prompt\":\"a\"") && body.contains("\"num_predict\":1,");
        let infers = matches!(path.as_str(), "/api/chat" | "/api/generate") && !loads;
        let act = if infers && !probes {
            let told = book.lock().unwrap().acts.pop_front();
            Some(told.unwrap_or_else(|| Act { bytes: good(body.contains("\"stream\":true")).into(), hold: false }))
        } else {
            None
        };
        let other = if probes { probe(&book) } else { book.lock().unwrap().control.get(&path).cloned() };
        let _open = (path == "/api/show").then(|| Show::open(&book));
        let answer = match (&act, &other) {
            (Some(act), _) | (None, Some(act)) => act.bytes.clone(),
            (None, None) => control(&path).into_bytes(),
        };
        if socket.write_all(&answer).await.is_err() {
            return;
        }
        if other.is_some_and(|other| other.hold) {
            let release = Arc::clone(&book.lock().unwrap().release);
            tokio::select! {
                _ = socket.fill_buf() => return,
                () = release.notified() => {}
            }
            if socket.write_all(control(&path).as_bytes()).await.is_err() {
                return;
            }
        }
        let Some(act) = act else { continue };
        book.lock().unwrap().said += 1;
        if act.hold {
            // the client's end of file, or its reset
            let _ = socket.read(&mut [0; 16]).await;
            book.lock().unwrap().left += 1;
        }
        return;
    }
}

/// The answer to a request for one token.
fn probe(book: &Mutex<Notebook>) -> Option<Act> {
    let mut book = book.lock().unwrap();
    book.probes += 1;
    let bytes = if book.deaf { Vec::new() } else { good(false).into() };
    Some(Act { bytes, hold: book.deaf })
}

/// A `/api/show` request while it is open.
struct Show(Arc<Mutex<Notebook>>);

impl Show {
    fn open(book: &Arc<Mutex<Notebook>>) -> Self {
        let mut open = book.lock().unwrap();
        open.shows.0 += 1;
        open.shows.1 = open.shows.1.max(open.shows.0);
        Self(Arc::clone(book))
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        self.0.lock().unwrap().shows.0 -= 1;
    }
}

fn control(path: &str) -> String {
    let body = match path {
        "/api/version" => "{\"version\":\"0.32.15\"}",
        "/api/tags" => {
            "{\"models\":[{\"name\":\"fake:latest\",\"model\":\"fake:latest\",\"digest\":\"00\",\"size\":1,\
             \"modified_at\":\"2026-11-23T06:28:50Z\",\"details\":{\"format\":\"gguf\",\"family\":\"fake\"},\
             \"capabilities\":[\"completion\"]},\
             {\"name\":\"away:latest\",\"model\":\"away:latest\",\"digest\":\"01\",\"size\":1,\
             \"remote_host\":\"https://ollama.com\",\"remote_model\":\"large\"},\
             {\"name\":\"big:120b-cloud\",\"model\":\"big:120b-cloud\",\"digest\":\"02\",\"size\":1}]}"
        }
        "/api/ps" => {
            "{\"models\":[{\"name\":\"fake:latest\",\"model\":\"fake:latest\",\"digest\":\"00\",\"size\":1,\
             \"size_vram\":1,\"context_length\":4096}]}"
        }
        "/api/generate" => "{\"model\":\"fake:latest\",\"response\":\"\",\"done\":true,\"done_reason\":\"load\"}",
        "/api/show" => "{\"modelfile\":\"FROM /blobs/sha256-00\\n\",\"parameters\":\"\"}",
        _ => "{\"models\":[]}",
    };
    reply("200 OK", body)
}

/// Method, path and body of the next request on the connection.
pub(crate) async fn request(socket: &mut BufReader<TcpStream>) -> Option<(String, String, String)> {
    let (mut first, mut length) = (None, 0);
    loop {
        let mut line = String::new();
        if socket.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        if first.is_none() {
            let mut words = line.split(' ').map(str::to_owned);
            first = Some((words.next()?, words.next()?));
        } else if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    let (method, path) = first?;
    Some((method, path, String::from_utf8_lossy(&body).into_owned()))
}
