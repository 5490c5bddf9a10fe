//! The known problems, as a table: which lines show one, what it means, and what to do.
//!
//! Texts are those of the versions that the image holds. A line counts for the first row that it
//! fits, so what is special stands before what is general.

/// One known problem.
#[derive(Debug)]
pub struct Problem {
    /// Its name, for scripts.
    pub name: &'static str,
    /// Names of the sources that tell of it; none stands for all.
    pub sources: &'static [&'static str],
    /// A line shows it that holds every text of one of these.
    pub shown_by: &'static [&'static [&'static str]],
    /// Unless it holds one of these.
    pub unless: &'static [&'static str],
    /// Fewer lines than this are no problem: some come now and then without harm.
    pub at_least: u64,
    /// What it means, as a sentence.
    pub meaning: &'static str,
    /// What to do; `{profile}` is the cluster's name.
    pub help: &'static str,
}

/// What most rows have in common.
const ROW: Problem = Problem {
    name: "",
    sources: &[],
    shown_by: &[],
    unless: &[],
    at_least: 1,
    meaning: "",
    help: "",
};

const KERNEL: &[&str] = &["kernel", "console"];
const HOST: &[&str] = &["qemu", "host-agent"];
const DOCKER: &[&str] = &["dockerd", "docker"];
const PULLING: &[&str] = &["containerd", "kubelet", "dockerd", "docker"];

/// All known problems.
pub const PROBLEMS: &[Problem] = &[
    // The machine.
    Problem {
        name: "kernel-panic",
        sources: KERNEL,
        shown_by: &[&["Kernel panic - not syncing"]],
        meaning: "The machine's kernel panicked.",
        help: "`coracle start -p {profile}` boots the machine again; if it comes again, report it with `coracle logs -p {profile} --bundle FILE`",
        ..ROW
    },
    Problem {
        name: "processor-stuck",
        sources: KERNEL,
        shown_by: &[
            &["BUG: soft lockup - CPU#"],
            &["rcu: INFO: ", "self-detected stall"],
            &["rcu: INFO: ", "detected stalls on CPUs/tasks"],
        ],
        meaning: "A processor of the machine got nowhere for many seconds: the host was overloaded, or slept.",
        help: "look what else keeps the host busy; a cluster with fewer CPUs than the host has (`coracle start --cpus`) leaves it some",
        ..ROW
    },
    Problem {
        name: "disk-stuck",
        sources: KERNEL,
        shown_by: &[&["INFO: task ", " blocked for more than "]],
        meaning: "A program in the machine waited minutes for the disk.",
        help: "look at the host's disk: how busy it is, and with `coracle doctor` how full",
        ..ROW
    },
    Problem {
        name: "disk-damaged",
        sources: KERNEL,
        shown_by: &[
            &["EXT4-fs error (device "],
            &["Buffer I/O error on dev "],
            &["I/O error, dev vd"],
        ],
        meaning: "The machine's disk could not be read or written, or its file system is damaged.",
        help: "check the host's disk; `coracle snapshot list -p {profile}` shows what the cluster can go back to",
        ..ROW
    },
    Problem {
        name: "memory-limit",
        sources: KERNEL,
        shown_by: &[&["Memory cgroup out of memory: Killed process "]],
        meaning: "A container used more memory than its limit allows, and a program in it was killed.",
        help: "raise `resources.limits.memory` of its pod; `coracle kubectl -p {profile} -- get pods -A` shows which one restarts",
        ..ROW
    },
    Problem {
        name: "memory-full",
        sources: KERNEL,
        shown_by: &[&["Out of memory: Killed process "]],
        meaning: "The machine had no memory left, and its kernel killed a program.",
        help: "give pods limits, or make a cluster with more memory: `coracle start --memory 8g`",
        ..ROW
    },
    Problem {
        name: "memory-eviction",
        sources: &["kubelet"],
        shown_by: &[&[
            "Eviction manager: attempting to reclaim",
            "resourceName=\"memory\"",
        ]],
        meaning: "The machine has so little memory left that the kubelet evicts pods.",
        help: "run less, or make a cluster with more memory: `coracle start --memory 8g`",
        ..ROW
    },
    Problem {
        name: "disk-eviction",
        sources: &["kubelet"],
        shown_by: &[
            &[
                "Eviction manager: attempting to reclaim",
                "resourceName=\"ephemeral-storage\"",
            ],
            &[
                "Eviction manager: attempting to reclaim",
                "resourceName=\"inodes\"",
            ],
        ],
        meaning: "The machine's disk is so full that the kubelet deletes images and evicts pods.",
        help: "`coracle ssh -p {profile} -- df -h /var` shows how full; `coracle start -p {profile} --disk-size 40g` grows it",
        ..ROW
    },
    Problem {
        name: "connections-full",
        sources: KERNEL,
        shown_by: &[&["nf_conntrack: table full, dropping packet"]],
        meaning: "The machine follows as many connections as it can, and drops packets of new ones.",
        help: "close connections that are not needed, or allow more: `coracle ssh -p {profile} -- sudo sysctl -w net.netfilter.nf_conntrack_max=262144`",
        ..ROW
    },
    // The host.
    Problem {
        name: "host-disk-full",
        sources: HOST,
        shown_by: &[&["No space left on device"]],
        meaning: "The host's disk was full.",
        help: "make space on the host; `coracle start -p {profile}` lets a machine go on that waits for it",
        ..ROW
    },
    Problem {
        name: "no-acceleration",
        sources: HOST,
        shown_by: &[
            &["Could not access KVM kernel module"],
            &["failed to initialize kvm"],
        ],
        meaning: "QEMU could not use the processor's virtualisation.",
        help: "`coracle doctor` says what to change",
        ..ROW
    },
    // Space and files inside.
    Problem {
        name: "watches-full",
        shown_by: &[
            &["too many open files"],
            &["inotify", "no space left on device"],
        ],
        meaning: "A program has as many files or file watches open as it may.",
        help: "allow more watches: `coracle ssh -p {profile} -- sudo sysctl -w fs.inotify.max_user_instances=8192 fs.inotify.max_user_watches=1048576`",
        ..ROW
    },
    Problem {
        name: "disk-full",
        shown_by: &[&["no space left on device"], &["No space left on device"]],
        meaning: "The machine's disk is full.",
        help: "`coracle start -p {profile} --disk-size 40g` grows it; `coracle image prune --all -p {profile}` frees some of it",
        ..ROW
    },
    // Images that cannot be pulled.
    Problem {
        name: "registry-unknown-authority",
        sources: PULLING,
        shown_by: &[
            &[
                "x509: certificate signed by unknown authority",
                "failed to resolve ",
            ],
            &["x509: certificate signed by unknown authority", "/v2/"],
        ],
        meaning: "An image cannot be pulled: the machine does not know the authority of the registry's certificate.",
        help: "put the authority's certificate into `certs/` of the state folder, then stop and start the cluster; or load the image from an archive: `coracle image load -p {profile} FILE`",
        ..ROW
    },
    Problem {
        name: "registry-without-tls",
        sources: PULLING,
        shown_by: &[&["http: server gave HTTP response to HTTPS client"]],
        meaning: "An image cannot be pulled: its registry speaks HTTP only.",
        help: "name the registry as `server = \"http://HOST\"` in /etc/containerd/certs.d/HOST/hosts.toml in the machine, or load the image from an archive: `coracle image load -p {profile} FILE`",
        ..ROW
    },
    Problem {
        name: "registry-unknown-host",
        sources: PULLING,
        shown_by: &[
            &["no such host", "failed to resolve "],
            &["no such host", "/v2/"],
            &["server misbehaving", "failed to resolve "],
        ],
        meaning: "An image cannot be pulled: the name of its registry has no address.",
        help: "check the image's name; if it is right, `coracle ssh -p {profile} -- getent hosts HOST` asks the machine's resolver; `coracle image load -p {profile} FILE` needs none",
        ..ROW
    },
    Problem {
        name: "registry-unreachable",
        sources: PULLING,
        shown_by: &[
            &["i/o timeout", "failed to resolve "],
            &["i/o timeout", "failed to do request"],
            &["i/o timeout", "/v2/"],
            &["connection refused", "failed to resolve "],
            &["connection refused", "/v2/"],
            &["network is unreachable", "failed to resolve "],
            &["no route to host", "failed to resolve "],
            &["TLS handshake timeout", "failed to resolve "],
        ],
        meaning: "An image cannot be pulled: its registry does not answer.",
        help: "`coracle ssh -p {profile} -- curl -sI https://HOST/v2/` asks it from the machine; `coracle image load -p {profile} FILE` needs no registry",
        ..ROW
    },
    Problem {
        name: "registry-rate-limit",
        sources: PULLING,
        shown_by: &[&["toomanyrequests"], &["429 Too Many Requests"]],
        meaning: "An image cannot be pulled: its registry refuses more requests for a while.",
        help: "wait, pull with an account (an imagePullSecret), or load the image from an archive: `coracle image load -p {profile} FILE`",
        ..ROW
    },
    Problem {
        name: "registry-denied",
        sources: PULLING,
        shown_by: &[
            &["pull access denied"],
            &["failed to resolve ", "failed to authorize"],
            &["failed to resolve ", "401 Unauthorized"],
            &["failed to resolve ", "403 Forbidden"],
        ],
        meaning: "An image cannot be pulled: there is none of this name, or it needs an account.",
        help: "check the image's name; an account is given to pods as an imagePullSecret",
        ..ROW
    },
    Problem {
        name: "image-not-found",
        sources: PULLING,
        shown_by: &[
            &["failed to resolve reference ", ": not found"],
            &["failed to resolve image", ": not found"],
            &["manifest unknown"],
        ],
        meaning: "An image cannot be pulled: its registry does not have it.",
        help: "check the image's name and tag; one of your own gets in with `coracle image load -p {profile} FILE`",
        ..ROW
    },
    Problem {
        name: "image-not-loaded",
        sources: PULLING,
        shown_by: &[
            &["is not present with pull policy of Never"],
            &["ErrImageNeverPull"],
        ],
        meaning: "A pod may not pull its image (imagePullPolicy: Never), and the machine does not have it.",
        help: "`coracle image ls -p {profile}` shows what it has; `coracle image load -p {profile} FILE` adds to that",
        ..ROW
    },
    // Certificates and time.
    Problem {
        name: "certificate-expired",
        shown_by: &[&[
            "x509: certificate has expired or is not yet valid",
            " is after ",
        ]],
        meaning: "A certificate has expired.",
        help: "the machine renews those of its own when it starts: `coracle stop -p {profile} --shutdown`, then `coracle start -p {profile}`; others are renewed where they were made",
        ..ROW
    },
    Problem {
        name: "clock-behind",
        shown_by: &[&[
            "x509: certificate has expired or is not yet valid",
            " is before ",
        ]],
        meaning: "A certificate is not valid yet: a clock is behind.",
        help: "check the host's clock; the machine's follows it within ten minutes",
        ..ROW
    },
    // The control plane.
    Problem {
        name: "etcd-slow",
        sources: &["etcd"],
        shown_by: &[&["apply request took too long"], &["slow fdatasync"]],
        // Less than a second, and the first election, which all requests wait for.
        unless: &[
            "ms\",\"expected-duration\"",
            "\u{b5}s\",\"expected-duration\"",
            "etcdserver: leader changed",
        ],
        at_least: 5,
        meaning: "etcd waited more than a second for the disk or a processor, again and again: the whole cluster is slow.",
        help: "look what else keeps the host's disk and processors busy; CORACLE_HOME moves clusters to a faster disk",
    },
    Problem {
        name: "etcd-full",
        sources: &["etcd", "kube-apiserver"],
        shown_by: &[&["mvcc: database space exceeded"]],
        meaning: "etcd holds as much as it may, and takes no more writes.",
        help: "find what fills it before it is made again; `coracle snapshot list -p {profile}` shows what the cluster can go back to",
        ..ROW
    },
    Problem {
        name: "etcd-damaged",
        sources: &["etcd"],
        shown_by: &[
            &["walpb: crc mismatch"],
            &["snap: crc mismatch"],
            &["invalid database"],
        ],
        meaning: "What etcd keeps on the disk is damaged.",
        help: "`coracle snapshot list -p {profile}` shows what the cluster can go back to; `coracle delete -p {profile}` and `coracle start -p {profile}` make a new one",
        ..ROW
    },
    Problem {
        name: "unknown-flag",
        shown_by: &[
            &["unknown flag: --"],
            &["flag provided but not defined: -"],
            &["unrecognized feature gate: "],
        ],
        meaning: "A component does not know a flag or a feature gate that it was given, and does not start.",
        help: "`coracle delete -p {profile}`, and start again with another --extra-config or --feature-gates",
        ..ROW
    },
    Problem {
        name: "port-taken",
        shown_by: &[&["bind: address already in use"]],
        meaning: "A program in the machine cannot listen: another one has its port.",
        help: "`coracle ssh -p {profile} -- sudo ss -lntup` shows who listens; a pod with `hostNetwork` or `hostPort` may be it",
        ..ROW
    },
    Problem {
        name: "webhook",
        sources: &["kube-apiserver"],
        shown_by: &[&["Failed calling webhook, failing "]],
        meaning: "An admission webhook does not answer: what it watches over is refused, or goes unchecked.",
        help: "`coracle kubectl -p {profile} -- get validatingwebhookconfigurations,mutatingwebhookconfigurations` shows whose it is; bring back its Service, or delete it",
        ..ROW
    },
    // The node.
    Problem {
        name: "runtime-stuck",
        sources: &["kubelet"],
        shown_by: &[&["PLEG is not healthy: pleg was last seen active"]],
        at_least: 3,
        meaning: "The container runtime did not list its containers for minutes: it hangs, or the machine is overloaded.",
        help: "`coracle logs -p {profile} --component containerd` shows what it does; `coracle stop -p {profile} --shutdown` and `coracle start -p {profile}` begin anew",
        ..ROW
    },
    Problem {
        name: "pod-addresses-full",
        sources: &["containerd", "kubelet"],
        shown_by: &[&["no IP addresses available in range set"]],
        meaning: "All addresses for pods are taken.",
        help: "delete pods that have ended: `coracle kubectl -p {profile} -- get pods -A` shows them",
        ..ROW
    },
    Problem {
        name: "service-rules",
        sources: &["kube-proxy"],
        shown_by: &[&["nftables sync failed"]],
        at_least: 3,
        meaning: "kube-proxy cannot write the rules that lead to Services.",
        help: "`coracle logs -p {profile} --component kube-proxy` shows which rule; something else in the machine may change nftables",
        ..ROW
    },
    Problem {
        name: "dns-loop",
        sources: &["coredns"],
        shown_by: &[&["plugin/loop: Loop ("]],
        meaning: "CoreDNS asks itself: the server that it forwards to leads back to it.",
        help: "correct `forward` in the ConfigMap coredns in kube-system: the machine's own resolver is in its /etc/resolv.conf",
        ..ROW
    },
    Problem {
        name: "dns-upstream",
        sources: &["coredns"],
        shown_by: &[
            &["plugin/errors: ", "i/o timeout"],
            &["plugin/errors: ", "connection refused"],
            &["plugin/errors: ", "network is unreachable"],
        ],
        at_least: 3,
        meaning: "Pods cannot resolve names outside the cluster: the server that CoreDNS asks does not answer.",
        help: "`coracle ssh -p {profile} -- getent hosts example.com` asks it from the machine; the host's own resolver has to answer, for instance over a VPN",
        ..ROW
    },
    Problem {
        name: "docker-start",
        sources: DOCKER,
        shown_by: &[&["failed to start daemon"]],
        meaning: "The Docker daemon did not start.",
        help: "`coracle logs -p {profile}` shows what it said before",
        ..ROW
    },
];
