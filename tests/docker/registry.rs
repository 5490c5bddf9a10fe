//! A registry with a login: the distribution project's own, in a container.

use crate::client::Docker;
use crate::store::BASE;
use coracle_tests::{until, write};
use std::path::Path;
use std::time::Duration;

/// Where the engine and the kubelet reach it; every engine lets registries of its own host go without TLS.
const AT: &str = "localhost:5000";
const PASSWORD: &str = "open sesame";
/// Who may come in, with [`PASSWORD`], as htpasswd writes it.
const USERS: &str = "me:$2b$05$Ne/iWaGYj.f9XQUgCaH8U.NyxfZvwBgSWXGZ2Yw4lTEvGt.eS9tH.\n";
const CONFIG: &str = "version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/registry}, delete: {enabled: true}}
http: {addr: ':5000'}
auth: {htpasswd: {realm: test, path: /users}}
";
const SOON: Duration = Duration::from_secs(120);

/// Runs the registry that `scripts/clients` built.
pub(super) fn runs(docker: &Docker<'_>, program: &Path) {
    let folder = docker.cluster.coracle.work().join("registry");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(program, folder.join("registry")).unwrap();
    write(folder.join("users"), USERS);
    write(folder.join("config.yml"), CONFIG);
    let dockerfile = format!(
        "FROM {BASE}\nCOPY registry users config.yml /\nCMD [\"/registry\", \"serve\", \"/config.yml\"]\n"
    );
    write(folder.join("Dockerfile"), dockerfile);
    docker.ok(&format!("build -t registry:1 {}", folder.display()));
    docker.ok("run -d --name registry --restart always -p 5000:5000 registry:1");
    until("the registry answers", SOON, || {
        let logs = docker.ok("logs registry");
        logs.stderr.contains("listening on")
    });
}

/// Nobody gets in without the password; with it `docker` and `coracle image` push and pull, and pods
/// with a secret pull what was pushed.
pub(super) fn lets_in_who_logged_in(docker: &Docker<'_>) {
    let cluster = docker.cluster;
    let (ours, other) = (format!("{AT}/site:1"), format!("{AT}/site:2"));
    docker.ok(&format!("tag {BASE} {ours}"));
    let refused = docker.refused(&format!("push {ours}"));
    assert!(refused.contains("no basic auth credentials"), "{refused}");
    let push = format!("image push {ours}");
    let refused = cluster.command(&push).done();
    refused.fails(90, "CORACLE_RUNTIME").says("auth");

    let login = || docker.command(&format!("login {AT} -u me --password-stdin"));
    assert_ne!(login().stdin("wrong").done().code(), Some(0));
    login().stdin(PASSWORD).ok();
    docker.ok(&format!("push {ours}"));
    docker.ok(&format!("tag {BASE} {other}"));
    cluster.command(&format!("image push {other}")).ok();

    docker.ok(&format!("rmi {ours} {other}"));
    cluster.command(&format!("image pull {other}")).ok();
    docker.ok(&format!("pull {ours}"));
    let listed = docker.text("images --format {{.Repository}}:{{.Tag}}");
    assert!(
        listed.contains(&ours) && listed.contains(&other),
        "{listed}"
    );
    let image = format!("--image={other} --image-pull-policy=Never");
    cluster.kubectl(&format!("run pulled {image} -- sleep 100000"));
    cluster.kubectl("wait pod/pulled --for=condition=Ready --timeout=300s");

    docker.ok(&format!("rmi {ours}"));
    docker.ok(&format!("logout {AT}"));
    let nobody = docker.refused(&format!("pull {ours}"));
    assert!(nobody.contains("no basic auth credentials"), "{nobody}");
    let secret =
        format!("create secret docker-registry known --docker-server={AT} --docker-username=me");
    let secret = cluster
        .kubectl_run(&secret)
        .args([format!("--docker-password={PASSWORD}")]);
    secret.ok();
    cluster.apply(&format!(
        "apiVersion: v1
kind: Pod
metadata: {{name: known}}
spec:
  imagePullSecrets: [{{name: known}}]
  containers: [{{name: c, image: '{ours}', imagePullPolicy: Always, command: [sleep, '100000']}}]
"
    ));
    cluster.kubectl("wait pod/known --for=condition=Ready --timeout=300s");
    // What is here now any pod runs, by each of its names and without the secret.
    for (name, image) in [("stranger", ours.as_str()), ("own", BASE)] {
        let image = format!("--image={image} --image-pull-policy=IfNotPresent");
        cluster.kubectl(&format!("run {name} {image} -- sleep 100000"));
        cluster.kubectl(&format!(
            "wait pod/{name} --for=condition=Ready --timeout=300s"
        ));
    }
    cluster.kubectl("delete pod pulled known stranger own --now");
    docker.ok("rm -f -v registry");
}
