//! A stand-in for NVIDIA's management library, built from `tests/fixtures/nvml_stub.c` with the system's C compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A library and the file by which a test says what it shows.
pub(crate) struct Nvml {
    pub(crate) library: PathBuf,
    control: PathBuf,
}

impl Nvml {
    /// Builds one in `folder`; `without` names what it lacks (`MEMORY`, `SHUTDOWN`, `UTILISATION`).
    pub(crate) fn build(folder: &Path, without: &[&str]) -> Self {
        let (library, control) = (folder.join("libnvml-stand-in.so"), folder.join("gpus.txt"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/nvml_stub.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .arg(format!("-DCONTROL=\"{}\"", control.display()));
        cc.args(without.iter().map(|what| format!("-DWITHOUT_{what}")));
        let done = cc.output().expect("the tests need a C compiler named cc");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Self { library, control }
    }

    /// GPUs as (total, free, utilisation in percent, temperature, result of every call about it).
    pub(crate) fn show(&self, gpus: &[(u64, u64, u32, u32, i32)]) {
        let line = |(total, free, busy, heat, result): &(u64, u64, u32, u32, i32)| {
            format!("{total} {free} {busy} {heat} {result}\n")
        };
        let new = self.control.with_extension("new");
        std::fs::write(&new, gpus.iter().map(line).collect::<String>()).unwrap();
        std::fs::rename(new, &self.control).unwrap();
    }

    /// The driver goes away.
    pub(crate) fn vanish(&self) {
        std::fs::remove_file(&self.control).unwrap();
    }
}

/// `NVML_ERROR_GPU_IS_LOST`.
pub(crate) const LOST: i32 = 15;
/// `NVML_ERROR_NOT_SUPPORTED`.
pub(crate) const NOT_SUPPORTED: i32 = 3;
