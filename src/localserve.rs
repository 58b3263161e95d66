//! The folder of `localserve`: a complete server for development, which is made on first use.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use postrider_admin::face::SOCKET_NAME;

use crate::{cli, command::Usage, files, tls};

/// The account of localserve.
pub const ACCOUNT: &str = "postrider";
/// The password of the account.
pub const PASSWORD: &str = "postrider";
/// The password of the administrator of localserve.
pub const ADMIN_PASSWORD: &str = "postrider-admin";

/// The file with the DKIM key, in the folder `config/dkim`.
const DKIM_KEY: &str = "localserve.key.pem";

/// The ports before the offset is added: MX, submission, submissions, HTTP, HTTPS.
const PORTS: [u16; 5] = [1025, 1587, 1465, 1080, 1443];

/// The folder of a localserve.
#[derive(Debug)]
pub struct Place {
    /// Its path.
    pub dir: PathBuf,
    /// The static configuration.
    pub conf: PathBuf,
    /// Whether it was made just now.
    pub new: bool,
    /// The folders of the configuration that others could enter.
    pub mended: Vec<files::Mended>,
}

/// The default folder: `postrider-localserve` in the user's data folder (XDG base directories).
///
/// # Errors
/// If neither XDG_DATA_HOME nor HOME is set.
pub fn default_dir() -> anyhow::Result<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    absolute("XDG_DATA_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("postrider-localserve"))
        .context("neither XDG_DATA_HOME nor HOME is set; name the folder with --dir DIR")
}

/// Makes the folder, the configuration, the certificate and the DKIM key if they are missing. Files
/// that exist stay as they are, with all edits. Only the listener follows the options: its address,
/// its ports, and whether it has the management API.
///
/// # Errors
/// If a file cannot be written, or the port offset is too large.
pub fn prepare(options: &cli::Localserve) -> anyhow::Result<Place> {
    if options.deliver && !options.ip.is_loopback() {
        bail!(Usage::new(format!(
            "--deliver with --ip {} would be a relay whose password everybody knows; use --deliver on 127.0.0.1 only",
            options.ip
        )));
    }
    let dir = match &options.dir {
        Some(dir) => dir.clone(),
        None => default_dir()?,
    };
    let mended = [
        files::private_dir(&dir.join("config"), "postrider.conf")?.mended,
        files::private_dir(&dir.join("config/dkim"), DKIM_KEY)?.mended,
    ];
    let dir = dir
        .canonicalize()
        .with_context(|| format!("failed to find {}", dir.display()))?;
    if std::os::unix::net::UnixStream::connect(dir.join("data").join(SOCKET_NAME)).is_ok() {
        bail!(
            "a server is running in {} already; stop it, or choose another folder with --dir",
            dir.display()
        );
    }
    let config = dir.join("config");
    let conf = config.join("postrider.conf");
    let new = !conf.exists();
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    // All addresses of a machine have no name together.
    if !options.ip.is_unspecified() && options.ip != IpAddr::from([127, 0, 0, 1]) {
        names.push(options.ip.to_string());
    }
    names.extend(options.hosts.iter().cloned());
    tls::ensure_self_signed(&config, &names)?;
    ensure_admin_password(&config)?;
    if !config.join("domains.conf").exists() {
        ensure_dkim_key(&config)?;
        files::write_private(&config.join("domains.conf"), DOMAINS_CONF.as_bytes())?;
    }
    // The address and the ports are set for each run, so that nobody must edit the file to try an
    // offset.
    files::write_private(
        &conf,
        static_conf(&conf, options.ip, options.port_offset)?.as_bytes(),
    )?;
    let mended = mended.into_iter().flatten().collect();
    Ok(Place {
        dir,
        conf,
        new,
        mended,
    })
}

fn ensure_admin_password(config: &Path) -> anyhow::Result<()> {
    let path = config.join("adminpasswd");
    if !path.exists() {
        postrider_admin::op::passwords::set_admin_password(&path, ADMIN_PASSWORD)?;
    }
    Ok(())
}

fn ensure_dkim_key(config: &Path) -> anyhow::Result<()> {
    let path = config.join("dkim").join(DKIM_KEY);
    if path.exists() {
        return Ok(());
    }
    let key =
        rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).context("failed to make a DKIM key")?;
    files::write_private(&path, key.serialize_pem().as_bytes())
}

fn ports(offset: u16) -> anyhow::Result<[u16; 5]> {
    let mut ports = PORTS;
    for port in &mut ports {
        let Some(moved) = port.checked_add(offset) else {
            bail!(Usage::new(format!(
                "--port-offset {offset} is too large: the sum with port {port} must not be above 65535"
            )));
        };
        *port = moved;
    }
    Ok(ports)
}

/// Whether the management API runs. Everybody knows its password, so other machines must not reach
/// it.
fn has_management(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// The text of postrider.conf, with the address and the services set. It is made from the file that
/// exists, or from [`STATIC_CONF`].
fn static_conf(path: &Path, ip: IpAddr, offset: u16) -> anyhow::Result<String> {
    let [smtp, submission, submissions, http, https] = ports(offset)?;
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => STATIC_CONF.to_owned(),
        Err(error) => {
            return Err(error).with_context(|| format!("failed to read {}", path.display()));
        }
    };
    let mut document: toml_edit::DocumentMut = text
        .parse()
        .with_context(|| format!("{} is not TOML", path.display()))?;
    let Some(listener) = document
        .get_mut("listeners")
        .and_then(|listeners| listeners.get_mut("local"))
        .and_then(toml_edit::Item::as_table_like_mut)
    else {
        bail!(
            "{} has no table [listeners.local]; put it back, or remove the file to get a new one",
            path.display()
        );
    };
    let mut ips = toml_edit::Array::new();
    ips.push(ip.to_string());
    set(listener, "ips", toml_edit::Value::from(ips));
    // Older versions made files without these.
    let newer = [
        "account_http",
        "account_https",
        "admin_http",
        "admin_https",
        "mail_api_http",
        "mail_api_https",
        "metrics_http",
    ];
    for service in newer {
        if !listener.contains_key(service) {
            let table = toml_edit::InlineTable::new();
            listener.insert(service, toml_edit::value(table));
        }
    }
    for (service, runs) in [
        ("account_http", true),
        ("account_https", true),
        ("admin_http", has_management(ip)),
        ("admin_https", has_management(ip)),
        ("mail_api_http", has_management(ip)),
        ("mail_api_https", has_management(ip)),
    ] {
        if let Some(table) = service_table(listener, service) {
            set(table, "enabled", runs.into());
        }
    }
    for (service, port) in [
        ("smtp", smtp),
        ("submission", submission),
        ("submissions", submissions),
        ("webapi_http", http),
        ("webapi_https", https),
        ("account_http", http),
        ("account_https", https),
        ("admin_http", http),
        ("admin_https", https),
        ("mail_api_http", http),
        ("mail_api_https", https),
        ("metrics_http", http),
    ] {
        if let Some(table) = service_table(listener, service) {
            set(table, "port", toml_edit::Value::from(i64::from(port)));
            // Clients that see STARTTLS use it, and many refuse a self-signed certificate.
            if service == "smtp" && !table.contains_key("starttls") {
                set(table, "starttls", toml_edit::Value::from(false));
            }
        }
    }
    Ok(document.to_string())
}

fn service_table<'a>(
    listener: &'a mut dyn toml_edit::TableLike,
    service: &str,
) -> Option<&'a mut dyn toml_edit::TableLike> {
    listener.get_mut(service)?.as_table_like_mut()
}

/// Replaces a value, and keeps the comment after it.
fn set(table: &mut dyn toml_edit::TableLike, key: &str, mut value: toml_edit::Value) {
    if let Some(old) = table.get(key).and_then(toml_edit::Item::as_value) {
        *value.decor_mut() = old.decor().clone();
    }
    table.insert(key, toml_edit::Item::Value(value));
}

const STATIC_CONF: &str = r#"# The static configuration of this development server. "postrider config describe" explains every key.
data_dir = "../data"
hostname = "localhost"
user = ""
admin_password_file = "adminpasswd"
log.level = "info"
# The folder stays small, since no message is larger than a file of the journal.
store.segment_size = "4MiB"

[postmaster]
account = "postrider"
mailbox = "Postmaster"

# "postrider localserve" sets the address and the ports by its options. It turns off admin_http(s)
# and mail_api_http(s) at addresses that other machines reach: everybody knows the password.
[listeners.local]
ips = ["127.0.0.1"]
tls.certs = [{ cert_file = "localserve.crt", key_file = "localserve.key" }]
smtp = { enabled = true, port = 1025, starttls = false }
submission = { enabled = true, port = 1587, require_tls = false }
submissions = { enabled = true, port = 1465 }
webapi_http = { enabled = true, port = 1080 }
webapi_https = { enabled = true, port = 1443 }
account_http = { enabled = true, port = 1080 }
account_https = { enabled = true, port = 1443 }
admin_http = { enabled = true, port = 1080 }
admin_https = { enabled = true, port = 1443 }
mail_api_http = { enabled = true, port = 1080 }
mail_api_https = { enabled = true, port = 1443 }
metrics_http = { enabled = true, port = 1080 }

# The receivers of webhooks are on this machine.
[webhook]
allow_private_addresses = true
retry_intervals = ["1s", "5s", "15s", "1m", "5m"]

# Attempts follow each other quickly, so that you can watch them.
[queue]
retry_intervals = ["10s", "30s", "1m", "5m", "15m"]

[smtp_client]
connect_timeout = "10s"
greeting_timeout = "30s"
mail_timeout = "30s"
rcpt_timeout = "30s"
data_timeout = "30s"
dot_timeout = "60s"
"#;

const DOMAINS_CONF: &str = r#"# The dynamic configuration. A valid change takes effect when the file is saved.

[domains."localhost"]
localpart_catchall_separators = ["+"]
dkim.sign = ["localserve"]
dkim.selectors."localserve" = { private_key_file = "dkim/localserve.key.pem" }

# The login is postrider@localhost with the password "postrider".
[accounts.postrider]
domain = "localhost"
full_name = "postrider"
destinations."postrider@localhost" = {}
destinations."@localhost" = {}
from_id_login_addresses = ["postrider+id@localhost"]
keep_retired_message_period = "168h"
keep_retired_webhook_period = "168h"
max_outgoing_messages_per_day = 1000000000
max_first_time_recipients_per_day = 1000000000

# To tell your application about each message: remove the # below, set the URL of your receiver,
# and save the file.
#[accounts.postrider.outgoing_webhook]
#url = "http://127.0.0.1:8000/outgoing"
#[accounts.postrider.incoming_webhook]
#url = "http://127.0.0.1:8000/incoming"
"#;

/// How to call this program again. It may not be in the search path.
fn program() -> String {
    std::env::current_exe().map_or_else(|_| "postrider".into(), |path| path.display().to_string())
}

/// The text to print when the server runs.
#[must_use]
pub fn banner(place: &Place, ip: IpAddr, offset: u16, deliver: bool) -> String {
    let [smtp, submission, submissions, http, https] = ports(offset).unwrap_or(PORTS);
    let host = match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    let fate = if deliver {
        "Messages are delivered to the mail servers of the recipients."
    } else {
        "No message leaves this machine: it is delivered to the mailbox of its sender.\n\
         Recipients such as fail+550@example.com, x+permerror@example.com and y+temperror@example.com fail as their names say."
    };
    let at = |path: &str| format!("http://{host}:{http}{path}   https://{host}:{https}{path}");
    let (management, ask) = match has_management(ip) {
        true => (
            format!(
                "{}\n\
                 admin (for a browser)     {}\n\
                 its login                 admin   password {ADMIN_PASSWORD}",
                at("/api/"),
                at("/admin/"),
            ),
            format!(
                "Ask the management API, and read the metrics:\n\
                 \n\
                 curl --user admin:{ADMIN_PASSWORD} http://{host}:{http}/api/queue/messages\n"
            ),
        ),
        false => (
            "off, because other machines reach this address and everybody knows the password"
                .to_owned(),
            "Read the metrics:\n\n".to_owned(),
        ),
    };
    format!(
        "postrider localserve {version}, in {dir}{made}\n\
         \n\
         SMTP (any recipient)      {host}:{smtp}   (a login is possible, and makes it a submission)\n\
         submission (STARTTLS)     {host}:{submission}\n\
         submissions (TLS)         {host}:{submissions}\n\
         inbox (for a browser)     {inbox}\n\
         account (for a browser)   {account}\n\
         webapi                    {webapi}\n\
         login                     postrider@localhost   password {PASSWORD}\n\
         management API            {management}\n\
         metrics                   http://{host}:{http}/metrics\n\
         accounts, webhooks        {conf} (takes effect when saved)\n\
         \n\
         {fate}\n\
         \n\
         Send a message:\n\
         \n\
         curl --user postrider@localhost:{PASSWORD} --data-urlencode request='{{\"To\": [{{\"Address\": \"user@example.com\"}}], \
         \"Subject\": \"Hello\", \"Text\": \"Hello from postrider.\"}}' http://{host}:{http}/webapi/v0/Send\n\
         \n\
         {ask}\
         curl http://{host}:{http}/metrics\n\
         \n\
         See the history, and the queued messages:\n\
         \n\
         {program} --config {static_conf} queue retired list\n\
         {program} --config {static_conf} queue list\n",
        inbox = at("/inbox/"),
        account = at("/account/"),
        webapi = at("/webapi/"),
        version = env!("CARGO_PKG_VERSION"),
        dir = place.dir.display(),
        made = if place.new { " (made just now)" } else { "" },
        conf = place.dir.join("config/domains.conf").display(),
        static_conf = place.conf.display(),
        program = program(),
    )
}

#[cfg(test)]
mod tests {
    use postrider_config::{Listener, Static};

    use super::*;

    fn listener(text: &str) -> Listener {
        let statics = Static::parse(text, "postrider.conf").unwrap();
        statics.listeners["local"].clone()
    }

    /// Which of the services run that the file gets from us at each start, and their ports.
    fn services(text: &str) -> [Option<u16>; 3] {
        let listener = listener(text);
        let services = [
            listener.admin_http,
            listener.admin_https,
            listener.metrics_http,
        ];
        services.map(|service| service.enabled.then_some(service.port))
    }

    #[test]
    fn the_management_api_runs_where_no_other_machine_reaches_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postrider.conf");
        for (ip, runs) in [
            ("127.0.0.1", true),
            ("0.0.0.0", false),
            ("::1", true),
            ("::", false),
            ("::ffff:127.0.0.1", true),
            ("::ffff:192.0.2.1", false),
            ("192.0.2.1", false),
            ("127.0.0.9", true),
        ] {
            // The file of the run before is there.
            let text = static_conf(&path, ip.parse().unwrap(), 7).unwrap();
            let management = |port| runs.then_some(port);
            let expected = [management(1087), management(1450), Some(1087)];
            assert_eq!(services(&text), expected, "{ip}");
            std::fs::write(&path, text).unwrap();
        }
    }

    #[test]
    fn the_banner_names_the_pages_that_there_are() {
        let place = Place {
            dir: PathBuf::from("/dir"),
            conf: PathBuf::from("/dir/config/postrider.conf"),
            new: true,
            mended: Vec::new(),
        };
        for (ip, is_here) in [("127.0.0.1", true), ("192.0.2.1", false)] {
            let text = banner(&place, ip.parse().unwrap(), 7, false);
            for (path, is_named) in [("inbox", true), ("account", true), ("admin", is_here)] {
                for url in [
                    format!("http://{ip}:1087/{path}/"),
                    format!("https://{ip}:1450/{path}/"),
                ] {
                    assert_eq!(text.contains(&url), is_named, "{url}: {text}");
                }
            }
        }
    }

    #[test]
    fn the_file_of_an_older_version_gets_the_new_services_and_keeps_its_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("postrider.conf");
        let new = |line: &&str| !line.starts_with("admin_h") && !line.starts_with("metrics_h");
        let old: Vec<&str> = STATIC_CONF.lines().filter(new).collect();
        let old = old
            .join("\n")
            .replace("submissions = {", "# TLS from the start.\nsubmissions = {");
        std::fs::write(&path, format!("{old}\n")).unwrap();
        let text = static_conf(&path, [127, 0, 0, 1].into(), 0).unwrap();
        assert_eq!(services(&text), [Some(1080), Some(1443), Some(1080)]);
        for line in old.lines() {
            assert!(text.contains(line), "{line}");
        }
    }
}
