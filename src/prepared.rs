//! The steps of a start that need rights: descriptors, ports, the change of the user, and the
//! sandbox.
//!
//! Capabilities and the sandbox hold for a thread and for the threads that it makes. So a command
//! prepares the server before it starts the runtime.

use std::{path::PathBuf, time::SystemTime};

use anyhow::Context;
use nix::unistd::geteuid;
use tracing::{error, info, warn};

use crate::{
    acme::Acme,
    descriptors, files, privileges, sandbox,
    server::Options,
    service_manager::GivenSockets,
    services::{self, Bound},
    wrong_clock,
};

/// A server with bound sockets. It has given up root, and nothing runs yet.
pub struct Prepared {
    /// The parts of the server.
    pub(crate) options: Options,
    /// The most connections, as the descriptors allow.
    pub(crate) connections: usize,
    /// The listeners with their sockets.
    pub(crate) bound: Vec<Bound>,
    /// The CAs and the host keys, whose files root alone may be able to read. None: no listener has
    /// ACME.
    pub(crate) acme: Option<Acme>,
}

impl Prepared {
    /// Raises the limit of descriptors, binds the sockets or takes those of the service manager,
    /// and becomes the user of the configuration.
    ///
    /// # Errors
    /// If a port, a certificate, a file or the user can't be used.
    pub fn new(options: Options) -> anyhow::Result<Self> {
        let connections = descriptors::prepare(&options.statics)?;
        // The ports come first: they may need rights that the process gives up before it writes
        // anything.
        let mut given = GivenSockets::take()?;
        let acme = Acme::prepare(&options.statics)?;
        let bound = services::bind_all(&options.statics, acme.as_ref(), &mut given)?;
        given.all_used()?;
        prepare_files(&options, &bound)?;
        Ok(Self {
            options,
            connections,
            bound,
            acme,
        })
    }

    /// Takes the rights from this thread, and from the threads that it makes later, that the server
    /// does not need. A kernel without such means is no error: the log says what is missing.
    ///
    /// # Errors
    /// If the kernel has the means and refuses.
    pub fn confine(&self) -> anyhow::Result<()> {
        let statics = &self.options.statics;
        if !statics.sandbox {
            warn!("sandbox off: the server keeps rights that it does not need");
            return Ok(());
        }
        let mut folders = vec![statics.data_dir.clone()];
        // A rewrite of domains.conf makes a file beside it, and beside the file that a link names.
        let file = &self.options.dynamic_path;
        let behind = std::fs::canonicalize(file).ok();
        for file in std::iter::once(file).chain(&behind) {
            folders.extend(file.parent().map(std::path::Path::to_owned));
        }
        let confined = sandbox::confine_thread(&folders)?;
        sandbox::protect_process()?;
        match &*confined.missing {
            [] => info!("sandbox on"),
            missing => warn!(
                missing = missing.join(", "),
                "sandbox weaker: the kernel lacks parts of it"
            ),
        }
        Ok(())
    }
}

/// Becomes the configured user, and checks the files and folders that the server uses.
fn prepare_files(options: &Options, bound: &[Bound]) -> anyhow::Result<()> {
    let Options {
        statics, dynamic, ..
    } = options;
    let read_again = || std::iter::once(&*options.dynamic_path).chain(dynamic.key_files());
    let certificates = bound.iter().filter_map(Bound::files);
    let certificates = certificates.flat_map(|certificates| certificates.files());
    let of_acme = Acme::files(statics);
    let certificates = certificates.chain(of_acme.iter().map(PathBuf::as_path));
    let others = [Some(&statics.path), statics.admin_password_file.as_ref()];
    let others = others.into_iter().flatten().map(PathBuf::as_path);
    for warning in files::check_folders(read_again().chain(certificates).chain(others))? {
        warn!(reason = %warning, "files not private");
    }
    if privileges::drop_to(&statics.user, &statics.data_dir)? {
        // A file that only root can read would be missed at the next change.
        for file in read_again() {
            std::fs::File::open(file).with_context(|| {
                let (file, user) = (file.display(), &statics.user);
                format!("{file} is read again when it changes, so the user {user} must be able to (chown, chmod)")
            })?;
        }
    } else if geteuid().is_root() && options.local.is_none() {
        warn!("the server stays root: user is empty");
    }
    if let Some(warning) = wrong_clock::warning(&statics.data_dir, SystemTime::now()) {
        error!(reason = %warning, "clock wrong");
    }
    info!(
        file = %options.dynamic_path.display(),
        domains = dynamic.domains.len(),
        accounts = dynamic.accounts.len(),
        "configuration loaded"
    );
    if let Some(mended) = files::private_dir(&statics.data_dir, files::DATA_MARK)?.mended {
        warn!(reason = %mended, "files not private");
    }
    Ok(())
}
