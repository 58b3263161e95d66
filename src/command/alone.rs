//! Checks that need no server: they ask DNS through the running server, or else in this process.

use std::{io, path::Path, sync::Arc};

use postrider_admin::{
    AdminError,
    face::client::{self, CallError},
    op::{
        Operation,
        checks::Checker,
        dns::{Lookup, LookupItem},
    },
};
use postrider_config::{ResolverConfig, Static};
use postrider_store::{Clock, SystemClock};

use super::{load_static, runtime};
use crate::resolvers::{Resolvers, resolvers};

/// The place where checks run.
pub(super) struct Alone {
    /// None: this machine has no server.
    statics: Option<Static>,
}

/// The parts for checks in this process.
pub(super) struct Parts {
    pub(super) checker: Checker,
    resolvers: Resolvers,
    /// Answers are validated by DNSSEC.
    validates: bool,
}

impl Parts {
    /// Asks one question.
    pub(super) async fn lookup(&self, lookup: Lookup) -> Result<LookupItem, AdminError> {
        let fresh = self.resolvers.fresh.as_ref();
        lookup.ask(fresh, self.validates).await
    }
}

impl Alone {
    /// The place for this configuration. If the file does not exist, there is no server, and the
    /// DNS servers of the system are asked.
    pub(super) fn of(conf: &Path) -> anyhow::Result<Self> {
        let is_missing = matches!(
            std::fs::metadata(conf),
            Err(error) if error.kind() == io::ErrorKind::NotFound
        );
        let statics = match is_missing {
            true => None,
            false => Some(load_static(conf)?),
        };
        Ok(Self { statics })
    }

    /// Runs an operation in the server, if one runs. Otherwise `alone` does the same here. Gives
    /// all items.
    pub(super) fn all<O: Operation>(
        &self,
        operation: O,
        alone: impl AsyncFnOnce(&Parts, O) -> Result<Vec<O::Item>, AdminError>,
    ) -> anyhow::Result<Vec<O::Item>> {
        runtime()?.block_on(async {
            let running = match &self.statics {
                Some(statics) => client::call(&statics.data_dir, &operation).await.map(Some),
                None => Ok(None),
            };
            let answer = match running {
                Ok(answer) => answer,
                // Whoever may not ask the server may ask DNS.
                Err(CallError::NotRunning { .. } | CallError::NotAllowed(_)) => None,
                Err(error) => return Err(error.into()),
            };
            let Some(mut answer) = answer else {
                let found = alone(&self.parts()?, operation).await;
                return found.map_err(|error| CallError::Refused(error).into());
            };
            let mut items = Vec::new();
            while let Some(item) = answer.next().await? {
                items.push(item);
            }
            Ok(items)
        })
    }

    /// The same for an operation with one output.
    pub(super) fn one<O: Operation>(
        &self,
        operation: O,
        alone: impl AsyncFnOnce(&Parts, O) -> Result<O::Item, AdminError>,
    ) -> anyhow::Result<O::Item> {
        let items = self.all(operation, async |parts: &Parts, operation| {
            Ok(vec![alone(parts, operation).await?])
        })?;
        let item = items.into_iter().next();
        item.ok_or_else(|| anyhow::anyhow!("the operation gave no answer"))
    }

    fn parts(&self) -> anyhow::Result<Parts> {
        let system = ResolverConfig::default();
        let statics = self.statics.as_ref();
        let config = statics.map_or(&system, |statics| &statics.resolver);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let resolvers = resolvers(config, &clock, None, &Arc::default())?;
        let sealers = statics.map(|statics| statics.policy.arc_trusted_sealers.clone());
        let hostname = statics.map(|statics| statics.hostname.to_string());
        Ok(Parts {
            checker: Checker {
                resolver: Arc::clone(&resolvers.checks),
                clock,
                trusted: sealers.unwrap_or_default(),
                hostname: hostname.unwrap_or_else(|| "localhost".to_owned()),
            },
            resolvers,
            validates: config.dnssec,
        })
    }
}
