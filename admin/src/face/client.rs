//! The control socket, the client's side: calls an operation of the running server, and gives its
//! items as types.

use std::{
    io,
    marker::PhantomData,
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{AnswerLine, RequestLine, SOCKET_NAME};
use crate::{
    AdminError, Code,
    op::{Operation, Single},
};

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No server listens.
    #[error(
        "no server is running here: {path:?} can't be reached ({reason}); start it with \"postrider serve\""
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// The reason.
        reason: io::Error,
    },
    /// This user may not open the socket.
    #[error(
        "{0:?} is for root and the user that the server runs as; run this command as one of them"
    )]
    NotAllowed(PathBuf),
    /// The operation was refused or failed. The text says whether that is the fault of the server.
    #[error("{fault}{0}", fault = fault(.0))]
    Refused(AdminError),
    /// The connection broke, or the answer was not understood.
    #[error("failed to talk to the running server: {0}")]
    Broken(#[from] io::Error),
}

/// The answer to a call of the operation `O`: its items, as they arrive.
pub struct Answer<O> {
    lines: Lines<BufReader<OwnedReadHalf>>,
    /// The server ends the operation when this side closes.
    _write: OwnedWriteHalf,
    operation: PhantomData<fn() -> O>,
}

impl<O: Operation> Answer<O> {
    /// The next item; None when the operation is done.
    ///
    /// # Errors
    /// If the operation fails or the connection breaks.
    pub async fn next(&mut self) -> Result<Option<O::Item>, CallError> {
        let line = self.lines.next_line().await?;
        let line = line.ok_or_else(early_end)?;
        match serde_json::from_str(&line).map_err(io::Error::from)? {
            AnswerLine::Item(item) => Ok(Some(item)),
            AnswerLine::Done(_) => Ok(None),
            AnswerLine::Error(error) => Err(CallError::Refused(error)),
        }
    }
}

/// Calls an operation of the server that uses `data_dir`.
///
/// # Errors
/// If no server runs there, or the connection breaks.
pub async fn call<O: Operation>(data_dir: &Path, operation: &O) -> Result<Answer<O>, CallError> {
    let path = data_dir.join(SOCKET_NAME);
    let stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(reason) if reason.kind() == io::ErrorKind::PermissionDenied => {
            return Err(CallError::NotAllowed(path));
        }
        Err(reason) => return Err(CallError::NotRunning { path, reason }),
    };
    let (read, mut write) = stream.into_split();
    let request = RequestLine {
        operation: O::NAME,
        input: operation,
    };
    let mut bytes = serde_json::to_vec(&request).map_err(io::Error::from)?;
    bytes.push(b'\n');
    write.write_all(&bytes).await?;
    Ok(Answer {
        lines: BufReader::new(read).lines(),
        _write: write,
        operation: PhantomData,
    })
}

/// Calls an operation with one output, and waits for it.
///
/// # Errors
/// If no server runs there, the operation fails, or the connection breaks.
pub async fn ask<S: Single>(data_dir: &Path, operation: &S) -> Result<S::Output, CallError> {
    let mut answer = call(data_dir, operation).await?;
    let output = answer.next().await?;
    let output = output.ok_or_else(early_end)?;
    // Only the last line says that all is done.
    match answer.next().await? {
        None => Ok(output),
        Some(_) => Err(io::Error::from(io::ErrorKind::InvalidData).into()),
    }
}

/// The beginning of a sentence about a failure that the caller did not cause.
const fn fault(error: &AdminError) -> &'static str {
    match error.code {
        Code::NotFound | Code::Conflict | Code::Invalid | Code::Unsupported => "",
        Code::Unavailable => "the server can't do this now: ",
        Code::Internal => "the server failed: ",
    }
}

fn early_end() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_whose_fault_it_is() {
        let check = |error, expected: &str| {
            assert_eq!(CallError::Refused(error).to_string(), expected);
        };
        check(
            AdminError::not_found("there is no key 7"),
            "there is no key 7",
        );
        check(
            AdminError::unavailable("the disk is full"),
            "the server can't do this now: the disk is full",
        );
        check(
            AdminError::internal("damaged data"),
            "the server failed: damaged data",
        );
    }
}
