//! `completions` and `man`: help for shells and for `man`, made from the command line's types.

use std::{fs, path::Path};

use anyhow::Context;
use clap::CommandFactory as _;
use clap_complete::Shell;

use super::output::{print, print_bytes};
use crate::cli::Cli;

/// The name of the program, as users call it.
const NAME: &str = "postrider";

pub(super) fn completions(shell: Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    print_bytes(&script)
}

pub(super) fn man(dir: &Path) -> anyhow::Result<()> {
    let shown = dir.display();
    fs::create_dir_all(dir).with_context(|| format!("failed to make the folder {shown}"))?;
    let written = clap_mangen::generate_to(Cli::command(), dir);
    written.with_context(|| format!("failed to write the pages into {shown}"))?;
    print(&format!(
        "man pages written; to read one: man {shown}/{NAME}.1\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_and_each_shell_its_completions() {
        let dir = tempfile::tempdir().unwrap();
        clap_mangen::generate_to(Cli::command(), dir.path()).unwrap();
        for page in [
            "postrider.1",
            "postrider-queue-list.1",
            "postrider-config-domain-add.1",
        ] {
            let page = fs::read_to_string(dir.path().join(page)).unwrap();
            assert!(page.contains(".SH SYNOPSIS"), "{page}");
        }
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("quickstart"), "{shell}");
        }
    }
}
