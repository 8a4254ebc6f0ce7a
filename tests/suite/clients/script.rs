//! A script of a client as a child process: told when to go on, heard line by line, judged by its exit code.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;

/// Longest a script may take between two things that it says; far more than it needs on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// What would send a client elsewhere than to the gateway under test, or with another key.
const STRAYS: [&str; 20] = [
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "OLLAMA_HOST",
    "OLLAMA_API_KEY",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
    "OPENAI_ORG_ID",
    "OPENAI_PROJECT_ID",
    "OPENAI_API_BASE",
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_CUSTOM_HEADERS",
    "OLLAMA_API_BASE",
    "LANGSMITH_TRACING",
    "LANGCHAIN_TRACING_V2",
];

/// What runs scripts: the program, and the folder they are in.
pub(super) struct Runner {
    pub(super) program: PathBuf,
    pub(super) scripts: PathBuf,
}

pub(super) struct Script {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    errors: JoinHandle<String>,
    heard: String,
}

impl Script {
    pub(super) fn start(runner: &Runner, file: &str, part: &str, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(&runner.program);
        command.arg(runner.scripts.join(file)).arg(part).envs(env.iter().copied()).kill_on_drop(true);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        for stray in STRAYS {
            command.env_remove(stray);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let errors = tokio::spawn(all(child.stderr.take().unwrap()));
        Self { input: child.stdin.take().unwrap(), child, output, errors, heard: String::new() }
    }

    /// Waits until the script says this line.
    pub(super) async fn says(mut self, wanted: &str) -> Self {
        loop {
            let line = tokio::time::timeout(PATIENCE, self.output.next_line()).await;
            match line {
                Ok(Ok(Some(line))) if line == wanted => return self,
                Ok(Ok(Some(line))) => self.heard.push_str(&format!("{line}\n")),
                Ok(_) => return self.fails(&format!("it ended before it said `{wanted}`")).await,
                Err(_) => return self.fails(&format!("it did not say `{wanted}` in {PATIENCE:?}")).await,
            }
        }
    }

    /// Tells it to go on.
    pub(super) async fn go(mut self) -> Self {
        if self.input.write_all(b"go\n").await.is_err() {
            return self.fails("it ended and could not go on").await;
        }
        self
    }

    /// Waits until it has ended well.
    pub(super) async fn done(self) {
        let mut script = self.says("done").await;
        match tokio::time::timeout(PATIENCE, script.child.wait()).await {
            Ok(Ok(status)) if status.success() => {}
            ended => script.fails(&format!("it did not end well: {ended:?}")).await,
        }
    }

    async fn fails<T>(mut self, why: &str) -> T {
        let _ = self.child.kill().await;
        let errors = self.errors.await.unwrap();
        panic!("{why}\n--- what it said\n{}--- its errors\n{errors}", self.heard);
    }
}

async fn all(mut from: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}
