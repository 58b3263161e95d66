//! The keys of `hooks.<name>` and `milters.<name>` in `postrider.conf`.

use crate::{
    hooks::{HookBody, HookError, HookKind, HookQuarantine, HookStage},
    schema::{
        Default::{Absent, Required, Value},
        Key,
        Kind::{
            Bool, DomainPattern, Duration, Integer, List, Map, Network, Path, Size, Text, Url, Word,
        },
        Section, key,
    },
};

pub(crate) const HOOKS: Section = Section {
    title: "`hooks.<name>`",
    intro: "A program that is asked over HTTP what to do with mail that comes in. Hooks are asked \
        one after the other, in the order of their names. A hook is asked if all its conditions \
        (listeners, authenticated, remote, sender_domains, recipient_domains) hold.",
    keys: &[HOOK, &HOOK_BREAKER, &HOOK_CONDITIONS],
};

pub(crate) const MILTERS: Section = Section {
    title: "`milters.<name>`",
    intro: "A mail filter that speaks the milter protocol of Sendmail and Postfix. Milters are \
        asked before hooks, in the order of their names, if all their conditions hold.",
    keys: &[MILTER, &MILTER_BREAKER, &MILTER_CONDITIONS],
};

const ERRORS: crate::schema::Kind = Word(HookError::WORDS);

static HOOK: &[Key] = &[
    key("hooks.<name>.url", Url, Required, "The URL that is called."),
    key(
        "hooks.<name>.enabled",
        Bool,
        Value("true"),
        "Whether the hook is asked.",
    ),
    key(
        "hooks.<name>.kind",
        Word(HookKind::WORDS),
        Value("\"stage\""),
        "The protocol: \"stage\" for JSON about a stage of the session, \"rspamd\" for that of \
            rspamd, which is asked at the stage data only.",
    ),
    key(
        "hooks.<name>.stages",
        List(&Word(HookStage::WORDS)),
        Value("[\"data\"]"),
        "The stages of a session at which the hook is asked.",
    ),
    key(
        "hooks.<name>.timeout",
        Duration,
        Value("\"30s\""),
        "The time limit of a call, with all its tries.",
    )
    .range("\"100ms\"", "\"4m\""),
    key(
        "hooks.<name>.max_response_size",
        Size,
        Value("\"50MiB\""),
        "The largest answer.",
    )
    .range("\"1KiB\"", "\"2GiB\""),
    key(
        "hooks.<name>.body",
        Word(HookBody::WORDS),
        Value("\"text\""),
        "Whether a call at the stage data has the body of the message.",
    ),
    key(
        "hooks.<name>.raw_base64",
        Bool,
        Value("false"),
        "Also send the whole message in base64. It keeps bytes that are not UTF-8.",
    ),
    key(
        "hooks.<name>.auth.username",
        Text,
        Absent("none"),
        "The user name for HTTP basic authentication. It needs password_file.",
    ),
    key(
        "hooks.<name>.auth.password_file",
        Path,
        Absent("none"),
        "The file with the password for HTTP basic authentication, as its first line.",
    ),
    key(
        "hooks.<name>.auth.bearer_file",
        Path,
        Absent("none"),
        "The file with a bearer token, as its first line. Set either this or username.",
    ),
    key(
        "hooks.<name>.headers",
        Map(&Text),
        Value("{}"),
        "Header fields that are added to each call.",
    )
    .secret(),
    key(
        "hooks.<name>.on_error",
        ERRORS,
        Absent("tempfail; accept for the kind rspamd"),
        "What becomes of the mail if a call fails.",
    ),
    key(
        "hooks.<name>.on_unavailable",
        ERRORS,
        Absent("on_error"),
        "What becomes of the mail if the receiver can't be reached or answers with an error.",
    ),
    key(
        "hooks.<name>.on_timeout",
        ERRORS,
        Absent("on_error"),
        "What becomes of the mail if the answer takes too long.",
    ),
    key(
        "hooks.<name>.on_invalid",
        ERRORS,
        Absent("on_error"),
        "What becomes of the mail if the answer makes no sense.",
    ),
    key(
        "hooks.<name>.quarantine",
        Word(HookQuarantine::WORDS),
        Value("\"junk\""),
        "What quarantine means: delivery to the junk mailbox, or holding the mail in the queue \
            until \"queue release\".",
    ),
    key(
        "hooks.<name>.retry.max",
        Integer,
        Value("0"),
        "The most further tries after no connection, a time-out or a 5xx answer.",
    )
    .range("0", "10"),
    key(
        "hooks.<name>.retry.delay",
        Duration,
        Value("\"1s\""),
        "The wait before each further try.",
    )
    .range("\"0s\"", "\"1m\""),
    key(
        "hooks.<name>.learn",
        Bool,
        Value("false"),
        "For the kind rspamd: tell its controller of mail that users call junk, or not junk.",
    ),
    key(
        "hooks.<name>.controller.url",
        Url,
        Absent("port 11334 at the host of url"),
        "The URL of rspamd's controller, which learns.",
    ),
    key(
        "hooks.<name>.controller.password_file",
        Path,
        Absent("none"),
        "The file with the password of rspamd's controller, as its first line.",
    ),
];

static MILTER: &[Key] = &[
    key(
        "milters.<name>.socket",
        Text,
        Required,
        "The socket of the milter: \"inet:HOST:PORT\" or \"unix:PATH\".",
    ),
    key(
        "milters.<name>.timeout",
        Duration,
        Value("\"30s\""),
        "The time limit of the connection and of each command. Reading a message may take ten \
            times as long.",
    )
    .range("\"100ms\"", "\"10m\""),
    key(
        "milters.<name>.on_error",
        ERRORS,
        Value("\"tempfail\""),
        "What becomes of the mail if the milter fails.",
    ),
];

/// When a program counts as down.
macro_rules! breaker {
    ($prefix:literal) => {
        [
            key(
                concat!($prefix, ".breaker.failures"),
                Integer,
                Value("5"),
                "The program counts as down after so many calls in a row without an answer. 0: it \
                    never does.",
            )
            .range("0", "1000"),
            key(
                concat!($prefix, ".breaker.pause"),
                Duration,
                Value("\"30s\""),
                "How long a program that is down is not asked. Mail goes the way of its on_error at \
                    once. Then one call tries it.",
            )
            .range("\"1s\"", "\"1h\""),
        ]
    };
}

static HOOK_BREAKER: [Key; 2] = breaker!("hooks.<name>");
static MILTER_BREAKER: [Key; 2] = breaker!("milters.<name>");

/// The conditions under which a program is asked.
macro_rules! conditions {
    ($prefix:literal) => {
        [
            key(
                concat!($prefix, ".listeners"),
                List(&Text),
                Value("[]"),
                "Ask for sessions at these listeners. An empty array means all.",
            ),
            key(
                concat!($prefix, ".authenticated"),
                Bool,
                Absent("both"),
                "Ask for sessions with a login (true) or without one (false).",
            ),
            key(
                concat!($prefix, ".remote"),
                List(&Network),
                Value("[]"),
                "Ask for clients in these networks, such as \"192.0.2.0/24\". An empty array \
                    means all.",
            ),
            key(
                concat!($prefix, ".sender_domains"),
                List(&DomainPattern),
                Value("[]"),
                "Ask for mail from these domains. An empty array means all. A leading dot \
                    includes subdomains.",
            ),
            key(
                concat!($prefix, ".recipient_domains"),
                List(&DomainPattern),
                Value("[]"),
                "Ask for mail with a recipient in these domains. An empty array means all.",
            ),
        ]
    };
}

static HOOK_CONDITIONS: [Key; 5] = conditions!("hooks.<name>");
static MILTER_CONDITIONS: [Key; 5] = conditions!("milters.<name>");
