//! A single key that signs no more.

use postrider_smtp::Domain;
use serde::{Deserialize, Serialize};

use super::{
    dkim_path,
    rotate::{needed_until, note_end},
};
use crate::{
    AdminError, Context,
    op::{
        Listed as _, Single,
        config::{Edit, document, parse, parse_domain, target},
    },
};

/// Lets a key sign no more, and notes at the key when it may go.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// The domain.
    pub domain: String,
    /// The selector.
    pub selector: String,
}

impl Single for Stop {
    type Output = ();

    async fn answer(self, context: &Context) -> Result<(), AdminError> {
        let target = target(&self.domain);
        let now = context.clock.now();
        let change = move |edit: &mut Edit<'_>| {
            let domain = parse_domain(&self.domain)?;
            let selector = parse(&self.selector, "selector", Domain::parse)?;
            let (settings, _) = edit.domain(&domain)?;
            let dkim = settings.dkim.clone();
            if !dkim.sign.contains(&selector) {
                let text = format!("the key {} does not sign", selector.unicode());
                return Err(AdminError::conflict(text).at("selector"));
            }
            let path = dkim_path(edit, &domain)?;
            let path: Vec<&str> = path.iter().map(String::as_str).chain(["sign"]).collect();
            let is_meant = |name: &str| Domain::parse(name).is_ok_and(|name| name == selector);
            document::change_array(edit.document, &path, |sign| {
                document::remove_elements(sign, |name| name.as_str().is_some_and(is_meant));
            })?;
            let until = needed_until(now, &dkim, edit.statics);
            note_end(edit, &domain, std::slice::from_ref(&selector), now, until)
        };
        context.edit(Self::NAME, &target, change).await?;
        Ok(())
    }
}
