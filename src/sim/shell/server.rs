//! The server: accepts, routes, stops.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::app::App;
use super::control::{Fault, Seen, Tally};
use super::http::{self as wire, Origin, Reply};
use super::watched::{Stuck, Watched};
use super::{embed, manage, talk};
use crate::sim::answer::Route;
use crate::sim::core::RunnerCounts;
use crate::sim::settings::Settings;

/// A running stand-in; dropping it stops it at once.
pub struct Sim {
    addr: SocketAddr,
    pub(super) app: Arc<App>,
}

impl Sim {
    /// Listens and serves in the background until it is dropped.
    ///
    /// # Errors
    /// When a setting is out of its range, or the address cannot be listened on.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        settings.check().map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))?;
        let listener = TcpListener::bind(settings.listen).await?;
        let addr = listener.local_addr()?;
        let app = Arc::new(App::new(settings));
        let (stage, stopped) = (app.stage.clone(), app.stop.clone());
        app.tasks.spawn(async move { stage.run_timers(stopped).await });
        app.tasks.spawn(accept(listener, app.clone()));
        Ok(Self { addr, app })
    }

    /// Where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Closes every connection and waits until all is quiet.
    pub async fn shutdown(self) {
        self.app.stop.cancel();
        self.app.tasks.close();
        self.app.tasks.wait().await;
    }

    /// Upsets the next inference request that no earlier fault takes.
    pub fn inject(&self, fault: Fault) {
        self.app.stage.control.inject(fault);
    }

    /// Every request so far (the last 1,024), oldest first.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.app.stage.control.seen()
    }

    /// Counts of inference requests.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.app.stage.control.tally()
    }

    /// Counts of the runner behind a tag; zeros when it never ran or there is no such tag.
    #[must_use]
    pub fn runner(&self, tag: &str) -> RunnerCounts {
        self.weights(tag).and_then(|weights| self.app.stage.counts().get(weights.as_str()).copied()).unwrap_or_default()
    }

    /// The blob of a tag's weights.
    pub(super) fn weights(&self, tag: &str) -> Option<String> {
        self.app.models().iter().find(|model| model.name == tag).map(|model| model.weights.clone())
    }

    /// Loads so far, of all runners.
    #[must_use]
    pub fn loads(&self) -> u64 {
        self.app.stage.counts().values().map(|counts| counts.loads).sum()
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        self.app.stop.cancel();
    }
}

async fn accept(listener: TcpListener, app: Arc<App>) {
    loop {
        let accepted = tokio::select! {
            () = app.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, _)) => {
                let connection = connection(socket, app.clone());
                let stop = app.stop.clone();
                app.tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = connection => {}
                    }
                });
            }
            // out of descriptors, most likely: let some connections end first
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
        }
    }
}

async fn connection(socket: TcpStream, app: Arc<App>) {
    let _ = socket.set_nodelay(true);
    let (socket, stuck) = Watched::new(socket);
    let service = service_fn(move |request| serve(app.clone(), request, stuck.clone()));
    let mut server = http1::Builder::new();
    // a connection that fails is its client's business
    let _ =
        server.title_case_headers(true).header_read_timeout(None).serve_connection(TokioIo::new(socket), service).await;
}

async fn serve(app: Arc<App>, request: Request<Incoming>, stuck: Stuck) -> io::Result<Reply> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    app.stage.control.saw(Seen {
        method: parts.method.clone(),
        path,
        headers: parts.headers.clone(),
        body: body.clone(),
    });
    let reply = guarded(&app, &parts, body, stuck).await?;
    Ok(wire::finish(reply, app.now()))
}

/// Ollama's gates before any route: doubled slashes, pages from elsewhere, names that are not this host's.
async fn guarded(app: &Arc<App>, parts: &http::request::Parts, body: Bytes, stuck: Stuck) -> io::Result<Reply> {
    let path = parts.uri.path();
    if path.contains("//") {
        let clean = path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
        let location = format!("/{clean}");
        return Ok(wire::redirect(&parts.method, StatusCode::TEMPORARY_REDIRECT, &location));
    }
    let origin = wire::origin(&parts.headers);
    if matches!(origin, Origin::Foreign) {
        return Ok(wire::reply(StatusCode::FORBIDDEN, None, ""));
    }
    if let (Origin::Allowed(value), &Method::OPTIONS) = (&origin, &parts.method) {
        return Ok(wire::preflight(&allowed(path), value.clone()));
    }
    let mut reply = if app.settings.listen.ip().is_loopback() && !wire::host_allowed(&parts.headers) {
        wire::reply(StatusCode::FORBIDDEN, None, "")
    } else {
        route(app, &parts.method, path, &body, stuck).await?
    };
    if let Origin::Allowed(value) = origin {
        wire::allow_origin(&mut reply, value);
    }
    Ok(reply)
}

/// Every route with its methods, as `Allow` lists them.
const ROUTES: [(&str, &str); 13] = [
    ("/", "GET, HEAD"),
    ("/api/version", "GET, HEAD"),
    ("/api/tags", "GET, HEAD"),
    ("/api/ps", "GET"),
    ("/api/show", "POST"),
    ("/api/chat", "POST"),
    ("/api/generate", "POST"),
    ("/api/embed", "POST"),
    ("/api/embeddings", "POST"),
    ("/api/copy", "POST"),
    ("/api/delete", "DELETE"),
    ("/api/pull", "POST"),
    ("/api/create", "POST"),
];

fn allowed(path: &str) -> String {
    ROUTES.iter().find(|(route, _)| *route == path).map(|(_, methods)| (*methods).to_owned()).unwrap_or_default()
}

async fn route(app: &Arc<App>, method: &Method, path: &str, body: &Bytes, stuck: Stuck) -> io::Result<Reply> {
    let methods = allowed(path);
    if methods.is_empty() {
        return Ok(elsewhere(method, path));
    }
    if !methods.split(", ").any(|allowed| allowed == method.as_str()) {
        return Ok(wire::not_allowed(&methods));
    }
    Ok(match path {
        "/" => wire::reply(StatusCode::OK, Some("text/plain; charset=utf-8"), "Ollama is running"),
        "/api/version" => manage::version().into(),
        "/api/tags" => manage::tags(app).into(),
        "/api/ps" => manage::ps(app).await.into(),
        "/api/show" => manage::show(app, body).unwrap_or_else(|refusal| refusal).into(),
        "/api/copy" => manage::copy(app, body).unwrap_or_else(Reply::from),
        "/api/delete" => manage::delete(app, body).unwrap_or_else(Reply::from),
        "/api/chat" => talk::serve(app, Route::Chat, body, stuck).await?,
        "/api/generate" => talk::serve(app, Route::Generate, body, stuck).await?,
        "/api/embed" => embed::serve(app, embed::Route::Embed, body).await?,
        "/api/embeddings" => embed::serve(app, embed::Route::Legacy, body).await?,
        other => manage::absent(other).into(),
    })
}

/// No such route: a slash too many, a route of the real server only, or nothing at all.
fn elsewhere(method: &Method, path: &str) -> Reply {
    if let Some(bare) = path.strip_suffix('/').filter(|bare| !allowed(bare).is_empty()) {
        let get = *method == Method::GET;
        let status = if get { StatusCode::MOVED_PERMANENTLY } else { StatusCode::TEMPORARY_REDIRECT };
        return wire::redirect(method, status, bare);
    }
    let real = ["/v1/", "/api/blobs/", "/api/push", "/api/status", "/api/me", "/api/experimental/"];
    if real.iter().any(|start| path.starts_with(start)) {
        return manage::absent(path).into();
    }
    wire::reply(StatusCode::NOT_FOUND, Some("text/plain"), "404 page not found")
}
