//! `ebpf-run CONFIG`

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(ebpf_run::cli::main())
}
