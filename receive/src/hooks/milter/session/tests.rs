use futures_util::FutureExt as _;
use postrider_config::HookStage::{self, Auth, Connect, Data, Ehlo, Mail, Rcpt};
use postrider_smtp::{EnhancedCode, ReversePath};

use super::{
    super::{
        super::{
            answer::Change,
            edit::{Edit, NewField},
        },
        code,
        options::ACTIONS,
        support::{World, framed, negotiated, rcpt, shown},
    },
    *,
};

mod any_bytes;
mod refusals;
mod replies;

const SECTION: &str = "From: a\r\nSubject: b\r\n c\r\n";
const BODY: &str = "body\r\n";

/// All bits by which a filter sends no replies.
const SILENT: u32 = 0xd_f080;

const CONTINUE: &[u8] = b"c";

/// A filter with replies to come.
struct Filter {
    session: MilterSession,
    /// What it was told.
    told: Vec<String>,
}

impl Filter {
    /// A filter that may do all, with these bits.
    fn new(protocol: u32) -> Self {
        Self::of(negotiated(6, ACTIONS, protocol))
    }

    fn of(session: MilterSession) -> Self {
        Self {
            session,
            told: Vec::new(),
        }
    }

    /// Asks at a stage, at RCPT about the recipient with this number. The filter sends one packet
    /// at each wait, and all are used.
    fn ask(
        &mut self,
        world: &World,
        (stage, recipient): (HookStage, usize),
        replies: &[&[u8]],
    ) -> Result<Answer, Failure> {
        let asked = world.asked(stage, recipient);
        let refused = None;
        self.question(
            &Question {
                asked: &asked,
                refused,
            },
            replies,
        )
    }

    fn question(&mut self, question: &Question<'_>, replies: &[&[u8]]) -> Result<Answer, Failure> {
        let mut rest = replies.iter();
        let answer = self.run(question, &mut || rest.next().expect("a reply"));
        assert!(answer.is_err() || rest.len() == 0, "{rest:?}");
        answer
    }

    /// Asks at a stage. The filter has nothing against it.
    fn go_on(&mut self, world: &World, (stage, recipient): (HookStage, usize)) {
        let asked = world.asked(stage, recipient);
        let (asked, refused) = (&asked, None);
        let answer = self.run(&Question { asked, refused }, &mut || CONTINUE);
        assert_eq!(answer, Ok(Answer::ACCEPT));
    }

    fn run<'a>(
        &mut self,
        question: &Question<'_>,
        reply: &mut dyn FnMut() -> &'a [u8],
    ) -> Result<Answer, Failure> {
        if let Some(answer) = self.session.decided(question)? {
            return Ok(answer);
        }
        self.session.begin(question)?;
        loop {
            let output = self.session.poll(question)?;
            self.note();
            match output {
                Output::Wait(_) => self.session.receive(&framed(reply())),
                Output::Piece { at, max } => {
                    let draft = question.asked.draft.unwrap();
                    let piece = draft.body.piece(at, max).now_or_never();
                    self.session.give(&piece.unwrap().unwrap());
                }
                Output::Done(answer) => return Ok(answer),
            }
        }
    }

    /// Tells all up to this stage, each without an objection.
    fn up_to(&mut self, world: &World, last: (HookStage, usize)) {
        for step in [(Connect, 0), (Ehlo, 0), (Mail, 0), (Rcpt, 1), (Rcpt, 2)] {
            self.go_on(world, step);
            if step == last {
                break;
            }
        }
        self.letters();
    }

    fn note(&mut self) {
        let sent = self.session.output();
        self.told.extend(shown(&sent));
    }

    /// What the filter was told since the last call.
    fn told(&mut self) -> Vec<String> {
        self.note();
        std::mem::take(&mut self.told)
    }

    /// The letters of the commands since the last call, without macros.
    fn letters(&mut self) -> String {
        let letters = self.told().into_iter().map(|line| line.as_bytes()[0]);
        letters
            .filter(|letter| *letter != b'D')
            .map(char::from)
            .collect()
    }
}

fn world() -> World {
    World::new(SECTION, BODY)
}

/// The macros before CONNECT.
fn of_client() -> String {
    format!(
        "D Cj|mail.test|{{daemon_name}}|mx|{{daemon_addr}}|192.0.2.2|{{daemon_port}}|25|\
         {{client_addr}}|192.0.2.1|{{client_name}}|unknown|{{client_port}}|1025|\
         {{client_ptr}}|unknown|{{client_connections}}|3|v|postrider {}|_|[192.0.2.1]|",
        env!("CARGO_PKG_VERSION")
    )
}

#[test]
fn a_filter_is_told_of_all() {
    let (mut filter, mut world) = (Filter::new(0), world());
    world.log_in();
    let id = "i|000000000000.1|";
    for (step, replies, told) in [
        (
            (Connect, 0),
            1,
            vec![of_client(), "C [192.0.2.1]|4\\x04\\x01192.0.2.1|".into()],
        ),
        (
            (Ehlo, 0),
            1,
            vec![
                "D H{tls_version}|TLSv1.3|{cipher}|TLS_AES_128_GCM_SHA256|{cipher_bits}|128|"
                    .into(),
                "H c.test|".into(),
            ],
        ),
        ((Auth, 0), 0, vec![]),
        (
            (Mail, 0),
            1,
            vec![
                format!(
                    "D M{id}{{auth_type}}|PLAIN|{{auth_authen}}|jane|{{auth_author}}|jane|\
                     {{mail_addr}}|a@s.test|{{mail_host}}|s.test|{{mail_mailer}}|smtp|"
                ),
                "M <a@s.test>|SIZE=9|BODY=8BITMIME|".into(),
            ],
        ),
        (
            (Rcpt, 1),
            1,
            vec![
                format!("D R{id}{{rcpt_addr}}|b@d.test|{{rcpt_host}}|d.test|{{rcpt_mailer}}|smtp|"),
                "R <b@d.test>|".into(),
            ],
        ),
        (
            (Rcpt, 2),
            1,
            vec![
                format!("D R{id}{{rcpt_addr}}|c@d.test|{{rcpt_host}}|d.test|{{rcpt_mailer}}|smtp|"),
                "R <c@d.test>|".into(),
            ],
        ),
        (
            (Data, 0),
            6,
            vec![
                format!("D T{id}"),
                "T".into(),
                format!("D L{id}"),
                "L From|a|".into(),
                format!("D L{id}"),
                "L Subject|b\\n c|".into(),
                format!("D N{id}"),
                "N".into(),
                "B body\\r\\n".into(),
                format!("D E{id}"),
                "E".into(),
            ],
        ),
    ] {
        let answer = filter.ask(&world, step, &vec![CONTINUE; replies]);
        assert_eq!(answer, Ok(Answer::ACCEPT), "{step:?}");
        assert_eq!(filter.told(), told, "{step:?}");
    }
    // The next message of the same client.
    world.client.transaction = 2;
    let answer = filter.ask(&world, (Mail, 0), &[CONTINUE]);
    assert_eq!((answer, filter.letters()), (Ok(Answer::ACCEPT), "M".into()));
    filter.session.abort();
    filter.session.abort();
    filter.session.quit();
    assert_eq!(filter.letters(), "AQ");
}

#[test]
fn a_filter_is_told_only_what_it_wants() {
    let all = "CHMRRTLLNBE";
    for (protocol, told, macros, replies) in [
        (0, all, "CHMRRTLLNE", 11),
        (0x01, "HMRRTLLNBE", "CHMRRTLLNE", 10),
        (0x02, "CMRRTLLNBE", "CHMRRTLLNE", 10),
        (0x04, "CHRRTLLNBE", "CHMRRTLLNE", 10),
        (0x08, "CHMTLLNBE", "CHMRRTLLNE", 9),
        (0x10, "CHMRRTLLNE", "CHMRRTLLNE", 10),
        (0x20, "CHMRRTNBE", "CHMRRTNE", 9),
        (0x40, "CHMRRTLLBE", "CHMRRTLLNE", 10),
        (0x200, "CHMRRLLNBE", "CHMRRTLLNE", 10),
        (0x27f, "E", "CHMRRTNE", 1),
        (0x80, all, "CHMRRTLLNE", 9),
        (0x1000, all, "CHMRRTLLNE", 10),
        (0x2000, all, "CHMRRTLLNE", 10),
        (0x4000, all, "CHMRRTLLNE", 10),
        (0x8000, all, "CHMRRTLLNE", 9),
        (0x1_0000, all, "CHMRRTLLNE", 10),
        (0x4_0000, all, "CHMRRTLLNE", 10),
        (0x8_0000, all, "CHMRRTLLNE", 10),
        (SILENT, all, "CHMRRTLLNE", 1),
        (SILENT | 0x27f, "E", "CHMRRTNE", 1),
    ] {
        let mut world = world();
        world.log_in();
        let mut filter = Filter::new(protocol);
        // All goes in one question, since the filter was asked nothing before.
        let answer = filter.ask(&world, (Data, 0), &vec![CONTINUE; replies]);
        assert_eq!(answer, Ok(Answer::ACCEPT), "0x{protocol:x}");
        let lines = filter.told();
        let letters = |place: usize, is_macro: bool| -> String {
            let lines = lines.iter();
            let lines = lines.filter(|line| line.starts_with('D') == is_macro);
            lines
                .map(|line| char::from(line.as_bytes()[place]))
                .collect()
        };
        assert_eq!(letters(0, false), told, "0x{protocol:x}");
        assert_eq!(letters(2, true), macros, "0x{protocol:x}");
    }
}

#[test]
fn an_old_filter_hears_nothing_of_data() {
    for (version, told) in [(2, "TLLNBE"), (3, "TLLNBE"), (4, "TLLNBE")] {
        let (mut filter, world) = (Filter::of(negotiated(version, 0, 0)), world());
        filter.up_to(&world, (Rcpt, 2));
        let told = match version {
            4.. => told,
            _ => &told[1..],
        };
        let answer = filter.ask(&world, (Data, 0), &vec![CONTINUE; told.len()]);
        assert_eq!(
            (answer, filter.letters().as_str()),
            (Ok(Answer::ACCEPT), told)
        );
    }
}

#[test]
fn the_body_goes_in_chunks_of_the_agreed_size() {
    let body = "x".repeat(2 * 1024 * 1024);
    let world = World::new("", &body);
    for (protocol, chunks) in [(0, 33), (0x1000_0000, 8), (0x3000_0000, 2)] {
        let mut filter = Filter::new(protocol | SILENT);
        filter.ask(&world, (Data, 0), &[CONTINUE]).unwrap();
        let lines = filter.told();
        let sent = lines.iter().filter(|line| line.starts_with('B'));
        let sizes: Vec<usize> = sent.map(|line| line.len() - 2).collect();
        assert_eq!((sizes.len(), sizes.iter().sum()), (chunks, body.len()));
    }
}

#[test]
fn a_filter_may_skip_the_rest_of_the_body() {
    let world = World::new("", &"x".repeat(200_000));
    let mut filter = Filter::new(0x400);
    filter.up_to(&world, (Rcpt, 2));
    let replies: [&[u8]; 5] = [b"c", b"c", b"c", b"s", b"c"];
    let answer = filter.ask(&world, (Data, 0), &replies);
    assert_eq!(answer, Ok(Answer::ACCEPT));
    assert_eq!(filter.letters(), "TNBBE");
    // The next message is whole again.
    filter.ask(&world, (Mail, 0), &[CONTINUE]).unwrap();
    filter.ask(&world, (Data, 0), &[CONTINUE; 7]).unwrap();
    assert_eq!(filter.letters(), "MTNBBBBE");
}

#[test]
fn lines_that_are_no_fields_are_left_out() {
    let world = World::new("A: b\r\nno field\r\nC: d\r\n", "");
    let mut filter = Filter::new(SILENT);
    filter.ask(&world, (Data, 0), &[CONTINUE]).unwrap();
    let told = filter.told();
    let fields: Vec<_> = told.iter().filter(|line| line.starts_with("L ")).collect();
    assert_eq!(fields, ["L A|b|", "L C|d|"]);
    assert_eq!(told.last().unwrap(), "E");
}

#[test]
fn a_filter_may_be_asked_from_any_stage_on() {
    for (steps, told) in [
        (vec![(Ehlo, 0)], "CH"),
        (vec![(Mail, 0)], "CHM"),
        (vec![(Rcpt, 1)], "CHMR"),
        (vec![(Rcpt, 2)], "CHMRR"),
        (vec![(Data, 0)], "CHMRRTLLNBE"),
        (vec![(Connect, 0), (Mail, 0)], "CHM"),
        (vec![(Mail, 0), (Rcpt, 1), (Rcpt, 2)], "CHMRR"),
        (vec![(Rcpt, 1), (Data, 0)], "CHMRTLLNBE"),
        (vec![(Ehlo, 0), (Ehlo, 0), (Mail, 0)], "CHHM"),
        // The filter forgets a message whose transaction is over.
        (vec![(Mail, 0), (Ehlo, 0)], "CHMAH"),
        (vec![(Mail, 0), (Mail, 0)], "CHMAM"),
        (vec![(Data, 0), (Mail, 0)], "CHMRRTLLNBEM"),
        (vec![(Data, 0), (Data, 0)], "CHMRRTLLNBEMRRTLLNBE"),
        (vec![(Connect, 0), (Connect, 0)], "C"),
    ] {
        let (mut filter, world) = (Filter::new(0), world());
        for step in &steps {
            filter.go_on(&world, *step);
        }
        assert_eq!(filter.letters(), told, "{steps:?}");
    }
}

#[test]
fn another_ehlo_is_told_before_the_next_message() {
    let (mut filter, mut world) = (Filter::new(0), world());
    filter.up_to(&world, (Mail, 0));
    filter.go_on(&world, (Mail, 0));
    assert_eq!(filter.letters(), "AM");
    // Nobody asked the filter about the EHLO under TLS.
    world.log_in();
    filter.go_on(&world, (Mail, 0));
    world.helo = Some("other.test".into());
    filter.go_on(&world, (Mail, 0));
    assert_eq!(filter.letters(), "AHMAHM");
}

#[test]
fn another_transaction_is_another_message() {
    let (mut filter, mut world) = (Filter::new(0), world());
    filter.up_to(&world, (Rcpt, 1));
    world.client.transaction = 2;
    world.mail.reverse_path = ReversePath::Null;
    let answer = filter.ask(&world, (Rcpt, 1), &[CONTINUE; 2]);
    assert_eq!(
        (answer, filter.letters()),
        (Ok(Answer::ACCEPT), "AMR".into())
    );
}

#[test]
fn the_filter_hears_of_the_message_as_others_have_changed_it() {
    let (mut filter, mut world) = (Filter::new(SILENT), world());
    world.draft.mail.reverse_path = ReversePath::Null;
    world.draft.recipients = vec![rcpt("n@d.test")];
    filter.ask(&world, (Data, 0), &[CONTINUE]).unwrap();
    let told = filter.told();
    let envelope = told.iter().filter(|line| line.starts_with(['M', 'R']));
    let expected = ["M <>|SIZE=9|BODY=8BITMIME|", "R <n@d.test>|"];
    assert_eq!(envelope.collect::<Vec<_>>(), expected);
}
