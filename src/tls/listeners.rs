//! The certificates of all listeners together.

use std::{sync::Arc, time::SystemTime};

use postrider_admin::op::certificates::{CertificateFiles, Read};

use super::{Certificates, Loaded};
use crate::{acme::Ends, services::Bound};

/// The certificates of the listeners.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListenerCertificates {
    /// Those in files, with the names of the listeners.
    files: Vec<(String, Arc<Certificates>)>,
    /// Those by ACME.
    acme: Option<Ends>,
}

impl ListenerCertificates {
    pub(crate) fn of(bound: &[Bound], acme: Option<Ends>) -> Self {
        let listeners = bound.iter();
        let certificates = listeners.filter_map(|bound| {
            let certificates = bound.files()?;
            Some((bound.name.clone(), Arc::clone(certificates)))
        });
        Self {
            files: certificates.collect(),
            acme,
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Certificates> {
        self.files.iter().map(|(_, certificates)| &**certificates)
    }
}

/// All are read before one is put into use. So a listener does not change if another one can't.
impl CertificateFiles for ListenerCertificates {
    fn read(&self, check_only: bool) -> Read {
        let now = SystemTime::now();
        let mut read = Read::default();
        let mut all: Vec<(&Certificates, Loaded)> = Vec::new();
        for (listener, certificates) in &self.files {
            let key = |number: usize| format!("listeners.{listener}.tls.certs.{number}");
            match certificates.read() {
                Ok(loaded) => {
                    for (number, warning) in certificates.warnings_of(&loaded, now) {
                        let warnings: &mut String = read.warnings.entry(key(number)).or_default();
                        if !warnings.is_empty() {
                            warnings.push_str("; ");
                        }
                        warnings.push_str(&warning);
                    }
                    all.push((certificates, loaded));
                }
                Err(errors) => {
                    let errors = errors.into_iter();
                    let errors = errors.map(|(number, error)| (key(number), format!("{error:#}")));
                    read.errors.extend(errors);
                }
            }
        }
        if read.errors.is_empty() && !check_only {
            for (certificates, loaded) in all {
                certificates.put(loaded);
            }
        }
        read
    }

    fn ends(&self) -> Vec<(String, i64)> {
        let files = self.iter().flat_map(Certificates::ends);
        let issued = self.acme.iter().flat_map(Ends::all);
        files.chain(issued).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{
        super::{KeyPairFiles, ensure_self_signed},
        *,
    };

    fn listener(dir: &Path, name: &str) -> (KeyPairFiles, Arc<Certificates>) {
        let files = ensure_self_signed(dir, &[format!("{name}.test")]).unwrap();
        let certificates = Certificates::load(vec![files.clone()]).unwrap();
        (files, certificates)
    }

    fn shown(certificates: &Certificates) -> Vec<u8> {
        let loaded = certificates.loaded.load();
        loaded.keys.first().unwrap().cert.first().unwrap().to_vec()
    }

    /// Puts another certificate and its key into the files.
    fn replace(files: &KeyPairFiles) {
        let dir = tempfile::tempdir().unwrap();
        let other = ensure_self_signed(dir.path(), &["other.test".to_owned()]).unwrap();
        fs::copy(other.cert, &files.cert).unwrap();
        fs::copy(other.key, &files.key).unwrap();
    }

    #[test]
    fn all_listeners_change_or_none() {
        let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let (one_files, one) = listener(dirs[0].path(), "one");
        let (two_files, two) = listener(dirs[1].path(), "two");
        let all = ListenerCertificates {
            files: vec![
                ("one".to_owned(), Arc::clone(&one)),
                ("two".to_owned(), Arc::clone(&two)),
            ],
            acme: None,
        };
        let before = (shown(&one), shown(&two));
        replace(&one_files);
        fs::write(&two_files.cert, "no PEM").unwrap();
        let read = all.read(false);
        let keys: Vec<&String> = read.errors.keys().collect();
        assert_eq!(keys, ["listeners.two.tls.certs.0"]);
        let error = read.errors.values().next().unwrap();
        assert!(error.contains("localserve.crt"), "{error}");
        assert_eq!((shown(&one), shown(&two)), before);

        replace(&two_files);
        assert_eq!(all.read(true), Read::default());
        assert_eq!((shown(&one), shown(&two)), before);
        assert_eq!(all.read(false), Read::default());
        assert_ne!(shown(&one), before.0);
        assert_ne!(shown(&two), before.1);
    }

    #[test]
    fn warnings_and_errors_have_the_keys_of_their_files() {
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        let (files, certificates) = listener(dir.path(), "one");
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2026, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(&files.cert, params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        let all = ListenerCertificates {
            files: vec![("mail".to_owned(), certificates)],
            acme: None,
        };
        let [(name, end)] = &all.ends()[..] else {
            panic!("{:?}", all.ends())
        };
        assert!(name == "one.test" && *end > 1_800_000_000, "{name} {end}");
        let read = all.read(true);
        let warning = &read.warnings["listeners.mail.tls.certs.0"];
        assert!(warning.contains("expired at 2026-01-01"), "{warning}");
        assert!(read.errors.is_empty(), "{:?}", read.errors);

        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();
        let read = all.read(true);
        let error = &read.errors["listeners.mail.tls.certs.0"];
        assert!(error.contains("chmod 600 "), "{error}");
        assert!(read.warnings.is_empty(), "{:?}", read.warnings);
    }
}
