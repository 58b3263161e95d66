//! Changes of received messages, and what the junk filters learn from them.

use postrider_receive::junk::{learn, tokens::READ_MAX};
use postrider_store::{Mail, MailChange};

use crate::{call::context::CallContext, error::ApiError, received::SYSTEM_FLAGS};

/// The most flags in a request. A message has at most about twice as many.
pub(crate) const FLAGS_MAX: usize = 100;
/// The most bytes of a keyword.
const FLAG_MAX: usize = 100;
/// The most copies of a message in memory while it is parsed.
const PARSED: u64 = 4;

/// Changes a message. What the change says about the message, the junk filter and rspamd learn.
/// False: the message is gone.
pub(crate) async fn change(
    context: &CallContext,
    mail: &Mail,
    change: MailChange,
) -> Result<bool, ApiError> {
    let config = context.config.load_full();
    let store = &context.store;
    // It was removed since the login.
    let Some(account) = config.accounts.get(&mail.account) else {
        return Ok(store.change_mail(&mail.account, mail.id, change).await?);
    };
    let (limits, now) = (context.statics.limits.mime(), context.clock.now());
    let read = mail.size.min(READ_MAX as u64) * PARSED;
    let _share = context.bounds.memory.take(&mail.account, read).await;
    let news = learn::news(account.into(), mail, &change);
    let changed = learn::change_mail(store, limits, account.into(), mail, change, now).await?;
    if let Some(is_junk) = news.filter(|_| changed) {
        context.hooks.teach(store, &context.clock, mail, is_junk);
    }
    Ok(changed)
}

/// A flag in lower case: a system flag, or a keyword that is an IMAP atom (RFC 9051 §9). The error
/// is a sentence.
pub(crate) fn flag(name: &str) -> Result<String, String> {
    let flag = name.to_lowercase();
    match is_keyword(&flag) || SYSTEM_FLAGS.contains(&flag.as_str()) {
        true => Ok(flag),
        false => Err(format!(
            "{name:?} is no flag: use {}, or a keyword of letters, digits and such",
            SYSTEM_FLAGS.join(" ")
        )),
    }
}

/// Whether a flag is a keyword that is an IMAP atom.
pub(crate) fn is_keyword(flag: &str) -> bool {
    let atom = |c: char| c.is_ascii_graphic() && !"(){%*\"\\]".contains(c);
    (1..=FLAG_MAX).contains(&flag.len()) && flag.chars().all(atom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_system_flags_and_keywords() {
        assert_eq!(flag("\\Seen").unwrap(), "\\seen");
        assert_eq!(flag("$Junk").unwrap(), "$junk");
        assert_eq!(flag("Order-7").unwrap(), "order-7");
        for bad in ["", "\\recent", "a b", "a\"", "(a)", "a]", "\u{e4}", "a\n"] {
            assert!(flag(bad).is_err(), "{bad:?}");
        }
    }
}
