//! Names and ports.

use serde_json::json;

use super::{of, refused, web};

#[test]
fn a_name_leads_to_the_pods_at_every_port() {
    let spec = web("ports: ['8080:80']\nexpose: [9000, '53/udp']").object("Service", "web")["spec"]
        .clone();
    let expected = json!({
        "clusterIP": "None",
        "publishNotReadyAddresses": true,
        "selector": {"app.kubernetes.io/name": "web", "app.kubernetes.io/part-of": "shop"},
        "ports": [
            {"name": "tcp-80", "port": 80},
            {"name": "tcp-9000", "port": 9000},
            {"name": "udp-53", "port": 53, "protocol": "UDP"},
        ],
    });
    assert_eq!(spec, expected);
    let bare = web("").object("Service", "web")["spec"].clone();
    assert_eq!(bare["clusterIP"], "None");
    assert_eq!(bare["ports"], json!(null));
}

#[test]
fn published_ports_are_a_load_balancers() {
    let converted = web("ports:\n- '8080:80'\n- '443:443/tcp'\n- '127.0.0.1:5353:53/udp'");
    assert_eq!(converted.warned(), []);
    let spec = converted.object("Service", "web-published")["spec"].clone();
    assert_eq!(spec["type"], "LoadBalancer");
    let expected = json!([
        {"name": "tcp-8080", "port": 8080, "targetPort": 80},
        {"name": "tcp-443", "port": 443},
        {"name": "udp-5353", "port": 5353, "protocol": "UDP", "targetPort": 53},
    ]);
    assert_eq!(spec["ports"], expected);
    let ports = converted.container()["ports"].clone();
    assert_eq!(ports.as_array().map(Vec::len), Some(3));
}

#[test]
fn ranges_and_the_long_form_are_ports_too() {
    let converted = web(
        "ports:\n- 3000-3002:4000-4002\n- {target: 80, published: '8080', protocol: tcp, \
         name: http, app_protocol: http, mode: host}",
    );
    assert_eq!(converted.warned(), []);
    let ports = converted.object("Service", "web-published")["spec"]["ports"].clone();
    let expected = json!([
        {"name": "tcp-3000", "port": 3000, "targetPort": 4000},
        {"name": "tcp-3001", "port": 3001, "targetPort": 4001},
        {"name": "tcp-3002", "port": 3002, "targetPort": 4002},
        {"name": "http", "port": 8080, "targetPort": 80, "appProtocol": "http"},
    ]);
    assert_eq!(ports, expected);
}

#[test]
fn ports_that_compose_would_choose_are_told() {
    let converted = web("ports:\n- 80\n- 8000-8010:81\n- 192.168.1.1:82:82\n- '[::1]:83:83'");
    let paths = [
        (5, "services.web.ports[0]"),
        (6, "services.web.ports[1]"),
        (7, "services.web.ports[2]"),
    ];
    assert_eq!(converted.warned(), paths);
    let spec = converted.object("Service", "web-published")["spec"].clone();
    let numbers = spec["ports"].as_array().expect("ports").iter();
    let numbers: Vec<_> = numbers.map(|port| port["port"].clone()).collect();
    assert_eq!(numbers, [8000, 82, 83]);
}

#[test]
fn what_is_no_port_is_refused_with_its_line() {
    for port in [
        "http:80",
        "80:99999",
        "1-2:1-3",
        "80/icmp",
        "0:0",
        "{published: 80}",
        "2-1",
    ] {
        let text = format!("services:\n  web:\n    image: x\n    ports:\n    - '{port}'\n");
        let text = text.replace("'{", "{").replace("}'", "}");
        assert_eq!(refused(&text).0, 5, "{port}");
    }
}

#[test]
fn a_name_that_is_none_of_dns_is_changed_and_that_is_told() {
    let converted = of("services:\n  my_app: {image: x, ports: ['80:80']}\n");
    let names = [
        "Service/my-app",
        "Service/my-app-published",
        "Deployment/my-app",
    ];
    assert_eq!(converted.names(), names);
    assert_eq!(converted.warned(), [(2, "services.my_app")]);
    let large = of("services:\n  MyApp: {image: x, container_name: Shop.App}\n");
    assert_eq!(large.names(), ["Service/myapp", "Deployment/myapp"]);
    assert_eq!(large.warned(), [(2, "services.MyApp.container_name")]);
    let (line, says) = refused("services:\n  a_b: {image: x}\n  a-b: {image: x}\n");
    assert_eq!(line, 3);
    assert!(says.contains("both a-b"), "{says}");
}

#[test]
fn further_names_lead_to_the_same_pods() {
    let converted = of(
        "services:\n  db:\n    image: x\n    container_name: shop-db\n    networks:\n      back:\n        \
         aliases: [database, 'no_name']\n  web:\n    image: y\n    networks: [back]\n    \
         links: ['db:mysql', db]\nnetworks: {back: }\n",
    );
    let selector = json!({"app.kubernetes.io/name": "db", "app.kubernetes.io/part-of": "shop"});
    for name in ["db", "shop-db", "database", "mysql"] {
        assert_eq!(
            converted.object("Service", name)["spec"]["selector"],
            selector,
            "{name}"
        );
    }
    assert_eq!(
        converted.warned(),
        [(7, "services.db.networks.back.aliases[1]")]
    );
}

#[test]
fn a_name_leads_to_one_service() {
    let converted = of("services:\n  a: {image: x}\n  b:\n    image: y\n    container_name: a\n");
    assert_eq!(converted.warned(), [(5, "services.b.container_name")]);
    let (line, _) =
        refused("services:\n  a: {image: x, ports: ['1:1']}\n  a-published: {image: x}\n");
    assert_eq!(line, 2);
}

#[test]
fn networks_that_keep_apart_are_told() {
    let apart = of(
        "services:\n  a: {image: x, networks: [one]}\n  b: {image: x, networks: [two]}\n\
         networks:\n  one:\n  two: {internal: true, driver: bridge}\n",
    );
    assert_eq!(
        apart.warned(),
        [(4, "networks"), (6, "networks.two.internal")]
    );
    let together = of(
        "services:\n  a: {image: x, networks: [one]}\n  b: {image: x, networks: [one, two]}\n\
         networks: {one: , two: }\n",
    );
    assert_eq!(together.warned(), []);
    let (line, _) = refused("services:\n  a:\n    image: x\n    networks:\n    - none\n");
    assert_eq!(line, 5);
}

#[test]
fn the_machines_network_is_taken_where_the_hosts_is_asked_for() {
    let converted = web("network_mode: host");
    let pod = converted.pod("web");
    assert_eq!(pod["hostNetwork"], true);
    assert_eq!(pod["dnsPolicy"], "ClusterFirstWithHostNet");
    assert_eq!(converted.warned(), [(4, "services.web.network_mode")]);
    assert_eq!(web("network_mode: 'service:db'").warned().len(), 1);
    assert_eq!(web("network_mode: bridge").warned(), []);
}

#[test]
fn hosts_are_known_by_name() {
    let converted = web("extra_hosts:\n- 'a:1.2.3.4'\n- 'b=1.2.3.4'\n- 'c:::1'\n\
         - 'host.docker.internal:host-gateway'\n- 'me:host-gateway'");
    let expected = json!([
        {"hostnames": ["a", "b"], "ip": "1.2.3.4"},
        {"hostnames": ["c"], "ip": "::1"},
    ]);
    assert_eq!(converted.pod("web")["hostAliases"], expected);
    assert_eq!(converted.warned(), [(9, "services.web.extra_hosts[4]")]);
}

#[test]
fn the_resolver_is_told_more() {
    let converted =
        web("dns: 8.8.8.8\ndns_search: [a.test]\ndns_opt: ['ndots:2', rotate]\nhostname: me");
    let pod = converted.pod("web");
    let expected = json!({
        "nameservers": ["8.8.8.8"],
        "searches": ["a.test"],
        "options": [{"name": "ndots", "value": "2"}, {"name": "rotate"}],
    });
    assert_eq!(pod["dnsConfig"], expected);
    assert_eq!(pod["hostname"], "me");
    assert_eq!(converted.warned(), [(4, "services.web.dns")]);
}
