//! The `gaucho` binary.

fn main() -> std::process::ExitCode {
    gaucho::cli::main()
}
