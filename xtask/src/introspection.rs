//! An OAuth authorization server that says whether a token is good (RFC 7662). Checks log in with
//! its token.

use std::net::TcpListener;

use anyhow::Result;

use crate::http;

/// The token that is good.
pub(crate) const TOKEN: &str = "a-token-of-the-checks";

/// Listens in a thread of its own. The token stands for this user. Gives the URL.
pub(crate) fn listen(user: &str) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let url = format!("http://{}/introspect", listener.local_addr()?);
    let good = serde_json::json!({"active": true, "username": user}).to_string();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
                return;
            };
            while let Ok((stream, _)) = listener.accept().await {
                let good = good.clone();
                tokio::spawn(async move { answer(stream, &good).await });
            }
        });
    });
    Ok(url)
}

async fn answer(stream: tokio::net::TcpStream, good: &str) {
    let mut connection = http::Connection::new(stream);
    while let Ok(Some(request)) = connection.read_message().await {
        let asked = String::from_utf8_lossy(&request.body);
        let mut fields = asked.split('&').filter_map(|field| field.split_once('='));
        let body = match fields.any(|field| field == ("token", TOKEN)) {
            true => good,
            false => "{\"active\": false}",
        };
        let answered = connection
            .answer("200 OK", "application/json", body.as_bytes())
            .await;
        if answered.is_err() || !request.keep_alive {
            return;
        }
    }
}
