//! The web pages of a port.

use std::sync::Arc;

use postrider_admin::face::pages;
use postrider_receive::SessionContext;

use super::{HttpPort, INBOX, Service};

impl HttpPort<'_> {
    /// The web pages of the port.
    pub(super) fn pages(&self, shared: &SessionContext) -> pages::Endpoint {
        let pair = |http: Service, https: Service| {
            let mut services = [http, https].into_iter();
            let found = services.find(|service| self.services.contains(service));
            found.and_then(|service| service.http(self.listener))
        };
        let admin = pair(Service::AdminHttp, Service::AdminHttps);
        let account = pair(Service::AccountHttp, Service::AccountHttps);
        let webapi = pair(Service::WebapiHttp, Service::WebapiHttps);
        let any = admin.or(account).or(webapi);
        let hosts = self.hosts.clone().unwrap_or_default();
        let hostname = self.listener.hostname.clone();
        let config = Arc::clone(&shared.config);
        pages::Endpoint {
            admin: admin.map(|http| http.path.clone()),
            account: account.map(|http| http.path.clone()),
            inbox: (self.hosts.is_some() && webapi.is_some()).then(|| INBOX.to_owned()),
            tls: self.services.iter().any(|service| service.is_https()),
            forwarded_hops: any.map_or(0, |http| http.forwarded_hops),
            knows_host: Arc::new(move |host| hosts.knows(&hostname, &config.load(), host)),
        }
    }
}
