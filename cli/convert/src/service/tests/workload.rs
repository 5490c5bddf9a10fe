//! What runs the pods.

use serde_json::json;

use super::{of, refused, web};

#[test]
fn a_service_is_a_deployment_whatever_restarts_it() {
    for restart in ["", "restart: always", "restart: unless-stopped"] {
        let converted = web(restart);
        assert_eq!(converted.warned(), []);
        assert_eq!(converted.names(), ["Service/web", "Deployment/web"]);
        let spec = converted.object("Deployment", "web")["spec"].clone();
        assert_eq!(spec["strategy"], json!(null));
        let labels = json!({
            "app.kubernetes.io/name": "web",
            "app.kubernetes.io/part-of": "shop",
        });
        assert_eq!(spec["selector"]["matchLabels"], labels);
        assert_eq!(spec["template"]["metadata"]["labels"], labels);
    }
}

#[test]
fn a_pod_is_told_of_no_services_and_no_api_server() {
    let pod = web("").pod("web");
    assert_eq!(pod["enableServiceLinks"], false);
    assert_eq!(pod["automountServiceAccountToken"], false);
}

#[test]
fn a_service_that_is_not_to_be_restarted_is_a_job() {
    for text in [
        "restart: \"no\"",
        "restart: no",
        "deploy: {restart_policy: {condition: none}}",
    ] {
        let job = web(text).object("Job", "web");
        assert_eq!(job["spec"]["backoffLimit"], 0, "{text}");
        assert_eq!(job["spec"]["template"]["spec"]["restartPolicy"], "Never");
    }
    let waits =
        of("services:\n  db: {image: x}\n  web: {image: y, restart: 'no', depends_on: [db]}\n");
    let job = waits.object("Job", "web");
    assert_eq!(job["spec"]["backoffLimit"], 6);
    assert_eq!(
        job["spec"]["template"]["spec"]["restartPolicy"],
        "OnFailure"
    );
    let text = "deploy: {mode: replicated-job, replicas: 2, restart_policy: {max_attempts: 4}}";
    let job = web(text).object("Job", "web");
    assert_eq!(job["spec"]["backoffLimit"], 4);
    assert_eq!(job["spec"]["completions"], 2);
    assert_eq!(
        job["spec"]["template"]["spec"]["restartPolicy"],
        "OnFailure"
    );
}

#[test]
fn a_restart_after_failures_only_is_told() {
    let converted = web("restart: on-failure:3");
    assert_eq!(converted.warned(), [(4, "services.web.restart")]);
    converted.object("Deployment", "web");
    let (line, _) = refused("services: {web: {image: x,\n restart: sometimes}}");
    assert_eq!(line, 2);
}

#[test]
fn replicas_and_modes_are_those_of_the_file() {
    let replicas = |text| web(text).object("Deployment", "web")["spec"]["replicas"].clone();
    assert_eq!(replicas("scale: 3"), 3);
    assert_eq!(replicas("scale: 3\ndeploy: {replicas: 2}"), 2);
    assert_eq!(replicas("deploy: {replicas: 0}"), 0);
    assert_eq!(replicas(""), json!(null));
    web("deploy: {mode: global}").object("DaemonSet", "web");
}

#[test]
fn what_may_not_run_twice_ends_before_it_begins_anew() {
    let strategy = |text: &str| {
        let text = format!("services:\n  web: {{image: x, {text}}}\nvolumes:\n  data:\n");
        of(&text).object("Deployment", "web")["spec"]["strategy"].clone()
    };
    let recreate = json!({"type": "Recreate"});
    assert_eq!(strategy("volumes: ['data:/data']"), recreate);
    assert_eq!(strategy("volumes: ['./data:/data']"), recreate);
    assert_eq!(strategy("network_mode: host"), recreate);
    for free in [
        "volumes: ['data:/data:ro']",
        "tmpfs: /tmp",
        "volumes: [/data]",
    ] {
        assert_eq!(strategy(free), json!(null), "{free}");
    }
}

#[test]
fn labels_are_annotations() {
    let converted = web(
        "labels: ['com.example.a=b', 'rule[0]=x']\nannotations: {c: d}\n\
         deploy: {labels: {e: f}}",
    );
    let deployment = converted.object("Deployment", "web");
    let pod = &deployment["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(*pod, json!({"com.example.a": "b", "c": "d"}));
    assert_eq!(deployment["metadata"]["annotations"], json!({"e": "f"}));
    assert_eq!(converted.warned(), [(4, "services.web.labels[1]")]);
}

#[test]
fn how_a_container_ends_is_kept_but_for_its_signal() {
    let converted =
        web("stop_grace_period: 1m30s\nstop_signal: SIGINT\ntty: true\nstdin_open: true");
    assert_eq!(converted.pod("web")["terminationGracePeriodSeconds"], 90);
    assert_eq!(converted.container()["tty"], true);
    assert_eq!(converted.container()["stdin"], true);
    assert_eq!(converted.warned(), [(5, "services.web.stop_signal")]);
}

#[test]
fn one_command_runs_after_the_start_and_one_before_the_end() {
    let converted = web(
        "post_start:\n- command: /a.sh $$(b)\n  user: root\npre_stop:\n- command: [/b.sh]\n\
         - command: [/c.sh]",
    );
    let expected = json!({
        "postStart": {"exec": {"command": ["/a.sh", "$(b)"]}},
        "preStop": {"exec": {"command": ["/b.sh"]}},
    });
    assert_eq!(converted.container()["lifecycle"], expected);
    let paths = [
        (6, "services.web.post_start[0].user"),
        (9, "services.web.pre_stop[1]"),
    ];
    assert_eq!(converted.warned(), paths);
}

#[test]
fn what_comes_before_the_start_is_the_services_but_for_what_it_says() {
    let converted = of(
        "services:\n  web:\n    build: .\n    environment: {A: 1}\n    volumes: ['data:/data']\n    \
         pre_start:\n    - command: [migrate]\n      environment: [B=2]\n    - image: busybox\n      \
         command: [chown, '1', /data]\n      user: root\nvolumes: {data: }\n",
    );
    let pod = converted.pod("web");
    let first = &pod["initContainers"];
    assert_eq!(first[0]["name"], "before-1");
    assert_eq!(first[0]["image"], "shop-web");
    assert_eq!(first[0]["args"], json!(["migrate"]));
    let both = json!([{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]);
    assert_eq!(first[0]["env"], both);
    assert_eq!(first[1]["image"], "busybox");
    assert_eq!(first[1]["securityContext"], json!({"runAsUser": 0}));
    let mount = json!([{"mountPath": "/data", "name": "data"}]);
    assert_eq!(first[1]["volumeMounts"], mount);
    assert_eq!(pod["containers"][0]["volumeMounts"], mount);
    assert_eq!(pod["containers"][0]["args"], json!(null));
    assert_eq!(pod["volumes"].as_array().map(Vec::len), Some(1));
    assert_eq!(converted.0.builds.len(), 1);
}

#[test]
fn nobody_waits_and_that_is_told() {
    let converted = of(
        "services:\n  db: {image: a}\n  web:\n    image: b\n    depends_on:\n      db:\n        \
         condition: service_healthy\n  plain: {image: c, depends_on: [db, web]}\n",
    );
    assert_eq!(
        converted.warned(),
        [(7, "services.web.depends_on.db.condition")]
    );
    assert!(converted.warning().contains("until db is ready"));
    let (line, _) = refused("services:\n  web: {image: x, depends_on:\n    [none]}\n");
    assert_eq!(line, 3);
    assert_eq!(
        web("depends_on: {none: {condition: service_healthy, required: false}}").warned(),
        []
    );
}
