//! The sandbox: the server takes rights from itself that it does not need.
//!
//! | means | effect |
//! |---|---|
//! | capabilities | none is left, unless the server stays root |
//! | no new privileges | no program that it could run gives it rights |
//! | Landlock | it writes below its own folders only, runs no programs, and binds no TCP port |
//! | seccomp | the kernel refuses calls that a mail server never makes |
//! | not dumpable | no other process of the user reads its memory |
//!
//! All but the last hold for a thread and the threads that it makes. An attacker who takes over the
//! server can still read what its user can read, and send mail.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::Context;
use caps::CapSet;
use landlock::{
    ABI, AccessFs, AccessNet, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    path_beneath_rules,
};
use nix::unistd::geteuid;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// The newest version of Landlock whose rights are used. An older kernel enforces those it knows.
const LANDLOCK: ABI = ABI::V5;

/// Calls of the kernel that a mail server never makes. Attackers like them.
const REFUSED: &[libc::c_long] = &[
    // Other programs and processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    // Namespaces and file systems.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    // The kernel itself.
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_syslog,
    libc::SYS_reboot,
    libc::SYS_personality,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // The machine and its clock.
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
];

/// The sandbox as the kernel enforces it.
#[derive(Debug, Default)]
pub struct Confined {
    /// The means that this kernel does not have.
    pub missing: Vec<&'static str>,
}

/// Takes the rights from this thread, and from the threads that it makes later. It may write below
/// these folders only.
///
/// # Errors
/// If the kernel has the means and refuses.
pub fn confine_thread(folders: &[PathBuf]) -> anyhow::Result<Confined> {
    let mut confined = Confined::default();
    if !geteuid().is_root() {
        drop_capabilities()?;
    }
    nix::sys::prctl::set_no_new_privs().context("failed to give up new privileges")?;
    if landlock(folders).context("failed to restrict the files (Landlock)")? {
        confined.missing.push("Landlock");
    }
    if seccomp()? {
        confined.missing.push("seccomp");
    }
    Ok(confined)
}

/// Keeps other processes of the same user from reading the memory of this process.
///
/// # Errors
/// If the kernel refuses.
pub fn protect_process() -> anyhow::Result<()> {
    nix::sys::prctl::set_dumpable(false).context("failed to make the process not dumpable")
}

/// The service manager may have given the capability to bind low ports. They are bound by now.
fn drop_capabilities() -> anyhow::Result<()> {
    for set in [
        CapSet::Ambient,
        CapSet::Inheritable,
        CapSet::Effective,
        CapSet::Permitted,
    ] {
        caps::clear(None, set).with_context(|| format!("failed to drop capabilities ({set:?})"))?;
    }
    Ok(())
}

/// True if the kernel has no Landlock.
fn landlock(folders: &[PathBuf]) -> anyhow::Result<bool> {
    let write = AccessFs::from_write(LANDLOCK);
    let status = Ruleset::default()
        .handle_access(write | AccessFs::Execute)?
        .handle_access(AccessNet::BindTcp)?
        .create()?
        .add_rules(path_beneath_rules(folders, write))?
        // A connection from an address of ours binds to a port that the kernel chooses.
        .add_rule(NetPort::new(0, AccessNet::BindTcp))?
        .restrict_self()?;
    Ok(status.ruleset == RulesetStatus::NotEnforced)
}

/// True if seccomp does not exist for this kernel or processor.
fn seccomp() -> anyhow::Result<bool> {
    let Ok(architecture) = TargetArch::try_from(std::env::consts::ARCH) else {
        return Ok(true);
    };
    let refused = REFUSED.iter().map(|call| (*call, Vec::new()));
    let filter = SeccompFilter::new(
        refused.collect::<BTreeMap<_, _>>(),
        SeccompAction::Allow,
        SeccompAction::Errno(nix::errno::Errno::EPERM as u32),
        architecture,
    );
    let program: BpfProgram = filter
        .and_then(TryInto::try_into)
        .context("failed to make the filter of calls (seccomp)")?;
    match seccompiler::apply_filter(&program) {
        Ok(()) => Ok(false),
        Err(seccompiler::Error::Prctl(error) | seccompiler::Error::Seccomp(error))
            if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) =>
        {
            Ok(true)
        }
        Err(error) => Err(error).context("failed to filter calls of the kernel (seccomp)"),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::ErrorKind, process::Command};

    use super::*;

    #[test]
    fn a_confined_thread_writes_in_its_folders_only_and_runs_nothing() {
        let own = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let (own, other) = (own.path().to_owned(), other.path().to_owned());
        fs::write(other.join("old"), "old").unwrap();
        // The sandbox ends with its thread.
        let thread = std::thread::spawn(move || {
            let confined = confine_thread(&[own.clone(), own.join("none")]).unwrap();
            fs::create_dir(own.join("folder")).unwrap();
            fs::write(own.join("folder/file"), "new").unwrap();
            fs::rename(own.join("folder/file"), own.join("file")).unwrap();
            assert_eq!(fs::read(other.join("old")).unwrap(), b"old");
            if !confined.missing.contains(&"Landlock") {
                for refused in [
                    fs::write(other.join("old"), "new"),
                    fs::write(other.join("new"), "new"),
                    fs::remove_file(other.join("old")),
                    fs::create_dir(other.join("folder")),
                ] {
                    assert_eq!(refused.unwrap_err().kind(), ErrorKind::PermissionDenied);
                }
            }
            if confined.missing.len() < 2 {
                let run = Command::new("/bin/true").status().unwrap_err();
                assert_eq!(run.kind(), ErrorKind::PermissionDenied);
            }
            if !confined.missing.contains(&"seccomp") {
                let refused = nix::unistd::chroot(&own).unwrap_err();
                assert_eq!(refused, nix::errno::Errno::EPERM);
            }
            confined.missing
        });
        println!("missing in this kernel: {:?}", thread.join().unwrap());
    }
}
