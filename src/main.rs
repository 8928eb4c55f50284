//! The command line of layerslayer.

use std::process::ExitCode;

mod cli;

fn main() -> ExitCode {
    cli::main()
}
