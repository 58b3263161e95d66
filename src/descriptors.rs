//! The limit of open files. Each connection takes one.

use std::io;

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use postrider_config::Static;
use tracing::{info, warn};

/// The files of the store, of which it keeps a bounded number open.
const STORE: u64 = 128;
/// Everything else: the sockets that listen, the control socket and its clients, DNS, logs.
const OTHER: u64 = 128;
/// The fewest connections that a server can work with.
const FEWEST: u64 = 32;

/// The limit of open files is far too low.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may open only {limit} files, and needs at least {needed}; raise the limit: \
     LimitNOFILE=65536 in the systemd unit, --ulimit nofile=65536 for Docker, or ulimit -Hn 65536 \
     as root in the shell that starts it"
)]
pub struct TooFew {
    limit: u64,
    needed: u64,
}

/// Raises the soft limit to the hard one. Gives the number of connections to allow: the configured
/// number, or fewer if the limit does not suffice for them.
///
/// # Errors
/// If the limit is far too low.
pub fn prepare(statics: &Static) -> anyhow::Result<usize> {
    let (before, limit) = raise()?;
    let configured = statics.limits.connections;
    let outgoing = statics.queue.max_concurrency + statics.webhook.max_concurrency;
    let programs = programs(statics);
    let connections = connections(limit, configured, (outgoing, programs))?;
    info!(
        open_files = limit,
        raised_from = before,
        connections,
        "limits of open files and connections"
    );
    if connections < configured {
        warn!(
            open_files = limit,
            connections, configured, "limits.connections lowered: too few open files allowed"
        );
    }
    Ok(connections)
}

/// The connections that a session has to the programs that it asks: one to each milter, and one for
/// the calls over HTTP, which come one after the other.
fn programs(statics: &Static) -> usize {
    let calls = statics.hooks.values().any(|hook| hook.enabled);
    statics.milters.len() + usize::from(calls)
}

/// Gives the soft limit before and after.
fn raise() -> io::Result<(rlim_t, rlim_t)> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft >= hard {
        return Ok((soft, soft));
    }
    match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => Ok((soft, hard)),
        Err(error) => {
            warn!(%error, soft, hard, "limit of open files not raised");
            Ok((soft, soft))
        }
    }
}

/// The number of connections to allow under a limit of open files. `outgoing` is the most
/// deliveries and calls of webhooks at once. They get what they need, but at most half: without a
/// file they wait, and no attempt is lost. Each connection has its own file and those to so many
/// `programs`. One connection in four has a large text.
fn connections(
    limit: u64,
    configured: usize,
    (outgoing, programs): (usize, usize),
) -> Result<usize, TooFew> {
    let shared = limit.saturating_sub(STORE + OTHER);
    let outgoing = (outgoing as u64).min(shared / 2);
    let of_four = 5 + 4 * programs as u64;
    let connections = (shared - outgoing) / of_four * 4;
    if connections < FEWEST {
        return Err(TooFew {
            limit,
            needed: STORE + OTHER + FEWEST / 4 * of_four * 2,
        });
    }
    Ok(usize::try_from(connections).map_or(configured, |most| most.min(configured)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_for_everything_else() {
        for (limit, expected) in [
            (u64::MAX, 20_000),
            (1 << 20, 20_000),
            (25_856, 20_000),
            // Deliveries and calls of webhooks get their 600.
            (10_000, 7312),
            (4096, 2592),
            // They get half.
            (1024, 304),
            (400, 56),
            (336, 32),
        ] {
            let found = connections(limit, 20_000, (600, 0));
            assert_eq!(found, Ok(expected), "{limit}");
        }
        assert_eq!(connections(4096, 100, (600, 0)), Ok(100));
        for (programs, expected) in [(1, 1440), (2, 996), (100, 32)] {
            assert_eq!(connections(4096, 20_000, (600, programs)), Ok(expected));
        }
    }

    #[test]
    fn a_limit_that_is_far_too_low_is_an_error_that_says_what_to_do() {
        let error = connections(300, 20_000, (600, 0)).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("only 300 files"), "{text}");
        assert!(text.contains("LimitNOFILE"), "{text}");
        // The number that it asks for suffices.
        assert_eq!(connections(error.needed, 20_000, (600, 0)), Ok(32));
        assert!(connections(0, 1, (0, 3)).is_err());
    }
}
