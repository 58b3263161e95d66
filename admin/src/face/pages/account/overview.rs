//! The first page of the holder of an account: what needs attention, what waits, what failed.

use std::{sync::Arc, time::Duration};

use askama::Template;
use jiff::Timestamp;
use postrider_store::WebSessionOwner;

use super::super::{
    answer::{Answer, Trouble},
    asked::Asked,
    frame::Frame,
    owner::Owner,
    second_factor::FEW,
    shown::{Count, Told, When, counted},
};
use crate::op::{
    account_overview::{AccountOverview, Counted, Overview},
    history::RetiredItem,
    keys,
    login_attempts::{self, Whose},
    queue::QueueItem,
    second_factors::{self, Shown},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// A key that ends within this time needs attention.
const ENDING: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// So many wrong logins of a day need attention.
const WRONG: u64 = 10;

#[derive(Template)]
#[template(path = "account/overview.html")]
struct Page {
    frame: Frame,
    owner: Owner,
    notices: Vec<Notice>,
    overview: AccountOverview,
    queued: String,
    calls: String,
    oldest: When,
    waiting: Vec<Waiting>,
    failed: Vec<Failed>,
    factor: Shown,
}

/// What needs attention.
struct Notice {
    text: String,
    /// The page that helps, and its title.
    path: &'static str,
    link: &'static str,
}

struct Waiting {
    message: QueueItem,
    /// Why it waits.
    state: Told,
    next: When,
}

struct Failed {
    message: RetiredItem,
    ended: When,
}

impl Failed {
    /// What the last attempt said.
    fn why(&self) -> &str {
        let last = self.message.results.last();
        last.map_or("", |result| result.text.as_str())
    }
}

/// A count for people. It ends at a number.
fn told(counted: &Counted) -> String {
    let more = if counted.more { "over " } else { "" };
    format!("{more}{}", Count(counted.count))
}

/// The page.
pub(in super::super) async fn show(asked: Arc<Asked>) -> Result<Answer, Trouble> {
    let owner = Owner::of(&asked).await?;
    let account = owner.account.clone();
    let overview = asked.run(Overview { account }).await?;
    let of = WebSessionOwner::Account(owner.account.clone());
    let factor = asked.run(second_factors::Show { of }).await?;
    let mut notices = of_mail(&overview);
    notices.extend(of_factor(&factor));
    notices.extend(of_keys(&asked, &owner).await?);
    notices.extend(of_logins(&asked, &owner).await?);
    let now = asked.now();
    let waiting = |message: QueueItem| Waiting {
        next: When::new(&message.next_attempt, now),
        state: Told::new(&message.state, now),
        message,
    };
    let failed = |message: RetiredItem| Failed {
        ended: When::new(&message.last_activity, now),
        message,
    };
    Answer::page(&Page {
        frame: asked.frame("Overview"),
        owner,
        notices,
        oldest: When::maybe(overview.oldest.as_ref(), now),
        waiting: overview.waiting.iter().cloned().map(waiting).collect(),
        queued: told(&overview.queued),
        calls: told(&overview.calls),
        failed: overview.failed.iter().cloned().map(failed).collect(),
        overview,
        factor,
    })
}

fn of_mail(overview: &AccountOverview) -> Vec<Notice> {
    let mut notices = Vec::new();
    let mut notice = |is_so: bool, text: String, path, link| {
        if is_so {
            notices.push(Notice { text, path, link });
        }
    };
    let held = counted(overview.held, "message is", "messages are");
    notice(
        overview.held > 0,
        format!("{held} held: there are no attempts until the hold ends."),
        "messages",
        "Messages",
    );
    let calls = counted(
        overview.calls_failing,
        "call of a webhook",
        "calls of webhooks",
    );
    notice(
        overview.calls_failing > 0,
        format!("{calls} failed, and will be tried again."),
        "webhooks",
        "Webhooks",
    );
    let (sent, max) = (overview.recipients, overview.max_recipients);
    notice(
        sent.saturating_mul(5) >= max.saturating_mul(4),
        format!(
            "{} of {} recipients of 24 hours are used. Beyond that, messages are refused.",
            Count(sent),
            Count(max)
        ),
        "messages",
        "Messages",
    );
    notices
}

fn of_factor(factor: &Shown) -> Option<Notice> {
    let left = factor.recovery_codes_left;
    (factor.enabled && left <= FEW).then(|| Notice {
        text: format!(
            "{} left. Make new ones before you need them.",
            counted(left as u64, "recovery code is", "recovery codes are")
        ),
        path: "2fa",
        link: "Second factor",
    })
}

/// The keys that end soon, or have ended lately.
async fn of_keys(asked: &Asked, owner: &Owner) -> Result<Vec<Notice>, Trouble> {
    let list = keys::List {
        account: Some(owner.account.clone()),
    };
    let now = asked.now();
    let (from, to) = (
        now.before(ENDING).timestamp(),
        now.after(ENDING).timestamp(),
    );
    let notice = |key: keys::ApiKeyItem| {
        let end: Timestamp = key.expires.as_ref()?.parse().ok()?;
        let is_near = from < end && end < to;
        let told = match end <= now.timestamp() {
            true => "has ended",
            false => "ends soon",
        };
        is_near.then(|| Notice {
            text: format!("The key {:?} {told}.", key.name),
            path: "keys",
            link: "API keys",
        })
    };
    let keys = asked.list(list).await?;
    Ok(keys.into_iter().filter_map(notice).collect())
}

async fn of_logins(asked: &Asked, owner: &Owner) -> Result<Option<Notice>, Trouble> {
    let list = login_attempts::List {
        of: Some(Whose::Account(owner.account.clone())),
        result: Some("wrong".to_owned()),
        since: Some(asked.now().before(DAY)),
        limit: Some(100),
        ..login_attempts::List::default()
    };
    let wrong = asked.list(list).await?;
    let count: u64 = wrong.iter().map(|login| login.count).sum();
    Ok((count >= WRONG).then(|| Notice {
        text: format!("{} wrong logins in the last days.", Count(count)),
        path: "logins",
        link: "Logins",
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_attention_is_told() {
        let texts = |overview: &AccountOverview| {
            let notices = of_mail(overview).into_iter();
            notices.map(|notice| notice.text).collect::<Vec<_>>()
        };
        let mut overview = AccountOverview {
            recipients: 79,
            max_recipients: 100,
            ..AccountOverview::default()
        };
        assert!(texts(&overview).is_empty());
        (overview.recipients, overview.held, overview.calls_failing) = (80, 1, 2);
        let all = texts(&overview);
        assert_eq!(all.len(), 3, "{all:?}");
        assert!(all[0].starts_with("1 message is held"), "{all:?}");
        let factor = |enabled, recovery_codes_left| Shown {
            enabled,
            required: false,
            recovery_codes_left,
        };
        assert!(of_factor(&factor(false, 0)).is_none());
        assert!(of_factor(&factor(true, FEW + 1)).is_none());
        assert!(of_factor(&factor(true, FEW)).is_some());
    }

    #[test]
    fn a_count_says_where_it_ended() {
        let counted = |more| Counted { count: 1200, more };
        assert_eq!(told(&counted(false)), "1\u{202f}200");
        assert_eq!(told(&counted(true)), "over 1\u{202f}200");
    }
}
