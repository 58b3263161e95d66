//! A new domain and a new account: the check of DNS goes from missing to right while the records
//! are added.

use super::{
    Look, browse,
    page::Page,
    site::{Site, zone},
};
use crate::support::{Setup, dns::Zone, remote::Remote};

/// The address of the server, as others see it.
const OWN: [u8; 4] = [203, 0, 113, 5];
const TABLE: &str = "Records and services of new.test";
const ANNS_PASSWORD: &str = "the password of ann";

/// What the check is about, and what it says.
type Verdict = (String, String);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it needs Chromium"]
async fn the_check_of_a_new_domain_goes_from_missing_to_right() {
    for look in Look::BOTH {
        let remote = Remote::start(|_, _| None).await;
        let served = zone().serve_changing().await;
        let setup = Setup {
            dns: Some(served.address),
            statics: "nat_ips = [\"203.0.113.5\"]\n".to_owned(),
            ..Setup::default()
        };
        let site = Site::facing_with(&remote, setup).await;
        browse(&site.base, look, async |page| {
            page.enter_as_admin().await;
            page.follow("Domains").await;
            page.follow("Add a domain").await;
            page.fill("Domain", "no domain").await;
            page.fill("Account", "ann").await;
            page.fill("First address of a new account", "ann").await;
            page.press("Add the domain").await;
            page.see("no domain").await;
            page.fill("Domain", "new.test").await;
            page.press("Add the domain").await;
            page.see("The domain new.test is added").await;

            // A page with scripts asks DNS by itself.
            if look.without_scripts {
                page.see_in("v=spf1", "not checked").await;
                page.follow("Check now").await;
            }
            for subject in ["SPF", "DKIM", "DMARC", "MX"] {
                expect(page, subject, "missing").await;
            }

            // Somebody adds half of the records, and then the others.
            let records = page.texts("details > pre").await.pop().unwrap();
            served.change(|zone| add(zone, &records, "v=spf1"));
            page.follow("Check again").await;
            expect(page, "SPF", "right").await;
            expect(page, "DKIM", "missing").await;
            served.change(|zone| add(zone, &records, ""));
            page.follow("Check again").await;
            for subject in ["DKIM", "DMARC"] {
                expect(page, subject, "right").await;
            }
            // The record is right, but its host is not there.
            expect(page, "MX", "differs").await;
            page.see("without an address: mail.example.org").await;
            served.change(|zone| zone.address("mail.example.org", OWN.into()));
            page.follow("Check again").await;
            expect(page, "MX", "right").await;
            page.follow("Domains").await;
            page.see_in("new.test", "in use").await;

            add_account(page).await;
        })
        .await;
        browse(&site.account, look, async |page| {
            page.go("/account/").await;
            page.try_password("bob@new.test", ANNS_PASSWORD).await;
            page.see("Log out").await;
        })
        .await;
    }
}

/// Adds an account at the new domain, and gives it a password.
async fn add_account(page: &Page) {
    page.follow("Accounts").await;
    page.follow("Add an account").await;
    page.fill("Name", "bob").await;
    page.fill("First address", "bob@elsewhere.test").await;
    page.press("Add the account").await;
    page.see("elsewhere.test").await;
    page.fill("First address", "bob@new.test").await;
    page.press("Add the account").await;
    page.see("The account bob is added. Next: give it a password.")
        .await;
    page.see("There is no password").await;
    page.fill("New password", ANNS_PASSWORD).await;
    page.fill("The same again", ANNS_PASSWORD).await;
    page.press("Set the password").await;
    page.see("The password is set.").await;
}

/// Waits until all rows about a subject of the domain say this.
async fn expect(page: &Page, subject: &str, said: &str) {
    page.see("Check again").await;
    page.see_in(subject, said).await;
    let rows = page.rows(TABLE).await.into_iter();
    let found: Vec<Verdict> = rows
        .map(|row| (row[0].clone(), row[3].clone()))
        .filter(|(about, _)| about.starts_with(subject) && about.contains("new.test"))
        .collect();
    let all = found.iter().all(|(_, verdict)| verdict == said);
    assert!(!found.is_empty() && all, "{subject}: {found:?}");
}

/// Adds to a zone the records of a zone file whose lines have this part. Only types that the test
/// server knows are added.
pub fn add(zone: Zone, records: &str, part: &str) -> Zone {
    let lines = records.lines().filter(|line| line.contains(part));
    lines.fold(zone, |zone, line| {
        // Records that are needed later are comments.
        let mut words = line.trim_start_matches("; ").splitn(5, ' ');
        let name = words.next().unwrap_or_default().trim_end_matches('.');
        match (words.nth(2), words.next()) {
            (Some("TXT"), Some(content)) => zone.txt(name, &unquoted(content)),
            (Some("MX"), Some(content)) => {
                let (preference, host) = content.split_once(' ').unwrap();
                zone.mx(
                    name,
                    preference.parse().unwrap(),
                    host.trim_end_matches('.'),
                )
            }
            _ => zone,
        }
    })
}

/// The text of a TXT record in a zone file. It may have several pieces.
fn unquoted(content: &str) -> String {
    let pieces = content.split('"').skip(1).step_by(2);
    pieces.collect::<String>().replace('\\', "")
}
