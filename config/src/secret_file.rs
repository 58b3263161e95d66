//! Reading files with secret keys. All programs of the workspace read them through this module.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use zeroize::Zeroizing;

/// The most bytes of a file with a key. A key has some thousand bytes, and a wrong path may lead to
/// a file of any size.
const LARGEST: u64 = 1 << 20;

/// The permissions of users who are neither the owner nor in the group.
const OTHERS: u32 = 0o007;

/// The reasons not to take a secret from a file. Each text follows the name of the file.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// Nothing has this name.
    #[error("cannot be read: {0}")]
    Missing(#[source] io::Error),
    /// The program may not read the file.
    #[error("cannot be read: {0}; let the server's user read it")]
    Denied(#[source] io::Error),
    /// The file can't be read for another reason.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// Users who have nothing to do with the server could have read or changed the key.
    #[error(
        "is open to every user of this machine (mode {mode:04o}), so its key may be known: make a \
         new key, or chmod 600 {file}"
    )]
    Open {
        /// The permissions of the file.
        mode: u32,
        /// The file.
        file: String,
    },
    /// It is much larger than a key.
    #[error("is too large for a key file")]
    TooLarge,
}

impl From<io::Error> for SecretFileError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing(error),
            io::ErrorKind::PermissionDenied => Self::Denied(error),
            _ => Self::Unreadable(error),
        }
    }
}

/// Reads a file with a secret key. A file that other users may read, write or execute is refused,
/// and so is one of more than 1 MiB. The group may have access: some systems let a group of servers
/// share keys.
///
/// # Errors
/// If the file can't be read, or is refused.
pub fn read_secret_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, SecretFileError> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    let mode = metadata.mode() & 0o7777;
    if metadata.is_file() && mode & OTHERS != 0 {
        let file = path.display().to_string();
        return Err(SecretFileError::Open { mode, file });
    }
    // One allocation of the right size leaves no copy of the secret behind.
    let size = metadata.len().min(LARGEST).saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(size).unwrap_or(0)));
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(SecretFileError::TooLarge);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::PermissionsExt as _,
    };

    use super::*;

    fn read(mode: u32, contents: &[u8]) -> Result<Vec<u8>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let read = read_secret_file(&path).map(|bytes| bytes.to_vec());
        let folder = format!("{}/", dir.path().display());
        read.map_err(|error| error.to_string().replace(&folder, ""))
    }

    #[test]
    fn a_key_that_every_user_can_open_is_refused() {
        for mode in [0o400, 0o600, 0o640, 0o660, 0o750] {
            assert_eq!(read(mode, b"secret").as_deref(), Ok(&b"secret"[..]));
        }
        for mode in [0o644, 0o604, 0o602, 0o601, 0o666] {
            let error = read(mode, b"secret").unwrap_err();
            let expected = format!(
                "is open to every user of this machine (mode {mode:04o}), so its key may be known: \
                 make a new key, or chmod 600 key"
            );
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn only_a_file_of_the_size_of_keys_is_read() {
        let largest = usize::try_from(LARGEST).unwrap();
        assert_eq!(read(0o600, &vec![b'a'; largest]).unwrap().len(), largest);
        let error = read(0o600, &vec![b'a'; largest + 1]).unwrap_err();
        assert_eq!(error, "is too large for a key file");
        let error = |path: &str| read_secret_file(Path::new(path)).unwrap_err().to_string();
        assert_eq!(error("/dev/zero"), "is too large for a key file");
        let missing = "cannot be read: No such file or directory (os error 2)";
        assert_eq!(error("/nonexistent/key"), missing);
        assert_eq!(error("/"), "cannot be read: Is a directory (os error 21)");
    }
}
