//! The texts of the files that quickstart writes. A person reads and edits them later.

use std::{fmt::Write as _, net::IpAddr, path::Path};

use postrider_smtp::{Address, Domain};

use super::findings::Facts;

/// The names of the keys that quickstart makes.
#[derive(Clone, Debug)]
pub(super) struct KeyFiles {
    /// Selectors with the paths of their files. The first two sign, the others wait.
    pub(super) dkim: Vec<(String, String)>,
    /// The files of the host keys below `hostkeys/`.
    pub(super) host: Vec<String>,
}

/// The server to write a configuration for.
#[derive(Clone, Debug)]
pub(super) struct Subject<'a> {
    /// The address of the person.
    pub(super) address: &'a Address,
    /// Its domain.
    pub(super) domain: &'a Domain,
    /// The name of the account.
    pub(super) account: &'a str,
    /// What was found out.
    pub(super) facts: &'a Facts,
    /// The keys.
    pub(super) keys: &'a KeyFiles,
    /// The id of the MTA-STS policy.
    pub(super) policy_id: &'a str,
}

/// A name in a key as TOML writes it.
fn name(text: &str) -> String {
    toml_edit::Key::new(text).display_repr().into_owned()
}

/// A string as TOML writes it.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| quoted(&item)).collect();
    format!("[{}]", items.join(", "))
}

fn addresses(addresses: &[IpAddr]) -> String {
    list(addresses.iter().map(IpAddr::to_string))
}

impl Subject<'_> {
    /// postrider.conf.
    pub(super) fn static_conf(&self) -> String {
        let facts = self.facts;
        let account = quoted(self.account);
        let contact = match self.address.local.as_str().is_ascii() {
            true => format!("{}@{}", self.address.local, self.domain.ascii()),
            false => format!("postmaster@{}", self.domain.ascii()),
        };
        let mut text = format!(
            "# The static configuration: a change takes effect at the next start.\n\
             # \"postrider config describe\" explains every key, \"postrider config test\" checks both files.\n\
             data_dir = \"../data\"\n\
             hostname = {hostname}\n\
             # The server begins as root, for the low ports, and goes on as this user.\n\
             user = \"postrider\"\n\
             admin_password_file = \"adminpasswd\"\n\
             log.level = \"info\"\n\
             \n\
             # Mail to postmaster goes to this account, and reports about TLS to this host.\n\
             [postmaster]\n\
             account = {account}\n\
             mailbox = \"Postmaster\"\n\
             \n",
            hostname = quoted(facts.hostname.ascii()),
        );
        text.push_str(
            "# MX hosts at addresses of this machine or of its network get no mail.\n\
             [delivery]\n\
             forbid_private_addresses = true\n\
             \n",
        );
        if facts.hostname == *self.domain {
            let _ = write!(text, "[host_tls_rpt]\naccount = {account}\n\n");
        }
        let acme = facts.web_ports_free;
        let off = if acme { "" } else { "#" };
        let _ = write!(
            text,
            "# Certificates come from this CA, by themselves.\n\
             {off}[acme.letsencrypt]\n\
             {off}directory_url = \"https://acme-v02.api.letsencrypt.org/directory\"\n\
             {off}contact_email = {contact}\n\
             \n\
             # The internet: mail from other servers, and applications over TLS.\n\
             [listeners.public]\n\
             ips = {ips}\n",
            contact = quoted(&contact),
            ips = addresses(&facts.listen),
        );
        if !facts.nat.is_empty() {
            let _ = writeln!(
                text,
                "# The router forwards these addresses to the ones above.\nnat_ips = {}",
                addresses(&facts.nat)
            );
        }
        let host_keys = self.keys.host.iter().map(|file| format!("hostkeys/{file}"));
        let _ = write!(
            text,
            "{tls}\
             # Lists of senders of spam. Many are free for small servers only: read their terms first.\n\
             #smtp = {{ enabled = true, dnsbls = [\"sbl.spamhaus.org\", \"bl.spamcop.net\"] }}\n\
             smtp.enabled = true\n\
             {off}submissions.enabled = true\n\
             {off}webapi_https.enabled = true\n\
             {off}autoconfig_https.enabled = true\n\
             {off}mta_sts_https.enabled = true\n\
             \n\
             # This machine only: the webapi without TLS, administration and metrics.\n\
             [listeners.internal]\n\
             ips = [\"127.0.0.1\"]\n\
             hostname = \"localhost\"\n\
             webapi_http = {{ enabled = true, port = {http} }}\n\
             account_http = {{ enabled = true, port = {http} }}\n\
             admin_http = {{ enabled = true, port = {http} }}\n\
             metrics_http = {{ enabled = true, port = 8010 }}\n",
            tls = match acme {
                true => format!(
                    "tls.acme = \"letsencrypt\"\n\
                     # The certificates of the host have these keys, so that TLSA records stay valid.\n\
                     tls.host_keys = {}\n",
                    list(host_keys)
                ),
                false => format!(
                    "# Another program has the ports 80 or 443, so ACME can't work. Name a certificate here,\n\
                     # and remove the # at the services below. Give other ports to services whose port is taken.\n\
                     #tls.certs = [{{ cert_file = \"/etc/ssl/{host}.pem\", key_file = \"/etc/ssl/{host}.key\" }}]\n",
                    host = facts.hostname.ascii()
                ),
            },
            http = if acme { 80 } else { 1080 },
        );
        text
    }

    /// domains.conf.
    pub(super) fn domains_conf(&self) -> String {
        let account = quoted(self.account);
        let domain = quoted(&self.domain.unicode());
        let signing = self.keys.dkim.iter().take(2).map(|(name, _)| name.clone());
        let mut text = format!(
            "# The dynamic configuration: a valid change takes effect when the file is saved, and an\n\
             # invalid one changes nothing. \"postrider config\" commands change it too, and keep comments.\n\
             \n\
             # DNSBL zones in which our own addresses are looked up daily.\n\
             monitor_dnsbls = [\"sbl.spamhaus.org\", \"bl.spamcop.net\"]\n\
             \n\
             [domains.{domain}]\n\
             {separators}\n\
             # Reports of other servers about mail of this domain.\n\
             dmarc.account = {account}\n\
             tls_rpt.account = {account}\n\
             \n\
             # The first two keys sign. The others wait for the next rotation (config dkim rotate).\n\
             [domains.{domain}.dkim]\n\
             sign = {signing}\n",
            signing = list(signing),
            separators = match self.address.local.as_str().contains('+') {
                // An address with a separator in it could not be found.
                true => "localpart_catchall_separators = []",
                false =>
                    "# Mail to user+anything comes to user.\nlocalpart_catchall_separators = [\"+\"]",
            },
        );
        for (selector, file) in &self.keys.dkim {
            let file = quoted(file);
            let _ = writeln!(
                text,
                "selectors.{} = {{ private_key_file = {file} }}",
                name(selector)
            );
        }
        if self.facts.web_ports_free {
            let _ = write!(
                text,
                "\n# Other servers must use TLS with these hosts (RFC 8461). Change the id with each change.\n\
                 [domains.{domain}.mta_sts]\n\
                 policy_id = {}\n\
                 mode = \"enforce\"\n\
                 max_age = \"24h\"\n\
                 mx = [{}]\n",
                quoted(self.policy_id),
                quoted(self.facts.hostname.ascii()),
            );
        }
        let _ = write!(
            text,
            "\n[accounts.{key}]\n\
             domain = {domain}\n\
             destinations.{address} = {{}}\n\
             # Sent messages and webhook calls stay in the history for a week.\n\
             keep_retired_message_period = \"168h\"\n\
             keep_retired_webhook_period = \"168h\"\n\
             \n\
             # To tell an application about each message: remove the #, set the URL, and save the file.\n\
             #[accounts.{key}.outgoing_webhook]\n\
             #url = \"https://app.example.com/outgoing\"\n",
            key = name(self.account),
            address = quoted(&self.address.to_string()),
        );
        text
    }
}

/// The unit for systemd. `DIR` is the folder with `config` and `data`.
pub(super) fn unit(dir: &Path, program: &Path) -> String {
    let home = match dir.starts_with("/home") || dir.starts_with("/root") {
        true => "",
        false => "ProtectHome=yes\n",
    };
    let dir = dir.display();
    format!(
        "[Unit]\n\
         Description=postrider mail server\n\
         Documentation=https://github.com/postrider/postrider\n\
         After=network-online.target\n\
         Wants=network-online.target\n\
         \n\
         [Service]\n\
         Type=notify\n\
         WorkingDirectory={dir}\n\
         ExecStart={program} --config {dir}/config/postrider.conf serve\n\
         ExecReload=kill -HUP $MAINPID\n\
         Restart=always\n\
         RestartSec=2\n\
         WatchdogSec=60\n\
         User=postrider\n\
         UMask=0077\n\
         LimitNOFILE=262144\n\
         \n\
         # The rest takes away what a mail server does not need.\n\
         AmbientCapabilities=CAP_NET_BIND_SERVICE\n\
         CapabilityBoundingSet=CAP_NET_BIND_SERVICE\n\
         NoNewPrivileges=yes\n\
         ProtectSystem=strict\n\
         ReadWritePaths={dir}/config {dir}/data\n\
         {home}\
         PrivateTmp=yes\n\
         PrivateDevices=yes\n\
         ProtectKernelTunables=yes\n\
         ProtectKernelModules=yes\n\
         ProtectKernelLogs=yes\n\
         ProtectControlGroups=yes\n\
         ProtectClock=yes\n\
         ProtectHostname=yes\n\
         ProtectProc=invisible\n\
         ProcSubset=pid\n\
         RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK\n\
         RestrictNamespaces=yes\n\
         RestrictRealtime=yes\n\
         RestrictSUIDSGID=yes\n\
         LockPersonality=yes\n\
         MemoryDenyWriteExecute=yes\n\
         RemoveIPC=yes\n\
         SystemCallArchitectures=native\n\
         SystemCallErrorNumber=EPERM\n\
         SystemCallFilter=@system-service\n\
         SystemCallFilter=~@privileged @resources\n\
         SystemCallFilter=capset landlock_create_ruleset landlock_add_rule landlock_restrict_self seccomp\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        program = program.display(),
    )
}
