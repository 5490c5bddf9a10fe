//! What the container is: image, command, environment, user, resources, check.

use serde_json::json;

use super::{Folder, of, refused, web, with};

#[test]
fn a_missing_image_is_pulled_and_a_present_one_is_not() {
    for (policy, expected) in [
        ("", "IfNotPresent"),
        ("pull_policy: always", "Always"),
        ("pull_policy: never", "Never"),
        ("pull_policy: missing", "IfNotPresent"),
    ] {
        let container = web(policy).container();
        assert_eq!(container["image"], "nginx");
        assert_eq!(container["imagePullPolicy"], expected, "{policy}");
    }
}

#[test]
fn what_is_built_has_composes_name_and_is_never_pulled() {
    let converted = of("services:\n  web:\n    build: .\n");
    assert_eq!(converted.container()["image"], "shop-web");
    assert_eq!(converted.container()["imagePullPolicy"], "Never");
    assert!(converted.warning().contains("docker compose build"));
    assert_eq!(converted.0.builds.len(), 1);
    assert_eq!(converted.0.builds[0].image, "shop-web");
    assert_eq!(converted.0.builds[0].line, 3);
}

#[test]
fn an_image_whose_variable_is_not_set_is_the_one_that_is_built() {
    let converted = of("services:\n  web:\n    image: ${NONE}\n    build: .\n");
    assert_eq!(converted.container()["image"], "shop-web");
}

#[test]
fn devices_are_those_of_a_privileged_container_only() {
    assert_eq!(
        web("devices: [/dev/fuse]").warned(),
        [(4, "services.web.devices")]
    );
    assert_eq!(web("devices: [/dev/fuse]\nprivileged: true").warned(), []);
}

#[test]
fn a_service_without_an_image_is_refused() {
    let (line, says) = refused("services:\n  web:\n    command: x\n");
    assert_eq!(line, 2);
    assert!(says.contains("`image`"), "{says}");
}

#[test]
fn an_entrypoint_is_the_command_and_a_command_its_arguments() {
    let container = web("entrypoint: /run.sh --x 'a b'\ncommand: [serve, '$$(HOME)']").container();
    assert_eq!(container["command"], json!(["/run.sh", "--x", "a b"]));
    assert_eq!(container["args"], json!(["serve", "$$(HOME)"]));
}

#[test]
fn an_empty_entrypoint_makes_the_command_the_program() {
    let container = web("entrypoint: ''\ncommand: sleep 5").container();
    assert_eq!(container["command"], json!(["sleep", "5"]));
    assert_eq!(container["args"], json!(null));
}

#[test]
fn an_empty_command_that_the_image_would_fill_is_told() {
    assert!(web("command: []").warning().contains("the image's own"));
    assert_eq!(web("entrypoint: a\ncommand: []").warned(), []);
}

#[test]
fn what_only_a_shell_could_run_is_told() {
    let converted = web("command: npm install && npm start");
    assert_eq!(converted.container()["args"], json!(["npm", "install"]));
    assert_eq!(converted.warned(), [(4, "services.web.command")]);
}

#[test]
fn an_environment_comes_from_files_the_service_and_the_shell() {
    let files = Folder(&[
        ("a.env", "A=1\nB=a\nFROM=${SHELL_SET}\n"),
        ("b.env", "B=b\nC=${A}x\n"),
    ]);
    let text = "services:\n  web:\n    image: x\n    env_file:\n    - a.env\n    - path: b.env\n    \
                - {path: none.env, required: false}\n    environment:\n      C: own\n      D:\n      \
                SHELL_SET:\n      E: 1.10\n      F: true\n";
    let container = with(text, &files).container();
    let env = container["env"].as_array().expect("env").iter();
    let env: Vec<_> = env
        .map(|one| format!("{}={}", one["name"], one["value"]).replace('"', ""))
        .collect();
    assert_eq!(
        env,
        [
            "A=1",
            "B=b",
            "FROM=from the shell",
            "C=own",
            "SHELL_SET=from the shell",
            "E=1.10",
            "F=true",
        ]
    );
}

#[test]
fn a_file_of_variables_that_is_not_there_is_refused() {
    let (line, says) = refused("services:\n  web:\n    image: x\n    env_file: none.env\n");
    assert_eq!(line, 4);
    assert!(says.contains("none.env cannot be read"), "{says}");
}

#[test]
fn a_value_reaches_the_program_as_it_is_written() {
    let container = web("environment: ['A=$$(B) $$$$']").container();
    assert_eq!(container["env"][0]["value"], "$$(B) $$$");
}

#[test]
fn a_user_is_known_by_number() {
    let security = |text| web(text).container()["securityContext"].clone();
    assert_eq!(security("user: 1000"), json!({"runAsUser": 1000}));
    let both = json!({"runAsUser": 1000, "runAsGroup": 0});
    assert_eq!(security("user: '1000:root'"), both);
    let named = web("user: node");
    assert_eq!(named.container()["securityContext"], json!(null));
    assert_eq!(named.warned(), [(4, "services.web.user")]);
}

#[test]
fn rights_are_given_and_taken() {
    let converted = web(
        "privileged: true\nread_only: true\ncap_add: [CAP_NET_ADMIN, sys_time]\ncap_drop: [ALL]\n\
         security_opt: ['seccomp:unconfined', 'no-new-privileges:true', 'seccomp:mine.json']\n\
         group_add: [4, audio]\ninit: true",
    );
    let expected = json!({
        "privileged": true,
        "readOnlyRootFilesystem": true,
        "capabilities": {"add": ["NET_ADMIN", "SYS_TIME"], "drop": ["ALL"]},
        "seccompProfile": {"type": "Unconfined"},
    });
    assert_eq!(converted.container()["securityContext"], expected);
    let pod = converted.pod("web");
    assert_eq!(pod["securityContext"], json!({"supplementalGroups": [4]}));
    assert_eq!(pod["shareProcessNamespace"], true);
    let paths = [
        (8, "services.web.security_opt[2]"),
        (9, "services.web.group_add[1]"),
    ];
    assert_eq!(converted.warned(), paths);
}

#[test]
fn only_kernel_parameters_that_the_kubelet_allows_are_set() {
    let converted = web("sysctls:\n  net.ipv4.tcp_syncookies: 0\n  net.core.somaxconn: 1024");
    let pod = converted.pod("web");
    let expected = json!([{"name": "net.ipv4.tcp_syncookies", "value": "0"}]);
    assert_eq!(pod["securityContext"]["sysctls"], expected);
    assert_eq!(
        converted.warned(),
        [(6, "services.web.sysctls.net.core.somaxconn")]
    );
}

#[test]
fn limits_reserve_nothing() {
    let container = web(
        "mem_limit: 1g\ndeploy:\n  resources:\n    limits: {cpus: '0.50', memory: 512M}\n    \
         reservations: {memory: 64m}",
    );
    let expected = json!({
        "limits": {"cpu": "500m", "memory": "512Mi"},
        "requests": {"cpu": "0", "memory": "64Mi"},
    });
    assert_eq!(container.container()["resources"], expected);
    let much = web("mem_reservation: 1g\nmem_limit: 512m");
    let amounts = json!({"limits": {"memory": "512Mi"}, "requests": {"memory": "512Mi"}});
    assert_eq!(much.container()["resources"], amounts);
    assert_eq!(much.warned(), [(4, "services.web.mem_reservation")]);
    let (line, says) = refused("services: {web: {image: x,\n mem_limit: much}}");
    assert_eq!(line, 2);
    assert!(says.contains("512m"), "{says}");
}

#[test]
fn a_check_says_when_a_pod_is_ready() {
    let container = web(
        "healthcheck:\n  test: [CMD-SHELL, 'pg_isready -U $$USER']\n  interval: 1m30s\n  \
         timeout: 500ms\n  retries: 5\n  start_period: 40s",
    );
    assert_eq!(container.warned(), []);
    let expected = json!({
        "exec": {"command": ["/bin/sh", "-c", "pg_isready -U $USER"]},
        "periodSeconds": 90,
        "timeoutSeconds": 1,
        "failureThreshold": 5,
    });
    let container = container.container();
    assert_eq!(container["readinessProbe"], expected);
    assert_eq!(container["livenessProbe"], json!(null));
}

#[test]
fn a_check_has_composes_own_times_and_forms() {
    let probe =
        |text: &str| web(&format!("healthcheck:\n  {text}")).container()["readinessProbe"].clone();
    let direct = probe("test: [CMD, curl, -f, localhost]");
    assert_eq!(
        direct["exec"]["command"],
        json!(["curl", "-f", "localhost"])
    );
    assert_eq!(direct["periodSeconds"], 30);
    assert_eq!(direct["timeoutSeconds"], 30);
    assert_eq!(direct["failureThreshold"], 3);
    let line = probe("test: a || b");
    assert_eq!(line["exec"]["command"], json!(["/bin/sh", "-c", "a || b"]));
    for none in ["test: [NONE]", "disable: true", "interval: 5s"] {
        assert_eq!(probe(none), json!(null), "{none}");
    }
    let (line, _) = refused("services: {web: {image: x, healthcheck: {\n test: [curl, x]}}}");
    assert_eq!(line, 2);
}

#[test]
fn a_check_of_the_image_alone_is_told() {
    assert_eq!(
        web("healthcheck:\n  interval: 5s").warned(),
        [(4, "services.web.healthcheck")]
    );
}
