//! Addresses, paths and domains: a parsed value can be written, and parses to the same value.

use postrider_smtp::{Address, Domain, ForwardPath, Host, LocalPart, ReversePath};

/// Fails where this does not hold.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(address) = Address::parse(text) {
        assert_eq!(
            Address::parse(&address.to_string()).as_ref(),
            Ok(&address),
            "{address}"
        );
        assert_eq!(
            Address::parse(&address.unicode()).as_ref(),
            Ok(&address),
            "{}",
            address.unicode()
        );
        assert!(
            !address.to_string().contains(['\r', '\n', '\0', '<', '>'])
                || address.to_string().contains('"')
        );
        assert!(!address.is_ascii() || address.to_string().is_ascii());
    }
    if let Ok(domain) = Domain::parse(text) {
        assert!(domain.ascii().is_ascii() && domain.ascii().len() <= 255);
        assert_eq!(Domain::parse(domain.ascii()).as_ref(), Ok(&domain));
        assert_eq!(Domain::parse(&domain.unicode()).as_ref(), Ok(&domain));
    }
    if let Ok(host) = Host::parse(text) {
        assert_eq!(Host::parse(&host.to_string()).as_ref(), Ok(&host));
        assert_eq!(Host::parse(&host.ascii()).as_ref(), Ok(&host));
    }
    if let Ok(local) = LocalPart::parse(text) {
        assert_eq!(LocalPart::parse(&local.to_string()).as_ref(), Ok(&local));
        assert_eq!(LocalPart::from_decoded(local.as_str()).as_ref(), Ok(&local));
    }
    if let Ok(path) = ReversePath::parse(text) {
        assert_eq!(ReversePath::parse(&path.to_string()).as_ref(), Ok(&path));
    }
    if let Ok(path) = ForwardPath::parse(text) {
        assert_eq!(ForwardPath::parse(&path.to_string()).as_ref(), Ok(&path));
    }
}
