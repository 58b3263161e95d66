//! The key that signs the links by which recipients unsubscribe, and from which that of tracked
//! links follows.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rand::Rng;

/// The file of the key, in the data folder.
const KEY_FILE: &str = "unsubscribe.key";

/// The key that signs unsubscribe links. Links are valid as long as the key stays the same.
#[derive(Clone)]
pub struct UnsubscribeKey([u8; 32]);

/// Why the key can't be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is too short or too long.
    #[error(
        "{0} must have 32 bytes; without the file a new key is made, and links sent before are void"
    )]
    Length(PathBuf),
    /// The file can't be read.
    #[error("failed to read {0}: {1}")]
    Read(PathBuf, io::Error),
    /// The file can't be made.
    #[error("failed to write {0}: {1}")]
    Write(PathBuf, io::Error),
}

impl UnsubscribeKey {
    /// Reads the key from the data folder. The first start makes it.
    ///
    /// # Errors
    /// If the file is wrong, or can't be read or made.
    pub fn load(data_dir: &Path) -> Result<Self, KeyError> {
        let path = data_dir.join(KEY_FILE);
        match fs::read(&path) {
            Ok(bytes) => match bytes.try_into() {
                Ok(key) => Ok(Self(key)),
                Err(_) => Err(KeyError::Length(path)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut key = [0; 32];
                rand::rng().fill_bytes(&mut key);
                match postrider_config::replace_private(&path, &key) {
                    Ok(()) => Ok(Self(key)),
                    Err(error) => Err(KeyError::Write(path, error)),
                }
            }
            Err(error) => Err(KeyError::Read(path, error)),
        }
    }
}

impl UnsubscribeKey {
    /// The bytes of the key.
    #[must_use]
    pub const fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<[u8; 32]> for UnsubscribeKey {
    fn from(key: [u8; 32]) -> Self {
        Self(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_a_wrong_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let first = UnsubscribeKey::load(folder.path()).unwrap();
        assert_ne!(first.0, [0; 32]);
        assert_eq!(UnsubscribeKey::load(folder.path()).unwrap().0, first.0);
        fs::write(folder.path().join(KEY_FILE), "short").unwrap();
        let error = UnsubscribeKey::load(folder.path()).err().unwrap();
        assert!(error.to_string().contains("32 bytes"), "{error}");
    }
}
