//! The running server: a value that starts, stops, and holds everything together.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
use postrider_admin::{
    self as admin,
    face::{http::Management, mail::MailApi, pages::Pages, socket},
    op::{config::file::keep_versions, metrics::keep_points, passwords},
};
use postrider_config::{DomainsFile, Dynamic, Listener, Live, ReadAgain, Static, Watcher};
use postrider_dns::Resolver;
use postrider_observe::{
    Metrics,
    log::Log,
    metrics::{self, Build, ConfigFile},
};
use postrider_queue::{Dialer, Mailboxes, TcpDialer, TrackingKey};
use postrider_receive::{LocalMailboxes, MxRules, Reports, SessionContext};
use postrider_store::{Clock, Store, SystemClock};
use postrider_webapi::{HostNames, UnsubscribeKey, Webapi, WebapiParts};
use postrider_webhook::Runner;
use tokio::{net::UnixListener, sync::watch, task::JoinSet};
use tracing::{error, info, warn};

use crate::{
    acme::{self, Acme, Challenges},
    background::Background,
    expiry::expire_history,
    gate::{Gate, Kind},
    http::{self, RequestCounts},
    listener::{Entrance, RefusedConnections},
    loads,
    otlp::Exporting,
    prepared::Prepared,
    resolvers::resolvers,
    service_manager,
    services::{self, Apis, Bound, HttpPort, Service, Services},
    sessions::{self, OnHttps, Sessions},
    shared::{hook_runner, reports, session_context},
    tls::{HandshakeFailures, ListenerCertificates},
    told,
    traces::Tracing,
};

/// The interval between two checks of certificates.
const HOUSEKEEPING: Duration = Duration::from_secs(60);
/// The time after which the log says that the stop waits for sessions and deliveries.
const STOP_QUIETLY: Duration = Duration::from_secs(1);
/// The time that sessions and deliveries have to end when the server stops.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// This program. Who builds it may say of which commit.
const BUILD: Build = Build {
    version: env!("CARGO_PKG_VERSION"),
    commit: match option_env!("POSTRIDER_COMMIT") {
        Some(commit) => commit,
        None => "unknown",
    },
};

/// The parts of a server. Tests pass their own clock, resolver and dialer.
pub struct Options {
    /// The static configuration.
    pub statics: Static,
    /// The dynamic configuration at the start.
    pub dynamic: Dynamic,
    /// The file of the dynamic configuration. The server reloads it when it changes.
    pub dynamic_path: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The DNS resolver. None: the resolver that the configuration describes.
    pub resolver: Option<Arc<dyn Resolver>>,
    /// The dialer for connections to other mail servers.
    pub dialer: Arc<dyn Dialer>,
    /// The ways of localserve. None: a production server.
    pub local: Option<Local>,
    /// The log, for the management API.
    pub logs: Log,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Look each hour whether DNS has what it should have, for the metrics.
    pub watch_records: bool,
}

/// The ways of localserve.
#[derive(Clone, Debug, Default)]
pub struct Local {
    /// Messages go to the mail servers of the recipients. Without it, nothing leaves this machine.
    pub deliver: bool,
    /// The names by which HTTP clients reach the server, beside those of a production server.
    pub hosts: HostNames,
}

impl Options {
    pub(crate) fn simulate(&self) -> bool {
        self.local.as_ref().is_some_and(|local| !local.deliver)
    }
}

impl Options {
    /// The parts of a production server.
    #[must_use]
    pub fn new(statics: Static, dynamic: Dynamic, dynamic_path: PathBuf) -> Self {
        Self {
            statics,
            dynamic,
            dynamic_path,
            clock: Arc::new(SystemClock),
            resolver: None,
            dialer: Arc::new(TcpDialer),
            local: None,
            logs: Log::default(),
            metrics: Arc::new(Metrics::new(BUILD)),
            watch_records: false,
        }
    }
}

/// A running server.
pub struct Server {
    shared: SessionContext,
    addresses: Vec<(String, SocketAddr)>,
    certificates: ListenerCertificates,
    logs: Log,
    tracing: Tracing,
    exporting: Exporting,
    domains_conf: ReadAgain,
    gate: Arc<Gate>,
    handshakes: Arc<HandshakeFailures>,
    reports: Arc<Reports>,
    shutdown: watch::Sender<bool>,
    tasks: JoinSet<()>,
    begun: Instant,
}

impl Server {
    /// Binds the sockets, opens the store, and begins to serve.
    ///
    /// # Errors
    /// If a port, a certificate, a folder or the store can't be used. Nothing runs then.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        Self::start_prepared(Prepared::new(options)?).await
    }

    /// Opens the store, and begins to serve with sockets that are bound.
    ///
    /// # Errors
    /// If a folder or the store can't be used. Nothing runs then.
    pub async fn start_prepared(prepared: Prepared) -> anyhow::Result<Self> {
        let Prepared {
            options,
            connections,
            bound,
            acme,
        } = prepared;
        let (store, control) = open_store(&options.statics, &options.metrics).await?;
        told::stops(&store).await?;
        told::configuration(&options.statics, &options.dynamic);
        let (local, dynamic_path) = (options.local.clone(), options.dynamic_path.clone());
        let (logs, watch_records) = (options.logs.clone(), options.watch_records);
        let (resolver, dialer) = (options.resolver.clone(), Arc::clone(&options.dialer));
        let (config, metrics) = (&options.statics.resolver, &options.metrics);
        logs.count_in(Arc::clone(metrics));
        let resolvers = resolvers(config, &options.clock, resolver, metrics)?;
        let tracing = Tracing::start(&options.statics, metrics, &options.clock);
        let shared = session_context(options, store, tracing.tracer.clone(), &resolvers)?;
        let hooks = hook_runner(&shared)?;
        let shutdown = watch::Sender::new(false);
        let unsubscribe_key = UnsubscribeKey::load(&shared.statics.data_dir)?;
        let tracking_key = TrackingKey::of_secret(unsubscribe_key.bytes());
        shared.queue.use_tracking_key(tracking_key);
        let webapi = Webapi::new(WebapiParts {
            store: shared.store.clone(),
            queue: Arc::clone(&shared.queue),
            config: Arc::clone(&shared.config),
            logins: Arc::clone(&shared.logins),
            limiter: Arc::clone(&shared.limiter),
            clock: Arc::clone(&shared.clock),
            metrics: Arc::clone(&shared.metrics),
            hooks: Arc::clone(&shared.hooks),
            unsubscribe_key,
            stopping: shutdown.subscribe(),
            statics: Arc::clone(&shared.statics),
        });
        let domains = Arc::new(DomainsFile::new(
            dynamic_path,
            Arc::clone(&shared.statics),
            Arc::clone(&shared.config),
        ));
        let watcher = Watcher::new(Arc::clone(&domains));
        let (applied, outcomes) = (domains.applied(), watcher.outcomes());
        let kinds: Vec<Kind> = bound.iter().flat_map(Bound::kinds).collect();
        let per_network = shared.statics.limits.connections_per_network;
        let mut server = Self {
            gate: Gate::new(connections, per_network, &kinds),
            handshakes: Arc::new(HandshakeFailures::new(Arc::clone(&shared.metrics))),
            reports: reports(&shared),
            addresses: Vec::new(),
            certificates: ListenerCertificates::of(&bound, acme.as_ref().map(Acme::ends)),
            exporting: Exporting::start(&shared.statics, &logs, &tracing.traces, &shared.clock)?,
            shared,
            logs,
            tracing,
            domains_conf: watcher.read_again(),
            shutdown,
            tasks: JoinSet::new(),
            begun: Instant::now(),
        };
        let challenges = acme.as_ref().map(|acme| Arc::clone(acme.challenges()));
        if let Some(acme) = acme {
            server
                .spawn_acme(acme, Arc::clone(&resolvers.fresh))
                .await?;
        }
        let asked = (resolvers.fresh, resolvers.checks);
        let admin = server.admin_context(&hooks, domains, asked, dialer);
        let apis = Apis {
            webapi,
            management: Management::new(admin.clone(), server.shutdown.subscribe()),
            mail_api: MailApi::new(admin.clone()),
            pages: Pages::new(admin.clone(), server.shutdown.subscribe()),
        };
        server.follow_config(applied);
        let background = Background {
            shared: &server.shared,
            validating: resolvers.validating,
            outcomes,
            records: watch_records.then(|| admin.clone()),
        };
        background.spawn(&mut server.tasks, &server.shutdown);
        server.spawn_workers(control, admin, hooks, watcher);
        server.spawn_services(bound, &apis, local.as_ref(), challenges.as_ref())?;
        Ok(server)
    }

    /// Tells the queue when another configuration was put in force.
    fn follow_config(&mut self, mut applied: watch::Receiver<()>) {
        let queue = Arc::clone(&self.shared.queue);
        let mut stop = self.shutdown.subscribe();
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    Ok(()) = applied.changed() => queue.follow_config(),
                    _ = stop.wait_for(|stop| *stop) => return,
                }
            }
        });
    }

    /// Takes the certificates of the store, and begins to get those that are missing.
    async fn spawn_acme(&mut self, acme: Acme, resolver: Arc<dyn Resolver>) -> anyhow::Result<()> {
        let shared = &self.shared;
        acme.load(&shared.store, shared.clock.now()).await?;
        let parts = acme::WorkerParts {
            acme,
            statics: Arc::clone(&shared.statics),
            config: Arc::clone(&shared.config),
            store: shared.store.clone(),
            clock: Arc::clone(&shared.clock),
            resolver,
            metrics: Arc::clone(&shared.metrics),
        };
        let (https, http) = services::challenge_ports(&shared.statics);
        let worker = acme::Worker::new(parts, (&https, &http)).await?;
        self.tasks.spawn(worker.run(self.shutdown.subscribe()));
        Ok(())
    }

    /// The services, each as `LISTENER.SERVICE` with its address.
    #[must_use]
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// The address of the first service with this name, for example `smtp`.
    #[must_use]
    pub fn address(&self, service: &str) -> Option<SocketAddr> {
        let suffix = format!(".{service}");
        self.addresses
            .iter()
            .find(|(name, _)| name.ends_with(&suffix))
            .map(|(_, address)| *address)
    }

    /// The number of open connections, SMTP and HTTP together.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.gate.connections()
    }

    /// The TLS handshakes that failed since the start, by kind.
    #[must_use]
    pub fn handshake_failures(&self) -> &HandshakeFailures {
        &self.handshakes
    }

    /// The store.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.shared.store
    }

    /// The dynamic configuration as it is now.
    #[must_use]
    pub const fn config(&self) -> &Live {
        &self.shared.config
    }

    /// Reads domains.conf, the certificates and the keys again, even if no file has changed. Files
    /// with errors change nothing. The log has the outcome. A change of postrider.conf takes effect
    /// at the next start; the log says if there is one.
    pub fn read_again(&self) {
        self.domains_conf.ask();
        for certificates in self.certificates.iter() {
            certificates.read_again();
        }
        let statics = &self.shared.statics;
        match Static::load(&statics.path) {
            Ok(read) => {
                loads::note(&self.shared.metrics, ConfigFile::Postrider, true);
                if read != **statics {
                    warn!(
                        file = %statics.path.display(),
                        "configuration changed: takes effect at the next start"
                    );
                }
            }
            Err(errors) => {
                loads::note(&self.shared.metrics, ConfigFile::Postrider, false);
                for problem in &errors {
                    error!(
                        file = %problem.file.display(), line = problem.line, key = problem.key,
                        error = problem.message, "configuration refused"
                    );
                }
            }
        }
    }

    /// Sets the password of an account that has none.
    ///
    /// # Errors
    /// If the account is unknown or the store can't take it.
    pub async fn ensure_password(&self, account: &str, password: &str) -> anyhow::Result<()> {
        if self.shared.store.credential(account).await?.is_none() {
            let config = self.shared.dynamic();
            let now = self.shared.clock.now();
            let logins = Some(&*self.shared.logins);
            passwords::set_account_password(
                &self.shared.store,
                logins,
                &config,
                account,
                password,
                now,
            )
            .await?;
        }
        Ok(())
    }

    /// Logs that the server has started, and where it listens.
    pub fn tell_started(&self) {
        told::started(&self.shared.statics, &self.addresses);
    }

    /// Stops in order: it accepts no new connections, waits for sessions and deliveries, closes the
    /// store, and sends the last lines and traces to the collector.
    pub async fn stop(mut self) {
        let _ = self.shutdown.send(true);
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        let patience = async {
            tokio::time::sleep(STOP_QUIETLY).await;
            info!(
                seconds = STOP_WITHIN.as_secs(),
                "stopping: waits for what is under way"
            );
            tokio::time::sleep(STOP_WITHIN - STOP_QUIETLY).await;
        };
        let ended = tokio::select! {
            () = all_ended => true,
            () = patience => false,
        };
        if !ended {
            warn!("sessions cut off: they did not end in time");
            self.tasks.shutdown().await;
        }
        self.shared.store.close().await;
        self.tracing.end().await;
        self.exporting.end().await;
        let seconds = self.begun.elapsed().as_secs();
        info!(seconds, "stopped");
    }

    /// The parts that the operations of administrators work on.
    fn admin_context(
        &self,
        hooks: &Runner,
        domains: Arc<DomainsFile>,
        (resolver, checks): (Arc<dyn Resolver>, Arc<dyn Resolver>),
        dialer: Arc<dyn Dialer>,
    ) -> admin::Context {
        let shared = &self.shared;
        admin::Context {
            store: shared.store.clone(),
            queue: Arc::clone(&shared.queue),
            logins: Arc::clone(&shared.logins),
            limiter: Arc::clone(&shared.limiter),
            statics: Arc::clone(&shared.statics),
            config: Arc::clone(&shared.config),
            resolver,
            checks,
            dialer,
            hooks: Arc::clone(&shared.hooks),
            reports: Arc::clone(&self.reports),
            webhooks: Arc::new(hooks.operator()),
            domains,
            logs: self.logs.clone(),
            traces: self.tracing.traces.clone(),
            refusals: Arc::clone(&shared.guards.refusals),
            metrics: Arc::clone(&shared.metrics),
            figures: Arc::default(),
            verdicts: Arc::default(),
            certificates: Arc::new(self.certificates.clone()),
            clock: Arc::clone(&shared.clock),
            caller: admin::Caller::default(),
        }
    }

    fn spawn_workers(
        &mut self,
        control: UnixListener,
        admin: admin::Context,
        hooks: Runner,
        watcher: Watcher,
    ) {
        let shared = &self.shared;
        let stop = || self.shutdown.subscribe();
        self.tasks.spawn(keep_points(admin.clone(), stop()));
        self.tasks.spawn(keep_versions(admin.clone(), stop()));
        self.tasks.spawn(socket::serve(control, admin, stop()));
        let (queue, stopped) = (Arc::clone(&shared.queue), stop());
        let mailboxes: Arc<dyn Mailboxes> = Arc::new(LocalMailboxes::new(shared.clone()));
        queue.use_mailboxes(&mailboxes);
        self.tasks.spawn(async move {
            queue.run(stopped).await;
            drop(mailboxes);
        });
        self.tasks.spawn(hooks.run(stop()));
        self.tasks.spawn(Arc::clone(&self.reports).run(stop()));
        self.tasks.spawn(watcher.run(stop()));
        let store = shared.store.clone();
        self.tasks.spawn(service_manager::watchdog(store, stop()));
        self.tasks.spawn(expire_history(
            shared.store.clone(),
            Arc::clone(&shared.clock),
            stop(),
        ));
    }

    fn spawn_services(
        &mut self,
        bound: Vec<Bound>,
        apis: &Apis,
        local: Option<&Local>,
        challenges: Option<&Arc<Challenges>>,
    ) -> anyhow::Result<()> {
        let hosts = local.map(|local| local.hosts.clone());
        for bound in bound {
            if let Some(certificates) = bound.files() {
                certificates.warn(SystemTime::now());
                let (certificates, stop) = (Arc::clone(certificates), self.shutdown.subscribe());
                self.tasks
                    .spawn(every(HOUSEKEEPING, stop, move || certificates.reload()));
            }
            let tickets = bound.tickets()?;
            let Bound {
                name,
                listener,
                ports,
                certificates,
            } = bound;
            for (services, socket) in ports {
                let socket = socket.listen()?;
                let address = socket.local_addr()?;
                for service in services.all() {
                    self.addresses
                        .push((format!("{name}.{}", service.name()), address));
                }
                let tls = services.tls_config(
                    &listener,
                    certificates.as_ref(),
                    tickets.as_ref(),
                    challenges,
                )?;
                let stop = self.shutdown.subscribe();
                let on_https = services.is_submission_on_https(&listener);
                let services = match services {
                    Services::Smtp(service) => {
                        let sessions = self.sessions((&name, &listener), service, tls, local);
                        let entrance = self.entrance(&listener, service);
                        self.tasks.spawn(sessions.serve(socket, entrance, stop));
                        continue;
                    }
                    Services::Http(services) => services,
                };
                let service = match tls.is_some() {
                    true => metrics::Listener::Https,
                    false => metrics::Listener::Http,
                };
                let counts = (&self.shared.metrics, service);
                let behind_proxy = services::behind_proxy(&services, &listener);
                let door = self.gate.door(Kind::Http, behind_proxy, counts);
                let submission = on_https.then(|| {
                    let service = Service::Submissions;
                    OnHttps {
                        sessions: self.sessions((&name, &listener), service, None, local),
                        door: self.entrance(&listener, service).door,
                        refusals: self.refused_connections(service),
                    }
                });
                let port = http::Port {
                    entrance: http::entrance(door, &listener.proxy_from, tls.is_some()),
                    tls,
                    handshakes: Arc::clone(&self.handshakes),
                    requests: Arc::new(RequestCounts {
                        metrics: Arc::clone(&self.shared.metrics),
                        paths: services::paths(&services, &listener),
                    }),
                    submission: submission.map(Arc::new),
                };
                let router = HttpPort {
                    listener: &listener,
                    services: &services,
                    hosts: hosts.clone(),
                    challenges: challenges.cloned(),
                };
                let router = router.router(&self.shared, apis);
                self.tasks.spawn(http::serve(socket, port, router, stop));
            }
        }
        Ok(())
    }

    /// The rules for connections to a service over SMTP.
    fn entrance(&self, listener: &Listener, service: Service) -> Entrance {
        let counts = (&self.shared.metrics, service.label());
        let door = self.gate.door(service.kind(), false, counts);
        Entrance {
            door: door.exempting(listener.xclient_from.clone().into()),
            proxies: listener.proxy_from.clone().into(),
            refusal: sessions::refusal(service),
            refusals: Some(self.refused_connections(service)),
        }
    }

    /// Where the refused connections of a service over SMTP are counted.
    fn refused_connections(&self, service: Service) -> RefusedConnections {
        RefusedConnections {
            counts: Arc::clone(&self.shared.guards.refusals),
            metrics: Arc::clone(&self.shared.metrics),
            tracer: self.shared.tracer.clone(),
            clock: Arc::clone(&self.shared.clock),
            listener: service.label(),
            service: match service {
                Service::Smtp => metrics::Service::Smtp,
                _ => metrics::Service::Submission,
            },
        }
    }

    /// The sessions of a service over SMTP.
    fn sessions(
        &self,
        (name, listener): (&str, &Listener),
        service: Service,
        tls: Option<Arc<rustls::ServerConfig>>,
        local: Option<&Local>,
    ) -> Sessions {
        let mut config = services::session_config(&self.shared.statics, listener, service);
        if local.is_some() && service == Service::Smtp {
            services::allow_logins(&mut config);
        }
        config.ask_hello = self.shared.hooks.ask_about_hello(name);
        Sessions {
            shared: self.shared.clone(),
            service,
            listener: name.into(),
            hostname: listener.hostname.ascii().to_owned(),
            config: Arc::new(config),
            tls,
            rules: MxRules {
                dnsbls: listener.smtp.dnsbls.clone().into(),
                require_starttls: listener.smtp.require_starttls,
            },
            xclient_from: listener.xclient_from.clone().into(),
            handshakes: Arc::clone(&self.handshakes),
        }
    }
}

/// Opens the store and makes the control socket beside it.
async fn open_store(
    statics: &Static,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<(Store, UnixListener)> {
    let options = postrider_store::Options {
        metrics: Arc::clone(metrics),
        ..services::store_options(statics)
    };
    let store = tokio::task::spawn_blocking(move || Store::open(options)).await??;
    let control = socket::bind(&statics.data_dir).with_context(|| {
        format!(
            "failed to make the control socket in {}",
            statics.data_dir.display()
        )
    })?;
    Ok((store, control))
}

/// Calls `work` every `period` until the server stops.
async fn every(period: Duration, mut stop: watch::Receiver<bool>, mut work: impl FnMut()) {
    while tokio::time::timeout(period, stop.wait_for(|stop| *stop))
        .await
        .is_err()
    {
        work();
    }
}
