//! The `postrider` command. All it does is in the library; here is the way out.

use std::process::ExitCode;

use clap::Parser;
use postrider::{cli::Cli, commands};

/// Worth a tenth of the rate and of the CPU time under load; and glibc's allocator keeps the 19 MiB that each password check
/// takes, once per thread that ever checked one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The default provider is set once, for all that speak TLS in this process.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match commands::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("postrider: {error:#}");
            ExitCode::FAILURE
        }
    }
}
