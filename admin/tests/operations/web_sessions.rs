//! Sessions of web pages: what pages do with them, and the operations.

use postrider_admin::{
    face::sessions::{self, Pages, Session},
    op::{
        config::accounts,
        web_sessions::{End, Ended, List},
    },
};
use postrider_store::{Actor, WebSessionOwner};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn app() -> WebSessionOwner {
    WebSessionOwner::Account("app".to_owned())
}

impl Desk {
    async fn begin(&self, owner: WebSessionOwner) -> (String, Session) {
        let login = match owner {
            WebSessionOwner::Admin => "admin",
            WebSessionOwner::Account(_) => "app@example.org",
        };
        let from = Some([192, 0, 2, 1].into());
        let begun = sessions::begin(&self.context, owner, login, from, "Firefox/1").await;
        begun.unwrap()
    }

    async fn find(&self, pages: Pages, cookie: &str) -> Option<Session> {
        let from = Some([192, 0, 2, 2].into());
        let found = sessions::find(&self.context, pages, cookie, from).await;
        found.unwrap()
    }

    async fn has(&self, pages: Pages, cookie: &str) -> bool {
        self.find(pages, cookie).await.is_some()
    }

    fn pass(&self, time: Duration) {
        self.clock.set(self.clock.now().after(time));
    }
}

#[tokio::test]
async fn a_cookie_is_good_for_its_pages_until_it_is_not_used() {
    let desk = Desk::open();
    let (admin, _) = desk.begin(WebSessionOwner::Admin).await;
    let (account, begun) = desk.begin(app()).await;
    assert!(desk.has(Pages::Admin, &admin).await && desk.has(Pages::Account, &account).await);
    assert!(!desk.has(Pages::Account, &admin).await && !desk.has(Pages::Admin, &account).await);
    for wrong in ["", "no cookie", &"A".repeat(43)] {
        assert!(!desk.has(Pages::Admin, wrong).await, "{wrong}");
    }
    let found = desk.find(Pages::Account, &account).await.unwrap();
    assert_eq!((found.id, found.account()), (begun.id, Some("app")));
    assert_eq!(found.token(), begun.token());
    assert!(found.takes(begun.token()) && !found.takes("") && !found.takes(&account));
    let caller = found.caller();
    assert_eq!(caller.actor, Actor::Account);
    assert_eq!(caller.name, "app@example.org");
    assert_eq!(caller.from, Some([192, 0, 2, 2].into()));
    // Each use lets it go on, and a day is the end for the administrator.
    for _ in 0..2 {
        desk.pass(HOUR * 11);
        assert!(desk.has(Pages::Admin, &admin).await);
    }
    desk.pass(HOUR * 2);
    assert!(!desk.has(Pages::Admin, &admin).await);
    // One day has passed.
    for _ in 0..5 {
        desk.pass(DAY * 5);
        assert!(desk.has(Pages::Account, &account).await);
    }
    desk.pass(DAY * 4);
    assert!(!desk.has(Pages::Account, &account).await);
    // Without a use it ends earlier.
    let (admin, _) = desk.begin(WebSessionOwner::Admin).await;
    desk.pass(HOUR * 12);
    assert!(!desk.has(Pages::Admin, &admin).await);
}

#[tokio::test]
async fn a_use_is_noted_once_a_minute() {
    let desk = Desk::open();
    let (cookie, session) = desk.begin(app()).await;
    let noted = async || desk.list(List::default()).await.remove(0);
    let first = noted().await;
    assert_eq!(first.ip, Some([192, 0, 2, 1].into()));
    desk.pass(MINUTE - Duration::from_secs(1));
    assert!(desk.has(Pages::Account, &cookie).await);
    assert_eq!(noted().await, first);
    desk.pass(Duration::from_secs(1));
    assert!(desk.has(Pages::Account, &cookie).await);
    let second = noted().await;
    assert_eq!(second.last_used, desk.clock.now().to_string());
    assert_eq!(second.ip, Some([192, 0, 2, 2].into()));
    assert_eq!(
        (second.id, second.browser.as_str()),
        (session.id, "Firefox/1")
    );
}

#[tokio::test]
async fn a_password_counts_as_just_given_for_a_quarter_of_an_hour() {
    let desk = Desk::open();
    let (cookie, mut session) = desk.begin(WebSessionOwner::Admin).await;
    let is_proven = async || {
        let found = desk.find(Pages::Admin, &cookie).await.unwrap();
        found.is_proven(desk.clock.now())
    };
    desk.pass(MINUTE * 15 - Duration::from_secs(1));
    assert!(is_proven().await);
    desk.pass(Duration::from_secs(1));
    assert!(!is_proven().await);
    sessions::prove(&desk.context, &mut session).await.unwrap();
    assert!(session.is_proven(desk.clock.now()) && is_proven().await);
    sessions::end(&desk.context, &session).await.unwrap();
    assert!(!desk.has(Pages::Admin, &cookie).await);
    let gone = sessions::prove(&desk.context, &mut session).await;
    assert_eq!(gone.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn sessions_are_listed_and_ended() {
    let desk = Desk::open();
    let (admin, own) = desk.begin(WebSessionOwner::Admin).await;
    desk.pass(MINUTE);
    let (first, second) = (desk.begin(app()).await, desk.begin(app()).await);
    let of = |of| List { of };
    let ids = async |list: List| {
        let items = desk.list(list).await;
        items.iter().map(|item| item.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(of(None)).await, [3, 2, 1]);
    assert_eq!(ids(of(Some(app()))).await, [3, 2]);
    let end = |of, id, except| End { of, id, except };
    // Whose it is has to be right.
    let foreign = end(app(), Some(own.id), None);
    desk.refuses(foreign, Code::NotFound, "id").await;
    let nobody = end(WebSessionOwner::Account("none".into()), None, None);
    desk.refuses(nobody, Code::NotFound, "account").await;
    let others = end(app(), None, Some(second.1.id));
    assert_eq!(desk.ask(others).await, Ended { count: 1 });
    assert!(!desk.has(Pages::Account, &first.0).await);
    assert!(desk.has(Pages::Account, &second.0).await);
    let one = end(WebSessionOwner::Admin, Some(own.id), None);
    assert_eq!(desk.ask(one).await, Ended { count: 1 });
    assert!(!desk.has(Pages::Admin, &admin).await);
    desk.pass(DAY * 8);
    assert_eq!(ids(of(None)).await, [0; 0]);
}

#[tokio::test]
async fn new_passwords_and_removed_accounts_end_sessions() {
    let desk = Desk::open();
    let (admin, _) = desk.begin(WebSessionOwner::Admin).await;
    let (account, _) = desk.begin(app()).await;
    let set = passwords::Set {
        account: "app".to_owned(),
        password: "correct horse battery".to_owned(),
    };
    desk.ask(set).await;
    assert!(!desk.has(Pages::Account, &account).await && desk.has(Pages::Admin, &admin).await);
    desk.ask(passwords::AdminSet {}).await;
    assert!(!desk.has(Pages::Admin, &admin).await);

    let new = || WebSessionOwner::Account("new".to_owned());
    let add = accounts::Add {
        account: "new".to_owned(),
        address: "new@example.org".to_owned(),
    };
    desk.ask(add.clone()).await;
    let (cookie, _) = desk.begin(new()).await;
    // A suspended account has no pages, and may have them again.
    let suspend = accounts::Suspend {
        account: "new".to_owned(),
        message: None,
    };
    desk.ask(suspend).await;
    assert!(!desk.has(Pages::Account, &cookie).await);
    let unsuspend = accounts::Unsuspend {
        account: "new".to_owned(),
    };
    desk.ask(unsuspend).await;
    assert!(desk.has(Pages::Account, &cookie).await);
    let remove = accounts::Remove {
        account: "new".to_owned(),
    };
    desk.ask(remove).await;
    assert!(!desk.has(Pages::Account, &cookie).await);
    desk.ask(add).await;
    assert!(!desk.has(Pages::Account, &cookie).await);
}
