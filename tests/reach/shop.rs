//! A cluster with a few Services, and what the host sees of them.

use crate::traffic;
use coracle_tests::{Coracle, Profile, Run, Started, kill_pid, signal_pid, until, until_some};
use rustix::process::Signal;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::time::Duration;

/// Beyond what anything here needs under software emulation; it only catches what hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);
const MANIFESTS: &str = include_str!("services.yaml");
/// The NodePort of the web server.
pub(crate) const WEB: u16 = 30080;
/// A NodePort that is taken on the host before a Service asks for it.
const TAKEN: u16 = 30090;

pub(crate) struct Shop<'a> {
    cluster: Profile<'a>,
    pub(crate) address: IpAddr,
}

impl<'a> Deref for Shop<'a> {
    type Target = Profile<'a>;

    fn deref(&self) -> &Self::Target {
        &self.cluster
    }
}

impl<'a> Shop<'a> {
    pub(crate) fn open(coracle: &'a Coracle, name: &'a str) -> Self {
        let cluster = Profile { coracle, name };
        cluster.command("start").ok();
        let address = cluster.command("ip").ok();
        let shop = Self {
            cluster,
            address: address.text().parse().expect("an address and nothing else"),
        };
        shop.apply(&MANIFESTS.replace("WHO", name));
        shop.kubectl("rollout status deployment/web --timeout=300s");
        shop
    }

    pub(crate) fn web(&self) -> SocketAddr {
        SocketAddr::new(self.address, WEB)
    }

    fn greeting(&self) -> String {
        format!("hello from {}", self.name)
    }

    /// What the web server says at an address; none when it does not.
    pub(crate) fn greeted_at(&self, address: SocketAddr) -> bool {
        get(address).is_some_and(|answer| answer.contains(&self.greeting()))
    }

    pub(crate) fn node_port_answers(&self) {
        until("the NodePort answers", LIMIT, || {
            self.greeted_at(self.web())
        });
        let url = self.command("service web --url").ok();
        assert_eq!(url.text(), format!("http://{}", self.web()));
        let secure = self.command("service web --url --https").ok();
        assert_eq!(secure.text(), format!("https://{}", self.web()));
        let bare = self
            .coracle
            .coracle(["service", "web", "--url", "-p", self.name, "--format"])
            .args(["{{.Name}} {{.IP}} {{.Port}}"])
            .ok();
        assert_eq!(bare.text(), format!("http {} {WEB}", self.address));
    }

    pub(crate) fn load_balancer_answers(&self) {
        let address = until_some("the load balancer has an address", LIMIT, || {
            let path = "jsonpath={.status.loadBalancer.ingress[0].ip}";
            let ip = self.kubectl(&format!("get service shop -o {path}"));
            ip.parse::<IpAddr>().ok()
        });
        assert_ne!(address, self.address);
        assert!(address.is_loopback(), "{address}");
        let at = SocketAddr::new(address, 8081);
        until("the load balancer answers", LIMIT, || self.greeted_at(at));
        let listed = self.command("service list -o json").ok().json();
        let mut rows = listed.as_array().expect("a list").iter();
        let shop = rows
            .find(|one| one["Name"] == "shop")
            .expect("it is listed");
        let mut ports = shop["Ports"].as_array().expect("a list").iter();
        assert!(ports.any(|one| one["Address"] == at.to_string()), "{shop}");
        self.command("service list").ok().says(&at.to_string());
        // A class names somebody else's load balancer.
        self.apply(
            "{apiVersion: v1, kind: Service, metadata: {name: foreign}, spec: {type: LoadBalancer, \
             loadBalancerClass: example.com/other, ports: [{port: 8082}]}}\n---\n\
             {apiVersion: v1, kind: Service, metadata: {name: later}, spec: {type: LoadBalancer, \
             ports: [{port: 8083}]}}",
        );
        let ingress = |name: &str| {
            let path = "jsonpath={.status.loadBalancer.ingress}";
            self.kubectl(&format!("get service {name} -o {path}"))
        };
        until("the next one has an address", LIMIT, || {
            ingress("later").contains("127.88.")
        });
        assert_eq!(ingress("foreign"), "");
        self.kubectl("delete service foreign later");
    }

    /// For as long as it runs, Services that come later among them.
    pub(crate) fn is_reached_by_a_tunnel(&self) {
        let mut tunnel = self.command("tunnel").start();
        tunnel.until_it_says("default/inside ");
        let address = led_at(&tunnel.stdout_so_far(), "default/inside ", "");
        assert!(self.greeted_at(address), "{address} does not answer");
        self.is_reached_by_name(&tunnel);
        tunnel.until_it_says("kube-system/names ");
        let dns = led_at(&tunnel.stdout_so_far(), "kube-system/names ", ":53/udp ");
        traffic::a_name_is_resolved(dns);
        self.kubectl("create service clusterip web --tcp=81:8080 --dry-run=none -n kube-public");
        tunnel.until_it_says("kube-public/web ");
        self.kubectl("delete service web -n kube-public");
        tunnel.until_it_says(":81 closed");
        signal_pid(tunnel.pid(), Signal::INT);
        tunnel.done().code_is(130);
        TcpStream::connect(address).expect_err("the tunnel is closed");
    }

    /// By a client that knows nothing of the cluster but the tunnel's proxy.
    fn is_reached_by_name(&self, tunnel: &Started) {
        let said = tunnel.stdout_so_far();
        let mut lines = said.lines();
        let proxy = lines.find_map(|line| line.strip_prefix("names "));
        let proxy = proxy.unwrap_or_else(|| panic!("no proxy: {said}"));
        assert!(proxy.starts_with("socks5h://127.89."), "{proxy}");
        let get = |url: &str| {
            Run::new("curl")
                .args(["-sS", "--max-time", "60", "--proxy", proxy, url])
                .done()
        };
        let node = format!("http://any.coracle.test:{WEB}");
        for host in [
            "http://inside",
            "http://inside.default.svc.cluster.local",
            &node,
        ] {
            let answer = get(&format!("{host}/hello"));
            assert!(answer.stdout.contains(&self.greeting()), "{answer}");
        }
        // curl's own number for a proxy that does not connect.
        const REFUSED: i32 = 97;
        for host in [
            "http://nothing.default",
            "http://127.0.0.1:10248/healthz",
            "http://10.0.2.2:1",
        ] {
            let refused = get(host);
            assert_eq!(refused.code(), Some(REFUSED), "{refused}");
        }
    }

    pub(crate) fn what_cannot_be_reached_is_explained(&self) {
        let service = |arguments: &str| self.command(&format!("service {arguments} --url")).done();
        service("nothing").fails(115, "CORACLE_SERVICE_NOT_FOUND");
        service("web -n nowhere")
            .fails(115, "CORACLE_SERVICE_NOT_FOUND")
            .says("there is no namespace \"nowhere\"");
        service("empty --wait 0").fails(115, "CORACLE_SERVICE_WITHOUT_ENDPOINTS");
        service("inside").fails(116, "CORACLE_SERVICE_INTERNAL");
        service("web --format {{.Colour}}").fails(14, "CORACLE_USAGE");
    }

    pub(crate) fn goes_elsewhere_when_a_port_is_taken(&self) {
        let held = TcpListener::bind((self.address, TAKEN)).expect("it is free");
        self.apply(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: late}}, spec: {{type: NodePort, \
             selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080, nodePort: {TAKEN}}}]}}}}"
        ));
        let told = self
            .command("service late --url")
            .ok()
            .says(&format!("(process {})", std::process::id()));
        let elsewhere = told.text().strip_prefix("http://").expect("an address");
        let elsewhere: SocketAddr = elsewhere.parse().expect("an address");
        assert_ne!(elsewhere.port(), TAKEN);
        until("it answers there", LIMIT, || self.greeted_at(elsewhere));
        drop(held);
        let at = SocketAddr::new(self.address, TAKEN);
        until("it answers where it should", LIMIT, || self.greeted_at(at));
        self.kubectl("delete service late");
        until("its port is closed", LIMIT, || {
            TcpStream::connect(at).is_err()
        });
    }

    pub(crate) fn a_hundred_come_and_go(&self) {
        let before = self.listeners();
        let service = |number: usize| {
            format!(
                "{{apiVersion: v1, kind: Service, metadata: {{name: many-{number}, labels: {{of: many}}}}, \
                 spec: {{type: NodePort, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}}}\n---\n"
            )
        };
        self.apply(&(0..100).map(service).collect::<String>());
        // Each has a port of ours, and one of the hypervisor's that it leads to.
        until("all have ports", LIMIT, || self.listeners() >= before + 200);
        self.kubectl("delete service -l of=many");
        until("all ports are closed", LIMIT, || self.listeners() == before);
        self.node_port_answers();
    }

    /// How many sockets listen on the cluster's address.
    fn listeners(&self) -> usize {
        let IpAddr::V4(address) = self.address else {
            panic!("{} is of another family", self.address);
        };
        // As proc_net_tcp(5) writes it; 0A is LISTEN.
        let address = format!("{:08X}:", u32::from_ne_bytes(address.octets()));
        let table = fs::read_to_string("/proc/net/tcp").expect("it is there");
        table
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                Some((*fields.get(1)?, *fields.get(3)?))
            })
            .filter(|(local, state)| local.starts_with(&address) && *state == "0A")
            .count()
    }

    /// Its ports are nobody else's while its machine is lost and booted again, and take connections.
    pub(crate) fn keeps_its_ports_over_a_loss(&self) {
        kill_pid(self.coracle.hypervisor(self.name).pid);
        let mut start = self.command("start").start();
        while !start.has_ended() {
            TcpListener::bind(self.web()).expect_err("it is the cluster's");
            TcpStream::connect(self.web()).expect("it takes connections");
            std::thread::park_timeout(Duration::from_millis(500));
        }
        start.done().ok();
        self.node_port_answers();
    }

    /// Its kernel is reset under all that is connected to it.
    pub(crate) fn is_rebooted_from_inside(&self) {
        let boot = self.boot_id();
        self.inside("sudo sh -c '(sleep 1; echo b > /proc/sysrq-trigger) > /dev/null 2>&1 &'");
        until("it has booted again", LIMIT, || {
            let asked = self.ssh("cat /proc/sys/kernel/random/boot_id").done();
            asked.code() == Some(0) && asked.text() != boot
        });
        self.node_port_answers();
        // A Service of now is heard of, too.
        self.load_balancer_answers();
    }

    pub(crate) fn stops_and_starts(&self) {
        self.command("stop").ok();
        until("the ports are closed", LIMIT, || {
            TcpStream::connect(self.web()).is_err()
        });
        self.command("start").ok();
        self.node_port_answers();
        self.load_balancer_answers();
    }
}

/// Where the first line of a tunnel that begins and goes on like this leads from.
fn led_at(said: &str, begin: &str, on: &str) -> SocketAddr {
    let mut lines = said.lines();
    let line = lines.find(|line| line.starts_with(begin) && line.contains(on));
    let line = line.unwrap_or_else(|| panic!("{begin} is not led: {said}"));
    let address = line.split(' ').next_back().expect("a word");
    address
        .parse()
        .unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// One request, whole or not at all.
pub(crate) fn get(address: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    stream
        .write_all(b"GET /hello HTTP/1.0\r\nHost: shop\r\n\r\n")
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1").then_some(answer)
}
