//! The hosts that can't take a message: it is too big for them, or they lack an extension or the
//! TLS that it needs. That is final only if all hosts of the plan lack it.

use std::collections::HashMap;

use postrider_smtp::DeliveryStatus;
use postrider_store::QueueId;

use crate::next_hop::Hop;

/// The hosts of an attempt that can't take messages.
#[derive(Debug, Default)]
pub(super) struct Lacks(HashMap<QueueId, Lack>);

#[derive(Debug)]
struct Lack {
    hosts: Vec<String>,
    /// What the last of them lacks.
    status: DeliveryStatus,
}

impl Lacks {
    /// Notes that a host can't take a message.
    pub(super) fn note(&mut self, id: QueueId, host: &str, status: DeliveryStatus) {
        let lack = self.0.entry(id).or_insert_with(|| Lack {
            hosts: Vec::new(),
            status: status.clone(),
        });
        lack.status = status;
        if !lack.hosts.iter().any(|known| known == host) {
            lack.hosts.push(host.to_owned());
        }
    }

    /// Whether this host can't take the message.
    pub(super) fn has(&self, id: QueueId, host: &str) -> bool {
        let lack = self.0.get(&id);
        lack.is_some_and(|lack| lack.hosts.iter().any(|known| known == host))
    }

    /// What a host lacks for the message. It is permanent if none of the plan's hosts can take the
    /// message. None if no host lacks anything.
    pub(super) fn status(&self, id: QueueId, hops: &[Hop]) -> Option<DeliveryStatus> {
        let lack = self.0.get(&id)?;
        let all = hops.iter().all(|hop| self.has(id, &hop.name));
        let status = lack.status.clone();
        Some(match all {
            true => status,
            false => DeliveryStatus {
                permanent: false,
                enhanced: status.enhanced.map(|code| code.with_class(4)),
                ..status
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use postrider_smtp::{Cause, EnhancedCode};

    use super::*;

    #[test]
    fn a_lack_is_final_when_all_hosts_have_it() {
        let hop = |name: &str| Hop {
            name: name.to_owned(),
            preference: 10,
            port: 25,
        };
        let hops = [hop("a.test"), hop("b.test")];
        let id = QueueId(1);
        let status = DeliveryStatus::permanent(Cause::Local, EnhancedCode::TOO_BIG, "too big");
        let mut lacks = Lacks::default();
        assert_eq!(lacks.status(id, &hops), None);
        for _ in 0..2 {
            lacks.note(id, "a.test", status.clone());
            let found = lacks.status(id, &hops).unwrap();
            assert_eq!(found.to_string(), "4.3.4 too big");
            assert!(!found.permanent);
        }
        lacks.note(id, "b.test", status.clone());
        assert_eq!(lacks.status(id, &hops), Some(status));
        assert!(lacks.has(id, "a.test") && !lacks.has(QueueId(2), "a.test"));
    }
}
