//! Lines as components write them, and what they are found to show.

use super::*;
use std::collections::HashSet;

/// What the lines of one source show.
fn shown(source: &str, lines: &[&str]) -> Vec<&'static str> {
    let mut finder = Finder::default();
    for line in lines {
        finder.read(source, line);
    }
    let found = finder.findings("dev").problems;
    found.iter().map(|one| one.name).collect()
}

/// One line each, repeated where one alone is no problem.
const KNOWN: &[(&str, &str, &str)] = &[
    (
        "kernel-panic",
        "console",
        "[   12.345678] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
    ),
    (
        "processor-stuck",
        "kernel",
        "[  834.100000] watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [kubelet:412]",
    ),
    (
        "processor-stuck",
        "kernel",
        "[  500.000001] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
    ),
    (
        "disk-stuck",
        "kernel",
        "[  362.510000] INFO: task jbd2/vdc-8:141 blocked for more than 122 seconds.",
    ),
    (
        "disk-damaged",
        "kernel",
        "[  901.000000] EXT4-fs error (device vdc): ext4_find_entry:1463: inode #524: comm etcd: reading directory lblock 0",
    ),
    (
        "memory-limit",
        "kernel",
        "[  120.000000] Memory cgroup out of memory: Killed process 2211 (stress) total-vm:524288kB, anon-rss:65000kB",
    ),
    (
        "memory-full",
        "console.old",
        "[  130.000000] Out of memory: Killed process 2311 (java) total-vm:8524288kB, anon-rss:3065000kB",
    ),
    (
        "memory-eviction",
        "kubelet",
        "I1125 16:12:01.123456     367 eviction_manager.go:389] \"Eviction manager: attempting to reclaim\" resourceName=\"memory\"",
    ),
    (
        "disk-eviction",
        "kubelet",
        "I1125 16:12:01.123456     367 eviction_manager.go:389] \"Eviction manager: attempting to reclaim\" resourceName=\"ephemeral-storage\"",
    ),
    (
        "connections-full",
        "kernel",
        "[ 1234.000000] nf_conntrack: nf_conntrack: table full, dropping packet",
    ),
    (
        "host-disk-full",
        "host-agent",
        "2026-11-25T16:00:37Z cannot save the machine: No space left on device (os error 28)",
    ),
    (
        "no-acceleration",
        "qemu",
        "Could not access KVM kernel module: Permission denied",
    ),
    (
        "watches-full",
        "kubelet",
        "E1125 16:12:01.123456     367 watcher.go:152] Failed to watch directory \"/sys/fs/cgroup/kubepods\": inotify_add_watch /sys/fs/cgroup/kubepods: no space left on device",
    ),
    (
        "disk-full",
        "containerd",
        "time=\"2026-11-25T16:12:01.123456789Z\" level=error msg=\"failed to write metadata\" error=\"write /var/lib/containerd/io.containerd.metadata.v1.bolt/meta.db: no space left on device\"",
    ),
    (
        "registry-unknown-authority",
        "containerd",
        "time=\"2026-11-25T16:12:01.1Z\" level=error msg=\"PullImage \\\"registry.example/a:1\\\" failed\" error=\"failed to pull and unpack image \\\"registry.example/a:1\\\": failed to resolve reference \\\"registry.example/a:1\\\": failed to do request: Head \\\"https://registry.example/v2/a/manifests/1\\\": tls: failed to verify certificate: x509: certificate signed by unknown authority\"",
    ),
    (
        "registry-without-tls",
        "kubelet",
        "E1125 16:12:01.1     367 log.go:32] \"PullImage from image service failed\" err=\"rpc error: code = Unknown desc = failed to pull and unpack image \\\"10.0.0.5:5000/a:1\\\": failed to resolve reference \\\"10.0.0.5:5000/a:1\\\": failed to do request: Head \\\"https://10.0.0.5:5000/v2/a/manifests/1\\\": http: server gave HTTP response to HTTPS client\"",
    ),
    (
        "registry-unknown-host",
        "kubelet",
        "E1125 16:12:01.1     367 log.go:32] \"PullImage from image service failed\" err=\"rpc error: code = Unknown desc = failed to pull and unpack image \\\"registry.nosuch/a:1\\\": failed to resolve reference \\\"registry.nosuch/a:1\\\": failed to do request: Head \\\"https://registry.nosuch/v2/a/manifests/1\\\": dial tcp: lookup registry.nosuch on 10.0.2.3:53: no such host\" image=\"registry.nosuch/a:1\"",
    ),
    (
        "registry-unreachable",
        "containerd",
        "time=\"2026-11-25T16:12:01.1Z\" level=error msg=\"PullImage \\\"10.9.9.9/a:1\\\" failed\" error=\"failed to pull and unpack image \\\"10.9.9.9/a:1\\\": failed to resolve reference \\\"10.9.9.9/a:1\\\": failed to do request: Head \\\"https://10.9.9.9/v2/a/manifests/1\\\": dial tcp 10.9.9.9:443: i/o timeout\"",
    ),
    (
        "registry-rate-limit",
        "containerd",
        "time=\"2026-11-25T16:12:01.1Z\" level=error msg=\"PullImage \\\"a:1\\\" failed\" error=\"failed to pull and unpack image \\\"docker.io/library/a:1\\\": failed to copy: httpReadSeeker: failed open: unexpected status from GET request: 429 Too Many Requests: toomanyrequests: You have reached your pull rate limit.\"",
    ),
    (
        "registry-denied",
        "containerd",
        "time=\"2026-11-25T16:12:01.1Z\" level=error msg=\"PullImage \\\"me/mine:1\\\" failed\" error=\"failed to pull and unpack image \\\"docker.io/me/mine:1\\\": failed to resolve reference \\\"docker.io/me/mine:1\\\": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed\"",
    ),
    (
        "image-not-found",
        "kubelet",
        "E1125 16:12:01.1     367 kuberuntime_image.go:42] \"Failed to pull image\" err=\"rpc error: code = NotFound desc = failed to pull and unpack image \\\"registry.example/a:9\\\": failed to resolve reference \\\"registry.example/a:9\\\": registry.example/a:9: not found\" image=\"registry.example/a:9\"",
    ),
    (
        "image-not-loaded",
        "kubelet",
        "E1125 16:12:01.1     367 pod_workers.go:1324] \"Error syncing pod, skipping\" err=\"failed to \\\"StartContainer\\\" for \\\"a\\\" with ErrImageNeverPull: \\\"Container image \\\\\\\"a:1\\\\\\\" is not present with pull policy of Never\\\"\" pod=\"default/a\"",
    ),
    (
        "certificate-expired",
        "kube-apiserver",
        "E1125 16:12:01.1     241 authentication.go:75] \"Unable to authenticate the request\" err=\"[x509: certificate has expired or is not yet valid: current time 2029-11-25T16:12:01Z is after 2029-11-24T16:00:00Z, verifying certificate SN=1 failed]\"",
    ),
    (
        "clock-behind",
        "kubelet",
        "E1125 16:12:01.1     367 reflector.go:227] \"Failed to watch\" err=\"failed to list *v1.Node: Get \\\"https://node.coracle.internal:6443/api/v1/nodes\\\": tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2020-01-01T00:00:00Z is before 2026-11-25T16:00:00Z\"",
    ),
    (
        "etcd-slow",
        "etcd",
        "{\"level\":\"warn\",\"ts\":\"2026-11-25T16:12:41.286311Z\",\"caller\":\"txn/util.go:93\",\"msg\":\"apply request took too long\",\"took\":\"2.9066818s\",\"expected-duration\":\"100ms\",\"prefix\":\"read-only range \",\"request\":\"key:\\\"/registry/leases/kube-node-lease/coracle\\\" \",\"response\":\"range_response_count:1 size:498\"}",
    ),
    (
        "etcd-slow",
        "etcd",
        "{\"level\":\"warn\",\"ts\":\"2026-11-25T16:12:41.286311Z\",\"caller\":\"wal/wal.go:885\",\"msg\":\"slow fdatasync\",\"took\":\"1.331012521s\",\"expected-duration\":\"1s\"}",
    ),
    (
        "etcd-full",
        "kube-apiserver",
        "E1125 16:12:01.1     241 status.go:71] \"Unhandled Error\" err=\"apiserver received an error that is not an metav1.Status: rpctypes.EtcdError{code:0x8, desc:\\\"etcdserver: mvcc: database space exceeded\\\"}: etcdserver: mvcc: database space exceeded\"",
    ),
    (
        "etcd-damaged",
        "etcd",
        "{\"level\":\"fatal\",\"ts\":\"2026-11-25T16:00:41.2Z\",\"caller\":\"storage/storage.go:117\",\"msg\":\"failed to read WAL, cannot be repaired\",\"error\":\"walpb: crc mismatch\"}",
    ),
    (
        "unknown-flag",
        "kubelet",
        "E1125 16:00:58.1     365 run.go:72] \"command failed\" err=\"failed to parse kubelet flag: unknown flag: --no-such-flag\"",
    ),
    (
        "port-taken",
        "kube-apiserver",
        "E1125 16:00:58.1     241 run.go:72] \"command failed\" err=\"failed to create listener: failed to listen on 0.0.0.0:6443: listen tcp 0.0.0.0:6443: bind: address already in use\"",
    ),
    (
        "webhook",
        "kube-apiserver",
        "W1125 16:12:01.1     241 dispatcher.go:217] Failed calling webhook, failing closed check.example.com: failed calling webhook \"check.example.com\": failed to call webhook: Post \"https://check.default.svc:443/validate?timeout=10s\": dial tcp 10.96.10.1:443: connect: connection refused",
    ),
    (
        "runtime-stuck",
        "kubelet",
        "E1125 16:12:01.1     367 kubelet.go:2697] \"Skipping pod synchronization\" err=\"PLEG is not healthy: pleg was last seen active 3m12.5s ago; threshold is 3m0s\"",
    ),
    (
        "pod-addresses-full",
        "containerd",
        "time=\"2026-11-25T16:12:01.1Z\" level=error msg=\"RunPodSandbox for name:\\\"a\\\" failed\" error=\"plugin type=\\\"bridge\\\" failed (add): failed to allocate for range 0: no IP addresses available in range set: 10.244.0.1-10.244.0.254\"",
    ),
    (
        "service-rules",
        "kube-proxy",
        "E1125 16:12:01.1     242 proxier.go:1874] \"nftables sync failed\" err=\"/dev/stdin:1:1-25: Error: Could not process rule: No such file or directory\" ipFamily=\"IPv4\"",
    ),
    (
        "dns-loop",
        "coredns",
        "[FATAL] plugin/loop: Loop (127.0.0.1:33434 -> :53) detected for zone \".\", see https://coredns.io/plugins/loop#troubleshooting. Query: \"HINFO 4547991504243258144.3688648895315093531.\"",
    ),
    (
        "dns-upstream",
        "coredns",
        "[ERROR] plugin/errors: 2 example.com. A: read udp 10.244.0.3:41234->10.0.2.3:53: i/o timeout",
    ),
    (
        "docker-start",
        "dockerd",
        "failed to start daemon: Error initializing network controller: error obtaining controller instance",
    ),
];

/// What a machine says that boots well, and of everyday life.
const HARMLESS: &[(&str, &str)] = &[
    (
        "kubelet",
        "E1125 16:01:16.992550     367 kubelet.go:2697] \"Skipping pod synchronization\" err=\"[container runtime status check may not have completed yet, PLEG is not healthy: pleg has yet to be successful]\"",
    ),
    (
        "kubelet",
        "E1125 16:01:15.979231     367 kubelet_node_status.go:396] \"Error getting the current node from lister\" err=\"node \\\"coracle\\\" not found\"",
    ),
    (
        "kubelet",
        "E1125 16:01:15.983590     367 kubelet.go:3596] \"Unable to register mirror pod because node is not registered yet\" err=\"node \\\"coracle\\\" not found\" node=\"coracle\"",
    ),
    (
        "kubelet",
        "E1125 16:01:17.706285     367 eviction_manager.go:305] \"Eviction manager: failed to get summary stats\" err=\"failed to get node info: node \\\"coracle\\\" not found\"",
    ),
    (
        "kubelet",
        "E1125 16:01:17.704386     367 eviction_manager.go:280] \"eviction manager: failed to check if we have separate container filesystem. Ignoring.\" err=\"no imagefs label for configured runtime\"",
    ),
    (
        "kubelet",
        "E1125 16:01:17.545762     365 plugins.go:585] \"Error initializing dynamic plugin prober\" err=\"error (re-)creating driver directory: mkdir /usr/libexec/kubernetes: read-only file system\"",
    ),
    (
        "kubelet",
        "E1125 16:01:17.634266     367 manager.go:550] \"Failed to read data from checkpoint\" err=\"checkpoint is not found\" checkpoint=\"kubelet_internal_checkpoint\"",
    ),
    (
        "kube-proxy",
        "E1125 16:01:19.878046     242 proxier.go:1285] \"Failed to list existing sets\" err=\"receiveAckAware: netlink receive: no such file or directory\" ipFamily=\"IPv4\"",
    ),
    (
        "kube-proxy",
        "E1125 16:01:03.902103     242 reflector.go:227] \"Failed to watch\" err=\"failed to list *v1.Node: nodes \\\"coracle\\\" is forbidden: User \\\"system:kube-proxy\\\" cannot list resource \\\"nodes\\\" in API group \\\"\\\" at the cluster scope\" logger=\"UnhandledError\"",
    ),
    (
        "kube-apiserver",
        "E1125 16:01:01.193854     241 typeconverter.go:83] \"Unhandled Error\" err=\"failed to fetch openapi paths: Get \\\"https://[::1]:6443/openapi/v3\\\": net/http: TLS handshake timeout\" logger=\"UnhandledError\"",
    ),
    (
        "etcd",
        "{\"level\":\"warn\",\"ts\":\"2026-11-25T16:00:41.286311Z\",\"caller\":\"txn/util.go:93\",\"msg\":\"apply request took too long\",\"took\":\"4.9066818s\",\"expected-duration\":\"100ms\",\"prefix\":\"read-only range \",\"request\":\"limit:1  keys_only:true\",\"response\":\"\",\"error\":\"etcdserver: leader changed\"}",
    ),
    (
        "etcd",
        "{\"level\":\"warn\",\"ts\":\"2026-11-25T16:02:41.286311Z\",\"caller\":\"txn/util.go:93\",\"msg\":\"apply request took too long\",\"took\":\"312.066818ms\",\"expected-duration\":\"100ms\",\"prefix\":\"read-only range \",\"request\":\"key:\\\"/registry/pods/\\\" \",\"response\":\"range_response_count:8 size:40498\"}",
    ),
    (
        "etcd",
        "{\"level\":\"warn\",\"ts\":\"2026-11-25T16:00:36.976410Z\",\"caller\":\"read/read.go:206\",\"msg\":\"waiting for ReadIndex response took too long, retrying\",\"sent-request-id\":310645103678802946,\"retry-timeout\":\"500ms\"}",
    ),
    (
        "etcd",
        "{\"level\":\"error\",\"ts\":\"2026-11-25T16:00:41.289338Z\",\"caller\":\"etcdhttp/health.go:345\",\"msg\":\"Health check error\",\"path\":\"/readyz\",\"reason\":\"[+]non_learner ok\\n[-]linearizable_read failed: etcdserver: leader changed\\n\",\"status-code\":503}",
    ),
    (
        "containerd",
        "time=\"2026-11-25T16:00:36.113584338Z\" level=warning msg=\"failed check for fsverity support\" error=\"enable fsverity failed: operation not supported\" path=/var/lib/containerd/io.containerd.content.v1.content",
    ),
    (
        "containerd",
        "time=\"2026-11-25T16:00:36.3Z\" level=error msg=\"failed to load cni during init, please check CRI plugin status before setting up network for pods\" error=\"cni config load failed: no network config found in /etc/cni/net.d: cni plugin not initialized: failed to load cni config\"",
    ),
    (
        "kernel",
        "[    5.406206] EXT4-fs (vdc): mounted filesystem 636f7261-636c-4e00-8000-000000000003 r/w with ordered data mode. Quota mode: none.",
    ),
    (
        "kernel",
        "[    2.499644] clocksource: Switched to clocksource tsc",
    ),
    (
        "host-agent",
        "2026-11-25T16:10:37Z the machine's clock was 140 ms off",
    ),
    ("coredns", "CoreDNS-1.14.7"),
];

#[test]
fn known_lines_show_their_problem_and_no_other() {
    for (name, source, line) in KNOWN {
        let lines = vec![*line; 5];
        assert_eq!(shown(source, &lines), [*name], "{source}: {line}");
    }
}

#[test]
fn every_row_has_a_line_that_shows_it() {
    let shown: HashSet<_> = KNOWN.iter().map(|(name, ..)| *name).collect();
    let rows: HashSet<_> = PROBLEMS.iter().map(|row| row.name).collect();
    assert_eq!(shown, rows);
    assert_eq!(rows.len(), PROBLEMS.len(), "a name is there twice");
    for row in PROBLEMS {
        assert!(row.meaning.ends_with('.') && !row.help.is_empty() && row.at_least > 0);
    }
}

#[test]
fn lines_of_every_boot_show_nothing() {
    for (source, line) in HARMLESS {
        let lines = vec![*line; 100];
        assert!(shown(source, &lines).is_empty(), "{source}: {line}");
    }
}

#[test]
fn some_problems_are_none_when_they_come_once() {
    let line = |name: &str| KNOWN.iter().find(|(known, ..)| *known == name).unwrap().2;
    assert!(shown("kubelet", &[line("runtime-stuck")]).is_empty());
    assert!(shown("etcd", &[line("etcd-slow")]).is_empty());
    assert_eq!(shown("kernel", &[line("memory-full")]), ["memory-full"]);
}

#[test]
fn a_problem_is_told_once_with_its_last_line() {
    let mut finder = Finder::default();
    let line = |number: u32| {
        format!(
            "Out of memory: Killed process {number} (java) \u{1b}[2J{}",
            "x".repeat(500)
        )
    };
    finder.read("console", &line(1));
    for number in 1..=3 {
        finder.read("kernel", &line(number));
    }
    finder.read("etcd", "all is well");
    let findings = finder.findings("dev");
    let text = findings.text();
    assert!(
        text.starts_with("memory-full: The machine had no memory left"),
        "{text}"
    );
    assert!(
        text.contains("\n  lines: 1 in console, 3 in kernel\n"),
        "{text}"
    );
    assert!(
        text.contains("\n  last:  kernel: Out of memory: Killed process 3 (java) [2J"),
        "{text}"
    );
    assert!(text.contains("x ...\n  help:  "), "{text}");
    assert_eq!(text.lines().count(), 4);
    let value = serde_json::to_value(&findings).unwrap();
    assert_eq!(value["Lines"], 5);
    assert_eq!(value["Problems"][0]["Times"]["kernel"], 3);
}

#[test]
fn without_a_problem_the_lines_are_counted() {
    let mut finder = Finder::default();
    finder.read("etcd", "all is well");
    assert_eq!(
        finder.findings("dev").text(),
        "no known problem in 1 lines\n"
    );
}
