//! The `postrider` command. The library has all of it; this file sets up the process and the exit
//! code.

use std::process::ExitCode;

use clap::Parser;
use postrider::{
    cli::Cli,
    command::{self, Usage, visible},
};

/// Under load mimalloc gives a tenth more throughput and takes a tenth less CPU time. The allocator
/// of glibc also keeps the 19 MiB of a password check for each thread that ever checked one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code for a wrong command line, as clap has it.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    // All TLS of this process uses this provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match command::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // An error may quote text of strangers.
            let text = format!("{error:#}");
            eprintln!("postrider: {}", visible::lines(&text));
            match error.is::<Usage>() {
                true => ExitCode::from(WRONG_USAGE),
                false => ExitCode::FAILURE,
            }
        }
    }
}
