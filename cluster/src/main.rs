//! The binary `quorate`.

fn main() -> std::process::ExitCode {
    quorate_cluster::run(std::env::args_os()).into()
}
