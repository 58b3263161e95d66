//! Both files, read together, so that one run shows the problems of both.

use std::path::Path;

use crate::{dynamics::Dynamic, error::Errors, statics::Static};

/// `postrider.conf` and the `domains.conf` beside it. Each is there, or its problems are.
#[derive(Debug)]
pub struct Loaded {
    /// The static configuration.
    pub statics: Result<Static, Errors>,
    /// The dynamic configuration. If the static configuration has problems, the checks that need
    /// it are left out.
    pub dynamic: Result<Dynamic, Errors>,
}

impl Loaded {
    /// Reads the static file at `conf`, and the dynamic file beside it.
    #[must_use]
    pub fn read(conf: &Path) -> Self {
        let domains = conf.with_file_name("domains.conf");
        match Static::load_as_far(conf) {
            Ok(statics) => Self {
                dynamic: Dynamic::load(domains, &statics),
                statics: Ok(statics),
            },
            Err(failed) => {
                let (errors, incomplete) = *failed;
                Self {
                    dynamic: Dynamic::load(domains, &incomplete),
                    statics: Err(errors),
                }
            }
        }
    }

    /// Both configurations.
    ///
    /// # Errors
    /// All problems of both files.
    pub fn both(self) -> Result<(Static, Dynamic), Errors> {
        match (self.statics, self.dynamic) {
            (Ok(statics), Ok(dynamic)) => Ok((statics, dynamic)),
            (Err(errors), Ok(_)) | (Ok(_), Err(errors)) => Err(errors),
            (Err(one), Err(other)) => Err(one.and(other)),
        }
    }
}
