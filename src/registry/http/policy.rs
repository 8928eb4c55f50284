//! Which addresses requests may reach.

use std::collections::BTreeSet;

use super::{Url, address::AddressClass};

/// Which addresses a client's requests may reach. It is applied when a connection is made, after the name has been resolved. A proxy
/// resolves names itself, so behind one it applies to address literals only.
///
/// Addresses have four classes, from public to most private: the Internet, private networks, this machine, link-local and cloud metadata.
/// By default a registry may have any address, and its redirects and token servers may not be more private than itself.
///
/// ```
/// use layerslayer::{AddressPolicy, Client};
///
/// let policy = AddressPolicy::new().allow_host("storage.internal");
/// let client = Client::builder().address_policy(policy).build()?;
/// # let _ = client;
/// # Ok::<(), layerslayer::Error>(())
/// ```
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct AddressPolicy {
    allowed_hosts: BTreeSet<String>,
    is_public_only: bool,
}

impl AddressPolicy {
    /// The default policy.
    ///
    /// ```
    /// assert_eq!(layerslayer::AddressPolicy::new(), layerslayer::AddressPolicy::default());
    /// ```
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets redirects and token servers at this host, without a port, have any address.
    ///
    /// ```
    /// let policy = layerslayer::AddressPolicy::new().allow_host("10.0.0.7");
    /// assert_ne!(policy, layerslayer::AddressPolicy::new());
    /// ```
    #[must_use]
    pub fn allow_host(mut self, host: impl Into<String>) -> Self {
        self.allowed_hosts.insert(name(&host.into()));
        self
    }

    /// Requires public addresses, also of registries. For services that read images which strangers name.
    ///
    /// ```
    /// let policy = layerslayer::AddressPolicy::new().public_only();
    /// assert_ne!(policy, layerslayer::AddressPolicy::new());
    /// ```
    #[must_use]
    pub fn public_only(mut self) -> Self {
        self.is_public_only = true;
        self
    }

    /// The least public class that a registry may have.
    pub(in crate::registry) fn registry_class(&self, registry: &Url) -> AddressClass {
        match self.is_public_only && !self.allows(registry) {
            true => AddressClass::Public,
            false => AddressClass::LinkLocal,
        }
    }

    /// The least public class that a redirect's target or a token server may have, of a registry of this class; `None` behind a proxy.
    pub(in crate::registry) fn target_class(
        &self,
        target: &Url,
        registry: Option<AddressClass>,
    ) -> AddressClass {
        match registry {
            _ if self.allows(target) => AddressClass::LinkLocal,
            Some(class) if !self.is_public_only => class,
            _ => AddressClass::Public,
        }
    }

    fn allows(&self, url: &Url) -> bool {
        url.host_str().is_some_and(|host| self.allowed_hosts.contains(&name(host)))
    }
}

/// A host as it is compared.
fn name(host: &str) -> String {
    host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn a_target_may_not_be_more_private_than_its_registry_unless_its_host_is_allowed() {
        let policy = AddressPolicy::new().allow_host("Storage.internal.").allow_host("[fd00::1]");
        for class in AddressClass::ALL {
            assert_eq!(policy.target_class(&url("https://a.b/x"), Some(class)), class);
            assert_eq!(
                policy.target_class(&url("https://storage.internal:9000/x"), Some(class)),
                AddressClass::LinkLocal
            );
            assert_eq!(policy.target_class(&url("https://[fd00::1]/"), Some(class)), AddressClass::LinkLocal);
            assert_eq!(policy.target_class(&url("https://x.storage.internal/"), Some(class)), class);
        }
        assert_eq!(policy.target_class(&url("https://a.b/"), None), AddressClass::Public);
        assert_eq!(policy.registry_class(&url("https://a.b/")), AddressClass::LinkLocal);
    }

    #[test]
    fn a_policy_for_services_requires_public_addresses_also_of_registries() {
        let policy = AddressPolicy::new().public_only().allow_host("own.example");
        assert_eq!(policy.registry_class(&url("http://localhost:5000/")), AddressClass::Public);
        assert_eq!(
            policy.target_class(&url("https://a.b/"), Some(AddressClass::Private)),
            AddressClass::Public
        );
        assert_eq!(policy.registry_class(&url("https://own.example/")), AddressClass::LinkLocal);
    }
}
