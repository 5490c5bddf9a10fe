//! Configuration files from templates: `@{name}` becomes a value.
//!
//! Nothing but plain replacement, because what is rendered is YAML, JSON and TOML alike. An
//! unknown name is an error, so that a typing mistake does not reach a component.

use coracle_protocol::guest::{GuestConfig, NODE_PREFIX};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Values by name.
pub type Values = BTreeMap<String, String>;

/// Why a template could not be rendered.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RenderError {
    /// A name that has no value.
    #[error("line {line}: there is no value for @{{{name}}}")]
    Unknown {
        /// The name.
        name: String,
        /// Counted from 1.
        line: usize,
    },
    /// `@{` without `}`.
    #[error("line {line}: @{{ is not closed")]
    Open {
        /// Counted from 1.
        line: usize,
    },
    /// A network of the settings is not a CIDR.
    #[error("{name} is {value}, which is not an IPv4 network such as 10.244.0.0/16")]
    Network {
        /// Which setting.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

/// Replaces every `@{name}`.
pub fn fill(template: &str, values: &Values) -> Result<String, RenderError> {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find("@{") {
        let line = || {
            template[..template.len() - rest.len() + start]
                .matches('\n')
                .count()
                + 1
        };
        let (before, after) = (&rest[..start], &rest[start + 2..]);
        let end = after
            .find('}')
            .ok_or_else(|| RenderError::Open { line: line() })?;
        let name = &after[..end];
        let value = values.get(name).ok_or_else(|| RenderError::Unknown {
            name: name.to_owned(),
            line: line(),
        })?;
        text.push_str(before);
        text.push_str(value);
        rest = &after[end + 1..];
    }
    text.push_str(rest);
    Ok(text)
}

/// The values that settings give: the machine's, and with Kubernetes the cluster's.
pub fn values(config: &GuestConfig) -> Result<Values, RenderError> {
    let mut values = Values::new();
    let mut set = |name: &str, value: String| values.insert(name.to_owned(), value);
    set("hostname", config.hostname.clone());
    set("address", config.network.address.to_string());
    // Where the host is.
    set("gateway", config.network.gateway.to_string());
    if let Some(kubernetes) = &config.kubernetes {
        let (network, prefix) = cidr("pod_cidr", &kubernetes.pod_cidr)?;
        cidr("service_cidr", &kubernetes.service_cidr)?;
        // The controller manager hands out the first subnet of this size to the one node.
        let mask = prefix.max(NODE_PREFIX);
        set("pod_cidr", kubernetes.pod_cidr.clone());
        set("node_pod_cidr", format!("{network}/{mask}"));
        set("node_pod_cidr_mask", mask.to_string());
        set("service_cidr", kubernetes.service_cidr.clone());
        set("dns_domain", kubernetes.dns_domain.clone());
        set("dns_address", kubernetes.dns_address.to_string());
    }
    Ok(values)
}

fn cidr(name: &'static str, value: &str) -> Result<(Ipv4Addr, u8), RenderError> {
    let wrong = || RenderError::Network {
        name,
        value: value.to_owned(),
    };
    let (address, prefix) = value.split_once('/').ok_or_else(wrong)?;
    let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
    let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
    if prefix == 0 || prefix > 30 {
        return Err(wrong());
    }
    let mask = u32::MAX << (32 - u32::from(prefix));
    Ok((Ipv4Addr::from(u32::from(address) & mask), prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Values {
        [("a", "1"), ("b_c", "2")]
            .map(|(name, value)| (name.into(), value.into()))
            .into()
    }

    #[test]
    fn names_become_values_and_the_rest_stays() {
        let template = "x: @{a}\n{\"y\": \"${b_c} @{b_c}@{a}\"} mail@host";
        assert_eq!(
            fill(template, &two()).unwrap(),
            "x: 1\n{\"y\": \"${b_c} 21\"} mail@host"
        );
    }

    #[test]
    fn mistakes_name_their_line() {
        let unknown = RenderError::Unknown {
            name: "z".into(),
            line: 2,
        };
        assert_eq!(fill("@{a}\n@{z}", &two()), Err(unknown));
        assert_eq!(fill("\n\n@{a", &two()), Err(RenderError::Open { line: 3 }));
    }

    #[test]
    fn networks_are_checked_and_masked() {
        assert_eq!(
            cidr("pod_cidr", "10.244.3.9/16").unwrap(),
            ([10, 244, 0, 0].into(), 16)
        );
        for wrong in ["10.244.0.0", "10.244.0.0/33", "fd00::/64", "10.0.0.0/0", ""] {
            assert!(cidr("pod_cidr", wrong).is_err(), "{wrong}");
        }
    }
}
