//! The list of all calls. Requests are led by it, scopes are checked by it, and the OpenAPI
//! description is made from it. So a call cannot be missing in one of them.

use std::pin::Pin;

use axum::http::Method;
use postrider_store::Scope;

use super::{
    Answer, Asked,
    calls::{
        account, destinations, dns, events, hold_rules, hooks, logs, principals, queue, received,
        reports, retired, server, settings, spam, suppressions, telemetry, traces, troubleshoot,
        undelete, webhooks,
    },
    problem::Problem,
};

/// The future of a call.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<Answer, Problem>> + Send>>;
/// The function that answers a call.
pub(super) type Run = fn(Asked) -> Work;

/// The part of the API that a call belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    /// The queue.
    Queue,
    /// Accounts, lists, domains and keys.
    Accounts,
    /// Logs, events and reports.
    Observe,
    /// The server itself.
    Server,
    /// The account of the caller.
    Account,
}

impl Area {
    /// The scope for calls of this area, beside those for all areas.
    pub(super) const fn scope(self, reads: bool) -> Option<Scope> {
        match self {
            Self::Queue => Some(Scope::ManageQueue),
            Self::Accounts | Self::Account => Some(Scope::ManageAccounts),
            Self::Observe if reads => Some(Scope::ManageObserve),
            Self::Observe | Self::Server => None,
        }
    }

    /// The name in the description.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Accounts => "accounts",
            Self::Observe => "observe",
            Self::Server => "server",
            Self::Account => "account",
        }
    }
}

/// A call.
pub(super) struct Call {
    pub(super) method: Method,
    /// The path below `/api/`. An element in braces is variable.
    pub(super) path: &'static str,
    pub(super) area: Area,
    /// It changes nothing.
    pub(super) reads: bool,
    /// Keys with domains may make it.
    pub(super) for_tenants: bool,
    /// The names of its parameters, with commas.
    pub(super) parameters: &'static str,
    /// The schema of its body; empty: it has none. With a question mark before it, the body may be
    /// left out. `message`: the body is a message, of which the beginning is enough.
    pub(super) body: &'static str,
    /// The schema of the data of its answer: a name, `[NAME]` for a list with `items`, or one of
    /// the words that `openapi` knows.
    pub(super) answer: &'static str,
    /// One sentence for people.
    pub(super) summary: &'static str,
    pub(super) run: Run,
}

impl Call {
    /// Whether a repeated request with an idempotency key gets the first answer: the request adds
    /// something, or changes all that match.
    pub(super) fn takes_key(&self) -> bool {
        !self.reads && (self.method == Method::POST || !self.path.contains('{'))
    }

    /// Whether the parameter `token` may stand in the place of a login.
    pub(super) fn takes_token(&self) -> bool {
        self.parameters.split(',').any(|name| name == "token")
    }

    /// The variable elements of a path, if the path is one of this call.
    fn elements(&self, path: &[&str]) -> Option<Vec<String>> {
        crate::face::path::elements(self.path, path)
    }
}

/// The call for a request, and the variable elements of its path.
pub(super) fn find(method: &Method, path: &[&str]) -> Option<(&'static Call, Vec<String>)> {
    CALLS.iter().find_map(|call| {
        let elements = call.elements(path).filter(|_| call.method == *method)?;
        Some((call, elements))
    })
}

/// A line of the list: what the call does, method, path, area, who, parameters, body and answer,
/// summary, function. The word behind the area is `all` if keys with domains may make the call,
/// else `whole`.
macro_rules! calls {
    ($($kind:ident $method:ident $path:literal $area:ident $tenants:ident [$parameters:literal]
        ($body:literal -> $answer:literal) $summary:literal => $run:path;)*) => {
        &[$(Call {
            method: Method::$method,
            path: $path,
            area: Area::$area,
            reads: calls!(@reads $kind),
            for_tenants: calls!(@tenants $tenants),
            parameters: $parameters,
            body: $body,
            answer: $answer,
            summary: $summary,
            run: |asked| Box::pin($run(asked)),
        },)*]
    };
    (@reads read) => { true };
    (@reads change) => { false };
    (@tenants all) => { true };
    (@tenants whole) => { false };
}

/// All calls. A fixed element stands before a variable one.
pub(super) static CALLS: &[Call] = calls! {
    read GET "queue/status" Queue all [""] ("" -> "bool")
        "Say whether deliveries run." => queue::status;
    change PATCH "queue/status/stop" Queue whole [""] ("" -> "bool")
        "Stop deliveries. The answer is the state before." => queue::stop;
    change PATCH "queue/status/start" Queue whole [""] ("" -> "bool")
        "Start deliveries. The answer is the state before." => queue::start;
    read GET "queue/messages" Queue all
        ["values,text,from,to,queue,range-start,range-end,before,after,filter,page,limit,cursor,sort,max-total"] ("" -> "MessageList")
        "List queued messages, or messages of the history." => queue::list;
    change PATCH "queue/messages" Queue all
        ["at,text,from,to,queue,range-start,range-end,before,after,filter"] ("?Changes" -> "bulk")
        "Change all queued messages that match." => queue::change_all;
    change DELETE "queue/messages" Queue all
        ["fail,text,from,to,queue,range-start,range-end,before,after,filter"] ("" -> "bulk")
        "End all queued messages that match." => queue::end_all;
    read GET "queue/messages/{id}" Queue all [""] ("" -> "Message")
        "Get a message of the queue or of the history." => queue::get;
    change PATCH "queue/messages/{id}" Queue all ["at,filter"] ("?Changes" -> "bool")
        "Change a queued message. Without a body it is due now, or at a time." => queue::change;
    change DELETE "queue/messages/{id}" Queue all ["filter,fail"] ("" -> "bool")
        "End a queued message." => queue::end;
    read GET "store/blobs/{blob}" Queue all ["offset,limit"] ("" -> "bytes")
        "Get the text of a queued message." => queue::blob;
    read GET "queue/retired" Queue all
        ["text,from,to,queue,range-start,range-end,filter,page,limit,cursor,sort,max-total"] ("" -> "[RetiredItem]")
        "List messages of the history." => retired::list;
    read GET "queue/retired/{id}" Queue all [""] ("" -> "RetiredItem")
        "Get a message of the history." => retired::get;
    read GET "queue/hold-rules" Queue all ["page,limit,cursor,sort,max-total"] ("" -> "[HoldRuleItem]")
        "List the rules that hold messages." => hold_rules::list;
    change POST "queue/hold-rules" Queue all [""] ("HoldRuleAdd" -> "HoldRuleAdded")
        "Add a rule that holds messages." => hold_rules::add;
    change DELETE "queue/hold-rules/{id}" Queue all [""] ("" -> "null")
        "Remove a rule. Messages that it held stay held." => hold_rules::remove;
    read GET "queue/reports" Queue all ["values,domain,type,page,limit,cursor,sort,max-total"]
        ("" -> "[ReportEntry]") "List the reports about TLS and DMARC that wait to be sent."
        => reports::list;
    change DELETE "queue/reports" Queue all ["domain,type"] ("" -> "bool")
        "Drop all waiting reports that match, with their results." => reports::drop_all;
    read GET "queue/reports/{id}" Queue all [""] ("" -> "WaitingReport")
        "Get a waiting report, as it would be sent now." => reports::get;
    change DELETE "queue/reports/{id}" Queue all [""] ("" -> "bool")
        "Drop a waiting report, with its results." => reports::drop;
    read GET "queue/destinations" Queue whole ["target,page,limit,cursor,sort,max-total"] ("" -> "[DestinationItem]")
        "List the sites that the queue delivers to." => destinations::list;
    read GET "queue/destinations/orders" Queue whole ["page,limit,cursor,sort,max-total"] ("" -> "[DestinationOrder]")
        "List what administrators want for sites and domains." => destinations::orders;
    read GET "queue/destinations/{target}" Queue whole [""] ("" -> "DestinationItem")
        "Get a site by its name, or the first site of a domain." => destinations::get;
    change PATCH "queue/destinations/{target}/pause" Queue whole [""] ("?DestinationPause" -> "null")
        "Pause deliveries to a site or a domain." => destinations::pause;
    change PATCH "queue/destinations/{target}/resume" Queue whole [""] ("" -> "null")
        "Let deliveries to a site or a domain go on after a pause. Try a halted site with a message." => destinations::resume;
    change PATCH "queue/destinations/{target}/limit" Queue whole [""] ("?DestinationLimit" -> "null")
        "Limit a site, or the sites of a domain. Without a body the limit is taken back." => destinations::limit;
    change PATCH "queue/destinations/{target}/forget" Queue whole [""] ("" -> "DestinationsForgotten")
        "Forget what was learnt of a site, or of the sites of a domain." => destinations::forget;
    read GET "queue/suppressions" Queue all ["account,text,list,manual,page,limit,cursor,sort,max-total"] ("" -> "[SuppressionItem]")
        "List suppressed addresses." => suppressions::list;
    change POST "queue/suppressions" Queue all [""] ("NewSuppression" -> "null")
        "Suppress an address for an account." => suppressions::add;
    read GET "queue/suppressions/{account}/{address}" Queue all ["list"] ("" -> "SuppressionItem")
        "Get the entry of an address." => suppressions::get;
    change DELETE "queue/suppressions/{account}/{address}" Queue all ["list"] ("" -> "null")
        "Remove the entry of an address." => suppressions::remove;
    read GET "queue/webhooks" Queue all
        ["account,event,message,before,after,failed,page,limit,cursor,sort,max-total"] ("" -> "[HookItem]")
        "List webhook calls to be made." => webhooks::list;
    change PATCH "queue/webhooks" Queue all ["at,account,event,message,before,after,failed"] ("" -> "bool")
        "Make all webhook calls that match now, or at a time." => webhooks::schedule_all;
    change DELETE "queue/webhooks" Queue all ["account,event,message,before,after,failed"] ("" -> "bool")
        "End all webhook calls that match without making them." => webhooks::cancel_all;
    read GET "queue/webhooks/retired" Queue all
        ["account,event,message,success,before,after,page,limit,cursor,sort,max-total"] ("" -> "[RetiredHookItem]")
        "List webhook calls of the history." => webhooks::retired;
    change POST "queue/webhooks/retired/{id}/replay" Queue all [""] ("" -> "bool")
        "Make a webhook call of the history again." => webhooks::replay;
    read GET "queue/webhooks/{id}" Queue all [""] ("" -> "HookItem")
        "Get a webhook call to be made." => webhooks::get;
    change PATCH "queue/webhooks/{id}" Queue all ["at"] ("" -> "bool")
        "Make a webhook call now, or at a time." => webhooks::schedule;
    change DELETE "queue/webhooks/{id}" Queue all [""] ("" -> "bool")
        "End a webhook call without making it." => webhooks::cancel;
    read GET "principal" Accounts all ["type,types,filter,fields,count,page,limit,cursor,sort"]
        ("" -> "[Principal]") "List accounts, lists, domains and keys." => principals::list;
    change POST "principal" Accounts all [""] ("NewPrincipal" -> "principal-id")
        "Add an account, a list, a domain or a key. The answer is its number." => principals::add;
    change DELETE "principal" Accounts all ["type,types,filter,confirm"] ("" -> "bool")
        "Remove all principals that match, with confirm=true. All are removed, or none."
        => principals::remove_all;
    read GET "principal/{principal}" Accounts all [""] ("" -> "Principal")
        "Get a principal by its name, its number or an address." => principals::get;
    change PATCH "principal/{principal}" Accounts all [""] ("[]PrincipalChange" -> "null")
        "Change a principal. All changes are made, or none." => principals::change;
    change DELETE "principal/{principal}" Accounts all [""] ("" -> "null")
        "Remove a principal. The queued messages of an account fail." => principals::remove;
    change POST "principal/{principal}/suspend" Accounts all [""] ("" -> "null")
        "Refuse logins of an account. It still receives mail." => principals::suspend;
    change POST "principal/{principal}/unsuspend" Accounts all [""] ("" -> "null")
        "Let an account log in again." => principals::unsuspend;
    change POST "dkim" Accounts all [""] ("NewDkim" -> "null")
        "Make a key for DKIM. It signs from now on." => dns::add_dkim;
    read GET "dkim/{key}" Accounts all [""] ("" -> "text")
        "Get the public key of a key for DKIM." => dns::get_dkim;
    read GET "dns/records/{domain}" Accounts all [""] ("" -> "[]any")
        "List the records that a domain should have." => dns::records;
    read GET "dns/check/{domain}" Accounts all [""] ("" -> "[]any")
        "Compare DNS with the records that a domain should have." => dns::check;
    read GET "settings/keys" Accounts all ["keys,prefixes"] ("" -> "any")
        "Get settings by their keys." => settings::keys;
    read GET "settings/list" Accounts all ["prefix,page,limit"] ("" -> "any")
        "List settings below a prefix." => settings::list;
    read GET "settings/group" Accounts all ["prefix,suffix,page,limit"] ("" -> "[any]")
        "List settings below a prefix in groups." => settings::group;
    change POST "settings" Accounts all [""] ("[]SettingsChange" -> "null")
        "Change settings. All change, or none." => settings::change;
    change DELETE "settings/{key}" Accounts all [""] ("" -> "null")
        "Remove a setting, so that its default holds." => settings::remove;
    change GET "reload" Server whole ["dry-run"] ("" -> "Reloaded")
        "Read the configuration again." => server::reload;
    change GET "reload/certificate" Server whole ["dry-run"] ("" -> "Reloaded")
        "Read the certificates of the listeners again." => server::reload_certificates;
    change POST "spam-filter/train/spam" Accounts all [""] ("message" -> "null")
        "Teach the junk filter of the key's account, or the server's own, that a message is junk."
        => spam::train_spam;
    change POST "spam-filter/train/spam/{account}" Accounts all [""] ("message" -> "null")
        "Teach the junk filter of an account that a message is junk." => spam::train_spam;
    change POST "spam-filter/train/ham" Accounts all [""] ("message" -> "null")
        "Teach the junk filter of the key's account, or the server's own, that a message is no junk."
        => spam::train_ham;
    change POST "spam-filter/train/ham/{account}" Accounts all [""] ("message" -> "null")
        "Teach the junk filter of an account that a message is no junk." => spam::train_ham;
    change POST "spam-filter/upload/spam" Accounts all [""] ("message" -> "null")
        "The same as spam-filter/train/spam." => spam::train_spam;
    change POST "spam-filter/upload/spam/{account}" Accounts all [""] ("message" -> "null")
        "The same as spam-filter/train/spam/{account}." => spam::train_spam;
    change POST "spam-filter/upload/ham" Accounts all [""] ("message" -> "null")
        "The same as spam-filter/train/ham." => spam::train_ham;
    change POST "spam-filter/upload/ham/{account}" Accounts all [""] ("message" -> "null")
        "The same as spam-filter/train/ham/{account}." => spam::train_ham;
    read GET "spam-filter/train/start" Accounts whole [""] ("" -> "bool")
        "Say true: training is done with each call." => spam::start;
    read GET "spam-filter/train/stop" Accounts whole [""] ("" -> "bool")
        "Say false: no training runs behind a call." => spam::is_running;
    read GET "spam-filter/train/status" Accounts whole [""] ("" -> "bool")
        "Say false: no training runs behind a call." => spam::is_running;
    change GET "spam-filter/train/reset" Accounts whole [""] ("" -> "bool")
        "Let the server's own junk filter forget all words." => spam::forget;
    change GET "spam-filter/train/delete" Accounts whole [""] ("" -> "bool")
        "The same as spam-filter/train/reset." => spam::forget;
    read POST "spam-filter/classify" Accounts all [""] ("ClassifyRequest" -> "any")
        "Judge a message with the junk filter of the key's account, or with the server's own."
        => spam::classify;
    read GET "store/undelete/{account}" Accounts all ["page,limit,cursor"] ("" -> "[UndeleteItem]")
        "List the mail that an account deleted lately, oldest first." => undelete::list;
    change POST "store/undelete/{account}" Accounts all [""] ("?[]UndeleteRequest" -> "[]Restored")
        "Put deleted mail into the inbox again: all of it, or what is named." => undelete::restore;
    change GET "store/purge/account" Accounts whole [""] ("" -> "null")
        "Remove the deleted mail of all accounts for good, in the background." => undelete::purge;
    change GET "store/purge/account/{account}" Accounts all [""] ("" -> "null")
        "Remove the deleted mail of an account for good, in the background." => undelete::purge;
    change POST "store/purge/account" Accounts whole [""] ("" -> "null")
        "The same as GET store/purge/account." => undelete::purge;
    change POST "store/purge/account/{account}" Accounts all [""] ("" -> "null")
        "The same as GET store/purge/account/{account}." => undelete::purge;
    change GET "store/purge/blob" Accounts whole [""] ("" -> "null")
        "Give back the room of texts that are gone, in the background." => undelete::purge_blob;
    change GET "store/purge/data" Accounts whole [""] ("" -> "null")
        "Remove all records whose time is over, in the background." => undelete::purge_data;
    read GET "audit" Observe whole
        ["who,operation,target,after,before,page,limit,cursor,sort"] ("" -> "[AuditItem]")
        "List entries of the audit log." => server::audit;
    read GET "reports/dmarc/sums" Observe all
        ["domain,after,before,by,page,limit,cursor,sort,max-total"] ("" -> "[ReportSumItem]")
        "Sum the verified reports about DMARC by source, day or reporter." => received::sums;
    read GET "reports/{type}" Observe all
        ["values,text,filter,page,limit,cursor,sort,max-total"] ("" -> "[ReceivedReportEntry]")
        "List the reports about DMARC (dmarc), TLS (tls) or single messages (arf) that came in."
        => received::list;
    change DELETE "reports/{type}" Observe all ["text,filter"] ("" -> "bool")
        "Remove all reports of a type that match. The sums stay." => received::remove_all;
    read GET "reports/{type}/{id}" Observe all [""] ("" -> "ShownReport")
        "Get a report that came in." => received::get;
    change DELETE "reports/{type}/{id}" Observe all [""] ("" -> "bool")
        "Remove a report that came in. The sums stay." => received::remove;
    read GET "events" Observe all
        ["account,event,recipient,message_id,after,before,page,limit,cursor,sort"] ("" -> "[ToldEvent]")
        "List what webhooks tell." => events::list;
    read GET "troubleshoot/token" Observe all [""] ("" -> "text")
        "Get a token that opens a stream of troubleshoot/delivery within a minute, in the place of a login."
        => troubleshoot::token;
    read GET "troubleshoot/delivery/{target}" Observe all ["timeout,from,source,stages,token"]
        ("" -> "stages")
        "Walk the way of a message to an address or to the postmaster of a domain, and stream the stages. Nothing is sent."
        => troubleshoot::delivery;
    read POST "troubleshoot/dmarc" Observe all ["details"] ("DmarcRequest" -> "DmarcChecked")
        "Check SPF, DKIM, ARC, DMARC and the names of a client for a message. Nothing is stored."
        => troubleshoot::dmarc;
    read GET "events/live" Observe all ["account,event,recipient,message_id,after,before"]
        ("" -> "stream") "Stream what webhooks tell, as it happens." => events::live;
    read GET "hooks" Observe whole ["page,limit,cursor,sort"] ("" -> "[HookProgramItem]")
        "List the hooks and milters that are in use, in the order in which they are asked, and whether they answer."
        => hooks::list;
    read POST "hooks/{name}/test" Observe whole [""] ("?HookTest" -> "HookTested")
        "Ask a hook or a milter about a message that nobody sent. Nothing is queued or delivered."
        => hooks::test;
    read GET "logs" Observe whole ["filter,page,limit,cursor,sort"] ("" -> "[LogEntry]")
        "List the last lines of the log, newest first." => logs::list;
    read GET "logs/levels" Observe whole ["page,limit,cursor,sort"] ("" -> "[LogLevelItem]")
        "List the levels of the log: the configured ones, and those that were set since the start."
        => logs::levels;
    change POST "logs/levels" Observe whole [""] ("SetLogLevel" -> "null")
        "Set the level of a module, or of all lines about a remote network, until a restart or for a time."
        => logs::set_level;
    change DELETE "logs/levels" Observe whole [""] ("" -> "LogLevelsReset")
        "Take back all levels that were set since the start." => logs::reset_levels;
    read GET "telemetry/traces" Observe all
        ["type,queue_id,filter,before,after,kind,session,message_id,sender,recipient,remote_ip,account,hook,values,page,limit,cursor,max-total"]
        ("" -> "traces") "List the numbers of traces, newest first, or with values=1 one event of each."
        => traces::list;
    read GET "telemetry/trace/{id}" Observe all [""] ("" -> "[]TraceEvent")
        "Get the events of a trace. For several traces, with commas between their numbers, the answer is an array of such arrays."
        => traces::get;
    read GET "telemetry/live/tracing-token" Observe all [""] ("" -> "text")
        "Get a token that opens a stream of traces within a minute, in the place of a login."
        => traces::token;
    read GET "telemetry/traces/live" Observe all ["filter,token"] ("" -> "stages")
        "Stream the events of traces as they happen. Further parameters, such as remote-ip, are values that events of the trace have to have."
        => traces::live;
    read GET "telemetry/refusals" Observe whole ["all,page,limit,cursor,sort"] ("" -> "[RefusalItem]")
        "List the reasons of refusals that were given, and how often. With all=1, those that were never given too." => server::refusals;
    read GET "telemetry/metrics" Observe whole ["after,before"] ("" -> "[]MetricItem")
        "List how the metrics grew in each five minutes, or in each hour or more if there would be too many. interval says in which time, in seconds. What did not grow is left out."
        => telemetry::metrics;
    read GET "telemetry/metrics/live" Observe whole ["interval,metrics,token"] ("" -> "frames")
        "Stream the metrics as they are, at once and each interval." => telemetry::live;
    read GET "telemetry/live/metrics-token" Observe whole [""] ("" -> "text")
        "Get a token that opens telemetry/metrics/live within a minute, in the place of a login."
        => telemetry::metrics_token;
    read GET "account/auth" Account all [""] ("" -> "any")
        "Get the ways to log in to the account of the caller." => account::auth;
    change POST "account/auth" Account all [""] ("[]AuthChange" -> "null")
        "Change the ways to log in to the account of the caller." => account::change_auth;
    read GET "account/crypto" Account all [""] ("" -> "any")
        "Get the encryption of the mail of the account." => account::crypto;
    change POST "account/crypto" Account all [""] ("any" -> "null")
        "Set the encryption of the mail of the account." => account::change_crypto;
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_path_leads_to_its_call() {
        let found = |method: &Method, path: &str| {
            let path: Vec<&str> = path.split('/').collect();
            find(method, &path).map(|(call, elements)| (call.path, elements))
        };
        let get = &Method::GET;
        assert_eq!(
            found(get, "queue/messages/7"),
            Some(("queue/messages/{id}", vec!["7".to_owned()]))
        );
        assert_eq!(
            found(get, "queue/webhooks/retired"),
            Some(("queue/webhooks/retired", Vec::new()))
        );
        assert_eq!(found(get, "queue/messages/"), None);
        assert_eq!(found(get, "queue"), None);
        assert_eq!(found(&Method::POST, "queue/messages"), None);
    }

    #[test]
    fn each_call_stands_there_once() {
        let mut seen = BTreeSet::new();
        for call in CALLS {
            let is_new = seen.insert((call.path, call.method.as_str()));
            assert!(is_new, "{} {}", call.method, call.path);
            // A message to be judged is too long for a query.
            let judges = matches!(
                call.path,
                "spam-filter/classify" | "troubleshoot/dmarc" | "hooks/{name}/test"
            );
            assert!(
                !call.reads || judges || call.method == Method::GET,
                "{}",
                call.path
            );
            let changes_by_get = !call.reads && call.method == Method::GET;
            assert!(
                !changes_by_get
                    || call.path.starts_with("reload")
                    || call.path.starts_with("spam-filter/train")
                    || call.path.starts_with("store/purge"),
                "{}",
                call.path
            );
        }
    }
}
