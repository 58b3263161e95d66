//! The shapes of sites before version 2: without what was learnt of each source of ours.

use serde::{Deserialize, Serialize};

use super::{BucketNote, ForgetSite, HaltNote, NoteSites, Op, SetOrder, SiteNote, SiteOrder};
use crate::{
    Time,
    table::value::{Unreadable, exactly},
};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SiteNoteV1 {
    site: String,
    noted: Time,
    halt: Option<HaltNote>,
    deaths: u32,
    blocks: u32,
    cap: Option<(u32, Time)>,
    buckets: Vec<BucketNote>,
}

impl From<SiteNoteV1> for SiteNote {
    fn from(old: SiteNoteV1) -> Self {
        Self {
            site: old.site,
            noted: old.noted,
            halt: old.halt,
            deaths: old.deaths,
            blocks: old.blocks,
            cap: old.cap,
            buckets: old.buckets,
            sources: Vec::new(),
        }
    }
}

#[derive(Serialize, Deserialize)]
enum OpV1 {
    NoteSites {
        learnt: Vec<SiteNoteV1>,
        forget: Vec<String>,
    },
    SetOrder {
        order: SiteOrder,
    },
    ForgetSite {
        site: String,
    },
}

/// Reads an operation of version 1.
pub(super) fn operation(version: u8, bytes: &[u8]) -> Result<Op, Unreadable> {
    if version != 1 {
        return Err(Unreadable::Older(version));
    }
    Ok(match exactly(bytes)? {
        OpV1::NoteSites { learnt, forget } => Op::NoteSites(NoteSites {
            learnt: learnt.into_iter().map(SiteNote::from).collect(),
            forget,
        }),
        OpV1::SetOrder { order } => Op::SetOrder(SetOrder { order }),
        OpV1::ForgetSite { site } => Op::ForgetSite(ForgetSite { site }),
    })
}

#[cfg(test)]
mod tests {
    use super::{super::tests, *};
    use crate::table::value::{Value, append};

    fn old() -> (SiteNoteV1, SiteNote) {
        let note = SiteNote {
            sources: Vec::new(),
            ..tests::note("mx.test", 1)
        };
        let old = SiteNoteV1 {
            site: note.site.clone(),
            noted: note.noted,
            halt: note.halt.clone(),
            deaths: note.deaths,
            blocks: note.blocks,
            cap: note.cap,
            buckets: note.buckets.clone(),
        };
        (old, note)
    }

    #[test]
    fn a_site_of_version_1_is_read() {
        let (old, note) = old();
        let mut bytes = vec![1];
        append(&old, &mut bytes);
        assert_eq!(SiteNote::decode(&bytes), Ok(note));
    }

    #[test]
    fn operations_of_version_1_are_read() {
        let read = |op: &OpV1| {
            let mut bytes = Vec::new();
            append(op, &mut bytes);
            operation(1, &bytes).unwrap()
        };
        let (old, note) = old();
        let noted = OpV1::NoteSites {
            learnt: vec![old],
            forget: vec!["b.test".into()],
        };
        let Op::NoteSites(noted) = read(&noted) else {
            panic!("not a note");
        };
        assert_eq!(noted.learnt, [note]);
        assert_eq!(noted.forget, ["b.test"]);
        let order = tests::order("mx.test");
        let Op::SetOrder(set) = read(&OpV1::SetOrder { order }) else {
            panic!("not an order");
        };
        assert_eq!(set.order, tests::order("mx.test"));
        let site = "mx.test".to_owned();
        let Op::ForgetSite(forget) = read(&OpV1::ForgetSite { site }) else {
            panic!("not forgotten");
        };
        assert_eq!(forget.site, "mx.test");
        assert!(matches!(operation(9, &[]), Err(Unreadable::Older(9))));
    }
}
