//! The log of the browser: which of its entries fail a test.

use serde_json::Value;

/// What is wrong with an entry of the log. None if nothing is.
///
/// Wrong are errors of scripts, what a policy blocked, requests to hosts that have no name here,
/// and answers that say that the server failed. The browser also logs each answer of 4xx. Such an
/// answer is fine where a visitor sees it, as for a form with a wrong field. For a part of the page
/// it is wrong.
pub fn complaint(entry: &Value) -> Option<String> {
    let text = |name: &str| entry[name].as_str().unwrap_or_default();
    let (level, source, message) = (text("level"), text("source"), text("message"));
    let blocked = message.contains("Content Security Policy") || source == "security";
    if level != "SEVERE" && !blocked {
        return None;
    }
    let refused = message.contains("responded with a status of 4");
    let part = message.contains("/assets/");
    if source == "network" && refused && !part {
        return None;
    }
    Some(format!("{source}: {message}"))
}

#[test]
fn errors_are_told_and_answers_to_the_visitor_are_not() {
    let status = |path: &str, status: u16| {
        format!(
            "http://127.0.0.1/{path} - Failed to load resource: the server responded with a status of {status} (X)"
        )
    };
    for (level, source, message, wrong) in [
        ("SEVERE", "javascript", "Uncaught Error".to_owned(), true),
        ("SEVERE", "security", "blocked".to_owned(), true),
        (
            "WARNING",
            "other",
            "Content Security Policy".to_owned(),
            true,
        ),
        ("WARNING", "other", "slow".to_owned(), false),
        ("INFO", "console-api", "hello".to_owned(), false),
        (
            "SEVERE",
            "network",
            "ERR_NAME_NOT_RESOLVED".to_owned(),
            true,
        ),
        ("SEVERE", "network", status("admin/login", 422), false),
        ("SEVERE", "network", status("admin/login", 500), true),
        ("SEVERE", "network", status("assets/page.js", 404), true),
    ] {
        let entry = serde_json::json!({"level": level, "source": source, "message": message});
        assert_eq!(complaint(&entry).is_some(), wrong, "{entry}");
    }
}
