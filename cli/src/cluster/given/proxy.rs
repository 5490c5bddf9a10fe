//! The host's proxy as the machine is to use it.

use crate::cluster::boot::GuestNetworkAddresses;
use crate::cluster::spec::ClusterSpec;
use crate::error::{Error, ErrorId, Result};
use crate::settings::ProxyVariables;
use coracle_protocol::given::{HOST_NAMES, Proxy};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What may stand in front of `://`: what the programs inside can use.
const SCHEMES: [&str; 4] = ["http", "https", "socks5", "socks5h"];

/// The proxy of the environment with what must not go through it; None without one.
///
/// # Errors
/// A value is no URL of a proxy. The error names the variable and not its value, which may hold a
/// password.
pub fn of(
    variables: &ProxyVariables,
    spec: &ClusterSpec,
    network: &GuestNetworkAddresses,
) -> Result<Option<Proxy>> {
    let url = |name: &str, value: &Option<String>| -> Result<Option<String>> {
        let url = read(name, value)?;
        Ok(url.map(|url| url.seen_from_guest(network.gateway).text()))
    };
    let (http, https) = (
        url("HTTP_PROXY", &variables.http)?,
        url("HTTPS_PROXY", &variables.https)?,
    );
    if http.is_none() && https.is_none() {
        return Ok(None);
    }
    let exceptions = exceptions(variables.exceptions.as_deref(), spec, network);
    Ok(Some(Proxy {
        http,
        https,
        exceptions,
    }))
}

/// Whether the values are URLs of proxies.
///
/// # Errors
/// As [`of`].
pub fn check(variables: &ProxyVariables) -> Result<()> {
    read("HTTP_PROXY", &variables.http)?;
    read("HTTPS_PROXY", &variables.https)?;
    Ok(())
}

fn read<'a>(name: &str, value: &'a Option<String>) -> Result<Option<Url<'a>>> {
    let Some(value) = value else { return Ok(None) };
    let url = Url::parse(value).ok_or_else(|| {
        Error::new(
            ErrorId::ProxyInvalid,
            format!("the variable {name} holds no URL of a proxy"),
        )
    })?;
    Ok(Some(url))
}

/// One line about it, without its password.
pub fn said(proxy: &Proxy, network: &GuestNetworkAddresses) -> String {
    let shown = |url: &Option<String>| {
        let url = Url::parse(url.as_ref()?)?;
        let here = url.host == network.gateway.to_string();
        let remark = if here { " (this host)" } else { "" };
        Some(format!("{}{remark}", url.without_user()))
    };
    match (shown(&proxy.http), shown(&proxy.https)) {
        (Some(http), Some(https)) if http != https => {
            format!("the machine uses the proxies {http} for HTTP and {https} for HTTPS")
        }
        (Some(http), None) => format!("the machine uses the proxy {http} for HTTP only"),
        (None, Some(https)) => format!("the machine uses the proxy {https} for HTTPS only"),
        (Some(proxy), Some(_)) => format!("the machine uses the proxy {proxy}"),
        (None, None) => "the machine uses no proxy".to_owned(),
    }
}

/// The user's exceptions, then what is inside of the machine and between it and the host.
fn exceptions(
    of_user: Option<&str>,
    spec: &ClusterSpec,
    network: &GuestNetworkAddresses,
) -> String {
    let [first, second, third, _] = network.guest.octets();
    let mut all: Vec<String> = of_user
        .unwrap_or_default()
        .split(',')
        .map(|one| one.trim().to_owned())
        .filter(|one| !one.is_empty())
        .collect();
    let own = [
        "localhost".to_owned(),
        "127.0.0.0/8".to_owned(),
        "::1".to_owned(),
        network.guest.to_string(),
        format!("{first}.{second}.{third}.0/24"),
        spec.service_cidr.to_string(),
        spec.pod_cidr.to_string(),
        ".svc".to_owned(),
        format!(".{}", spec.dns_domain),
    ];
    let names = HOST_NAMES.map(str::to_owned);
    for one in own.into_iter().chain(names) {
        if !all.contains(&one) {
            all.push(one);
        }
    }
    all.join(",")
}

/// The parts of a proxy's URL that matter here.
#[derive(PartialEq, Eq)]
struct Url<'a> {
    scheme: String,
    /// Name and password as they were written, without the `@`.
    user: Option<&'a str>,
    host: String,
    port: Option<u16>,
    /// From the first slash on.
    rest: &'a str,
}

impl<'a> Url<'a> {
    /// `[scheme://][user[:password]@]host[:port][/...]`; without a scheme it is `http`.
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let scheme = scheme.to_ascii_lowercase();
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (user, place) = match authority.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, authority),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(place) => {
                let (host, port) = place.split_once(']')?;
                let address: Ipv6Addr = host.parse().ok()?;
                (format!("[{address}]"), port)
            }
            None => {
                let (host, port) = place.split_at(place.find(':').unwrap_or(place.len()));
                let of_a_name = |c: char| c.is_alphanumeric() || "-._".contains(c);
                if host.is_empty() || !host.chars().all(of_a_name) {
                    return None;
                }
                (host.to_owned(), port)
            }
        };
        let port = match port {
            "" => None,
            port => Some(port.strip_prefix(':')?.parse().ok()?),
        };
        let odd = |c: char| c.is_whitespace() || c.is_control();
        let sound = SCHEMES.contains(&scheme.as_str()) && !text.contains(odd);
        sound.then_some(Self {
            scheme,
            user,
            host,
            port,
            rest,
        })
    }

    /// What listens at the host's loopback is at the gateway's address in the guest.
    fn seen_from_guest(mut self, gateway: Ipv4Addr) -> Self {
        let bare = self.host.trim_matches(['[', ']']).to_ascii_lowercase();
        let is_name = bare == "localhost" || bare.ends_with(".localhost");
        let address = bare.parse::<IpAddr>();
        if is_name || address.is_ok_and(|one| one.is_loopback() || one.is_unspecified()) {
            self.host = gateway.to_string();
        }
        self
    }

    fn without_user(&self) -> String {
        let port = self.port.map_or(String::new(), |port| format!(":{port}"));
        format!("{}://{}{port}", self.scheme, self.host)
    }

    fn text(&self) -> String {
        let whole = self.without_user();
        let whole = match self.user {
            Some(user) => whole.replacen("://", &format!("://{user}@"), 1),
            None => whole,
        };
        whole + self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::boot::GUEST_NETWORK;
    use crate::options::ClusterOptions;
    use coracle_vm::Size;

    fn spec(domain: &str) -> ClusterSpec {
        let options = ClusterOptions {
            dns_domain: Some(domain.into()),
            service_cluster_ip_range: Some("172.30.0.0/16".into()),
            ..ClusterOptions::default()
        };
        ClusterSpec::new(&options, Size::from_gib(16)).unwrap()
    }

    fn variables(http: &str, https: &str, exceptions: &str) -> ProxyVariables {
        let value = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        ProxyVariables {
            http: value(http),
            https: value(https),
            exceptions: value(exceptions),
        }
    }

    fn proxy(http: &str, https: &str, exceptions: &str) -> Option<Proxy> {
        let variables = variables(http, https, exceptions);
        of(&variables, &spec("cluster.local"), &GUEST_NETWORK).unwrap()
    }

    #[test]
    fn a_proxy_of_this_host_is_at_the_gateway_for_the_guest() {
        let seen = |text: &str| proxy(text, "", "").unwrap().http.unwrap();
        for (here, there) in [
            ("http://localhost:3128", "http://10.0.2.2:3128"),
            ("http://LocalHost:3128/", "http://10.0.2.2:3128/"),
            ("127.0.0.1:8080", "http://10.0.2.2:8080"),
            ("https://127.0.0.53", "https://10.0.2.2"),
            ("http://[::1]:1", "http://10.0.2.2:1"),
            ("http://0.0.0.0:1", "http://10.0.2.2:1"),
            (
                "http://me:p%40ss:w@localhost:1",
                "http://me:p%40ss:w@10.0.2.2:1",
            ),
            ("socks5://proxy.example:1080", "socks5://proxy.example:1080"),
            ("http://10.1.2.3:80", "http://10.1.2.3:80"),
            ("HTTP://u@[fd00::1]:80/x?y", "http://u@[fd00::1]:80/x?y"),
            ("proxy", "http://proxy"),
        ] {
            assert_eq!(seen(here), there, "{here}");
        }
    }

    #[test]
    fn what_is_no_url_is_told_without_its_text() {
        for wrong in [
            "ftp://secret:1",
            "http://",
            "http://me:secret@",
            "http://secret:port",
            "http://sec ret:1",
            "http://[secret",
            "http://me:sec/ret@proxy:1",
            "http://secret:99999",
            "//secret",
        ] {
            let variables = variables("", wrong, "");
            let error = of(&variables, &spec("cluster.local"), &GUEST_NETWORK).unwrap_err();
            assert_eq!(error.exit_code(), 48, "{wrong}");
            let told = error.render("a");
            assert!(told.contains("HTTPS_PROXY"), "{told}");
            assert!(!told.contains("sec"), "{told}");
        }
    }

    #[test]
    fn what_is_inside_does_not_go_through_the_proxy() {
        let exceptions = |of_user: &str, domain: &str| {
            let variables = variables("http://proxy:1", "", of_user);
            let proxy = of(&variables, &spec(domain), &GUEST_NETWORK).unwrap();
            proxy.unwrap().exceptions
        };
        assert_eq!(
            exceptions("", "cluster.local"),
            "localhost,127.0.0.0/8,::1,10.0.2.15,10.0.2.0/24,172.30.0.0/16,10.244.0.0/16,.svc,\
             .cluster.local,host.coracle.internal,host.docker.internal"
        );
        let merged = exceptions(" intern.example , .svc,,localhost", "a.b");
        assert_eq!(
            merged,
            "intern.example,.svc,localhost,127.0.0.0/8,::1,10.0.2.15,10.0.2.0/24,172.30.0.0/16,\
             10.244.0.0/16,.a.b,host.coracle.internal,host.docker.internal"
        );
    }

    #[test]
    fn exceptions_alone_are_no_proxy() {
        assert_eq!(proxy("", "", "localhost"), None);
        let only_secure = proxy("", "http://proxy:1", "").unwrap();
        assert_eq!(only_secure.http, None);
    }

    #[test]
    fn what_is_said_of_it_holds_no_password() {
        let line_of = |http: &str, https: &str| {
            let line = said(&proxy(http, https, "").unwrap(), &GUEST_NETWORK);
            assert!(!line.contains("secret"), "{line}");
            line
        };
        let one = "http://me:secret@localhost:3128/secret";
        assert_eq!(
            line_of(one, one),
            "the machine uses the proxy http://10.0.2.2:3128 (this host)"
        );
        assert_eq!(
            line_of("http://a:1", ""),
            "the machine uses the proxy http://a:1 for HTTP only"
        );
        assert_eq!(
            line_of("a:1", "b:2"),
            "the machine uses the proxies http://a:1 for HTTP and http://b:2 for HTTPS"
        );
    }
}
