//! The processes under test: the gateway and nginx, and what the system says of them.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// For a child to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Thousands of connections need as many files.
pub(crate) fn raise_file_limit() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

/// The core that the children run on.
pub(crate) struct Pin {
    core: Option<usize>,
    others: CpuSet,
}

impl Pin {
    /// The first core this process may use, if there is another one for the load and `taskset` is there.
    pub(crate) fn choose() -> Self {
        let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let mut cores = (0..CpuSet::count()).filter(|core| all.is_set(*core).unwrap_or(false));
        let first = cores.next();
        let has_taskset = Command::new("taskset").arg("-V").stdout(Stdio::null()).status().is_ok();
        match (first, cores.next()) {
            (Some(core), Some(_)) if has_taskset => {
                let mut others = all;
                others.unset(core).unwrap();
                Self { core: Some(core), others }
            }
            _ => Self { core: None, others: all },
        }
    }

    pub(crate) fn describe(&self) -> String {
        match self.core {
            Some(core) => format!("proxies on core {core} with one worker each, load and upstream on the others"),
            None => "NOT PINNED (one core only, or no taskset): ratios of req/s say little, CPU still counts".into(),
        }
    }

    /// Keeps this process, and the threads it makes, off the children's core.
    pub(crate) fn take_the_others(&self) {
        sched_setaffinity(Pid::from_raw(0), &self.others).unwrap();
    }

    fn command(&self, program: &str) -> Command {
        let mut command = match self.core {
            Some(core) => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core.to_string(), program]);
                command
            }
            None => Command::new(program),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

/// A child that does not outlive the bench.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A gateway with all policy on.
pub(crate) struct Gateway {
    child: Running,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) key: String,
    _folder: TempDir,
}

const POLICY: &str = r#"
models = ["once", "fast", "paced", "stall:*"]
surfaces = ["/api/*", "/v1/*"]
endpoints = ["*"]
class = "interactive"
weight = 2
requests_per_minute = 1000000
burst = 1000000
max_concurrent = 5000
max_queued = 100000
max_wait = "1h"
max_context = 16384
max_output_tokens = 4096
max_body = "256KiB"
"#;

const PROFILES: &str = "[models.\"*\"]\nnum_ctx = 8192\nkeep_alive = \"30m\"\n";

impl Gateway {
    pub(crate) async fn start(upstream: SocketAddr, slots: u32, pin: &Pin) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("policies")).unwrap();
        fs::write(path("policies/bench.toml"), POLICY).unwrap();
        fs::write(path("policies/models.toml"), PROFILES).unwrap();
        fs::write(path("gaucho.toml"), "[limits]\nmax_queued = 100000\n").unwrap();
        let program = env!("CARGO_BIN_EXE_gaucho");
        let made = Command::new(program).args(["key", "create", "bench"]).env("GAUCHO_STATE", path("state")).output();
        let key = String::from_utf8(made.unwrap().stdout).unwrap().trim().to_owned();
        let (address, admin) = (free_address(), free_address());
        let child = pin
            .command(program)
            .args(["serve", "--listen", &address.to_string(), "--admin-listen", &admin.to_string()])
            .args(["--ollama", &format!("http://{upstream}"), "--num-parallel", &slots.to_string()])
            .args([format!("--policies={}", path("policies").display())])
            .args([format!("--config={}", path("gaucho.toml").display())])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("GAUCHO_STATE", path("state"))
            .env("TOKIO_WORKER_THREADS", "1")
            .stderr(fs::File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        let gateway = Self { child: Running(child), address, admin, key, _folder: folder };
        until(|| async { get(admin, "/readyz").await.is_some_and(|page| page.starts_with("HTTP/1.1 200")) }).await;
        gateway
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }

    /// A metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let page = get(self.admin, "/metrics").await?;
        page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

/// A plain reverse proxy.
pub(crate) struct Nginx {
    child: Running,
    pub(crate) address: SocketAddr,
    _folder: TempDir,
}

impl Nginx {
    /// `None` where nginx is not installed.
    pub(crate) async fn start(upstream: SocketAddr, pin: &Pin) -> Option<Self> {
        Command::new("nginx").arg("-v").stderr(Stdio::null()).status().ok()?;
        let folder = tempfile::tempdir().unwrap();
        let address = free_address();
        fs::write(folder.path().join("nginx.conf"), configuration(folder.path(), address, upstream)).unwrap();
        let child = pin
            .command("nginx")
            .args(["-c", &folder.path().join("nginx.conf").display().to_string()])
            .args(["-e", &folder.path().join("error.log").display().to_string()])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self { child: Running(child), address, _folder: folder };
        until(|| async { get(address, "/api/tags").await.is_some() }).await;
        Some(nginx)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.0.id()
    }
}

/// No log, no buffering (answers are streams), kept-alive connections on both sides.
fn configuration(folder: &Path, address: SocketAddr, upstream: SocketAddr) -> String {
    let mut temporary = String::new();
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        writeln!(temporary, "  {kind}_temp_path {}/{kind};", folder.display()).unwrap();
    }
    format!(
        "daemon off; master_process off; worker_processes 1; pid {}/pid;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n  access_log off; keepalive_requests 1000000000; keepalive_timeout 60s; tcp_nodelay on;\n{temporary}\
         \n  upstream ollama {{ server {upstream} max_fails=0; keepalive 128; keepalive_requests 1000000000; }}\n\
         \n  server {{ listen {address} backlog=4096; location / {{ proxy_pass http://ollama; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_buffering off; }} }}\n}}\n",
        folder.display()
    )
}

/// A port that was free a moment ago.
fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Asks again and again until it holds.
pub(crate) async fn until<F: Future<Output = bool>>(holds: impl Fn() -> F) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "what was waited for did not come within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The whole answer as text; `None` when nobody answers.
async fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).await.ok()?;
    Some(page)
}

/// CPU time of all threads of a process, to the nanosecond.
pub(crate) fn cpu(pid: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let nanoseconds = threads.filter_map(|thread| {
        let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Resident memory of a process in bytes.
pub(crate) fn resident(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
