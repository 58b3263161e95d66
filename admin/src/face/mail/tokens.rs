//! Tokens of people: mail tokens for mail programs, and user tokens for this API. The logic is in
//! `receive::login`.

use postrider_observe::metrics::LoginResult;
use postrider_receive::login::{
    ApiClient, ApiCredentials, CodeCheck, GivenToken, TokenError, plain_login, wait_in_words,
};
use postrider_smtp::Address;
use postrider_store::{MailTokenKind, Scope};
use serde_json::{Value, json};

use super::{
    Answer, Asked,
    fields::{Fields, token_of_form},
};
use crate::face::http::problem::Problem;

/// The scopes of a mail token, for a server for reading mail beside this one.
const SCOPES: &str = "imap smtp";

/// The answer with a new token (RFC 6749 §5.1).
fn shape(given: &GivenToken, email: Option<&Address>) -> Value {
    let mut shape = json!({
        "access_token": given.text,
        "token_type": "Bearer",
        "expires_in": given.lifetime.as_secs(),
    });
    if let (Some(email), Some(members)) = (email, shape.as_object_mut()) {
        members.insert("email".to_owned(), json!(email.unicode()));
    }
    shape
}

fn not_given(error: TokenError) -> Problem {
    match error {
        TokenError::TooMany(wait) => {
            let shown = wait_in_words(wait);
            Problem::limited(wait, format!("{error}; it gets another one in {shown}"))
        }
        TokenError::Store(error) => error.into(),
    }
}

/// Gives the caller a mail token.
pub(super) async fn mail_token(asked: Asked) -> Result<Answer, Problem> {
    let context = &asked.context;
    let user = asked.user()?;
    // A token must not live on by making the next one, and a key must not get more rights by one.
    let is_enough = user.token != Some(MailTokenKind::Mail)
        && user.may(Scope::Messages)
        && user.may(Scope::Send);
    if !is_enough {
        let text = "a mail token is for a login with a password, a user token, or a key with the \
            scopes messages and send";
        return Err(Problem::forbidden(text));
    }
    let mut fields = Fields::read(&asked.body)?;
    let email = fields.text("email").filter(|email| !email.is_empty());
    let address = email.map(|email| Address::parse(&email));
    if let Some(Err(error)) = &address {
        fields.wrong("email", format!("is not a mail address: {error}"));
    }
    fields.check()?;
    let config = context.config.load_full();
    let owner = |address: &Address| {
        config
            .destination(address)
            .map(|(owner, _)| owner.to_owned())
    };
    let account = config.accounts.get(&user.account);
    let address = match address.and_then(Result::ok) {
        Some(address) => Some(address),
        // A login by a catch-all or with a separator has no address of its own.
        None if owner(&user.login).as_ref() == Some(&user.account) => Some(user.login.clone()),
        None => account.and_then(|account| account.first_address().cloned()),
    };
    let address = address.filter(|address| owner(address).as_ref() == Some(&user.account));
    let Some(address) = address else {
        return Err(Problem::forbidden("this is no address of the account"));
    };
    let now = context.clock.now();
    let logins = &context.logins;
    let given = logins.give_token(&user.account, &address, MailTokenKind::Mail, now);
    let given = given.await.map_err(not_given)?;
    Ok(Answer::of(shape(&given, Some(&address))))
}

/// Says whether a mail token is good (RFC 7662). Whatever else it is, is not good.
pub(super) async fn introspect(asked: Asked) -> Result<Answer, Problem> {
    let text = token_of_form(&asked.body)?;
    let context = &asked.context;
    let config = context.config.load_full();
    let kinds = [MailTokenKind::Mail];
    let now = context.clock.now();
    let found = context
        .logins
        .token_owner(&text, &kinds, &config, now)
        .await?;
    let found = found.filter(|token| asked.who.sees_tokens_of(context, &token.account));
    Ok(Answer::of(match found {
        None => json!({"active": false}),
        Some(token) => json!({
            "active": true,
            "username": Address::parse(&token.address)
                .map_or_else(|_| token.address.clone(), |address| address.unicode()),
            "scope": SCOPES,
            "token_type": "Bearer",
            "exp": token.until.0 / 1_000_000,
        }),
    }))
}

/// Ends a token (RFC 7009). One that is not there, or of somebody else, is no error.
pub(super) async fn revoke(asked: Asked) -> Result<Answer, Problem> {
    let text = token_of_form(&asked.body)?;
    let context = &asked.context;
    let seen = |account: &str| asked.who.sees_tokens_of(context, account);
    context.logins.end_token(&text, seen).await?;
    Ok(Answer::of(json!({})))
}

/// Gives a user token for an address and a password, with a one-time code where the account has
/// codes.
pub(super) async fn log_in(asked: Asked) -> Result<Answer, Problem> {
    let mut fields = Fields::read(&asked.body)?;
    let email = fields.needed("email");
    let password = fields.needed("password");
    let code = match fields.value("totp") {
        Some(Value::Number(number)) => {
            let digits = number.to_string();
            Some(format!("{digits:0>6}"))
        }
        _ => fields.text("totp"),
    };
    fields.check()?;
    let context = &asked.context;
    let checked = check(&asked, &email, &password, code.as_deref()).await;
    let result = match &checked {
        Ok(_) => LoginResult::Ok,
        Err(problem) => problem.login_result(),
    };
    let config = context.config.load_full();
    let credentials = ApiCredentials::Basic(email, String::new());
    let client = ApiClient {
        source: &asked.source,
        program: &asked.program,
        tls: asked.tls,
    };
    let (logins, metrics) = (&context.logins, &context.metrics);
    logins.note_api_login(&config, metrics, &credentials, client, (result, None));
    let (account, address) = checked?;
    let now = context.clock.now();
    let given = logins.give_token(&account, &address, MailTokenKind::User, now);
    let given = given.await.map_err(not_given)?;
    Ok(Answer::of(shape(&given, None)))
}

/// Checks a login, as the pages do.
async fn check(
    asked: &Asked,
    email: &str,
    password: &str,
    code: Option<&str>,
) -> Result<(String, Address), Problem> {
    let context = &asked.context;
    let config = context.config.load_full();
    let found = config.login(email);
    let account = found.as_ref().map(|found| found.account);
    let password = match code {
        Some(code) if !code.is_empty() => format!("{password}${code}"),
        _ => password.to_owned(),
    };
    let wrong = |text: &str| Problem::login(LoginResult::Wrong, text);
    // For an unknown address a password is checked as well, and then refused. So the time that it
    // takes does not tell which addresses exist.
    let plain = plain_login(&config, email);
    let logins = &context.logins;
    let check = logins.verify_with_code(&plain, account, &password, &asked.source);
    match check.await? {
        CodeCheck::Password => {}
        CodeCheck::AppPassword => {
            let text = "this is the password of a single program; give that of the account";
            return Err(Problem::login(LoginResult::Weak, text));
        }
        CodeCheck::CodeMissing => {
            return Err(Problem::code_missing());
        }
        CodeCheck::Wrong => return Err(wrong("wrong address, password or code")),
        CodeCheck::TooMany(wait) => return Err(Problem::too_many_logins(wait)),
    }
    let found = found.ok_or_else(|| wrong("wrong address, password or code"))?;
    match found.config.login_disabled.as_str() {
        "" => {}
        why => {
            let text = format!("login disabled: {why}");
            return Err(Problem::login(LoginResult::Disabled, text));
        }
    }
    let own = config.destination(&found.address);
    let is_own = own.is_some_and(|(owner, _)| owner == found.account);
    let address = match is_own {
        true => Some(found.address.clone()),
        false => found.config.first_address().cloned(),
    };
    let address = address.ok_or_else(|| wrong("the account has no address of its own"))?;
    Ok((found.account.to_owned(), address))
}
