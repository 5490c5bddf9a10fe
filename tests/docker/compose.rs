//! Docker's own plugins, buildx and compose, with a web server and a real PostgreSQL; and the same project as
//! pods.

use crate::client::Docker;
use crate::reach::{free_port, page};
use crate::store::BASE;
use coracle_tests::{Coracle, Run, repository, until, write};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(300);
/// What is fetched and built from the registries, once.
const MADE: Duration = Duration::from_secs(1800);

/// PostgreSQL as Debian packages it, on nothing else.
const DATABASE: &str = "FROM scratch
ADD debian.tar /
COPY start /start
RUN chmod 755 /start && mkdir /data && chown postgres /data
USER postgres
CMD [\"/start\"]
";
const START: &str = "#!/bin/sh
set -e
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
if [ ! -e /data/db/PG_VERSION ]; then
    initdb -D /data/db -A trust --no-sync
    echo 'host all all all trust' >> /data/db/pg_hba.conf
fi
exec postgres -D /data/db -c listen_addresses='*' -c unix_socket_directories=/tmp
";
/// What of Debian's packages only takes room, and time to be unpacked in an emulated machine.
const LEFT_OUT: [&str; 6] = [
    "/usr/share/doc/*",
    "/usr/share/man/*",
    "/usr/share/locale/*",
    "/usr/share/i18n/*",
    "/usr/lib/*/libLLVM*",
    "/usr/lib/postgresql/*/lib/bitcode/*",
];
/// Counts its visitors.
const WEB: &str = "
ARG DATABASE
FROM coracle.internal/busybox:1.37 AS tools
FROM ${DATABASE}
USER root
COPY --from=tools /bin/busybox /bin/busybox
COPY visits /www/cgi-bin/visits
RUN chmod 755 /www/cgi-bin/visits
USER postgres
CMD [\"/bin/busybox\", \"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]
";
const VISITS: &str = "#!/bin/sh
echo 'Content-Type: text/plain'
echo
psql -h db -U postgres -tAc 'create table if not exists visits (at timestamptz);
    insert into visits values (now()); select count(*) from visits' | tail -n 1
";

/// The folder of docker's plugins and of Debian's PostgreSQL, beside what else tests keep.
fn made() -> PathBuf {
    let cache = std::env::var_os("CORACLE_CACHE").map(PathBuf::from);
    let folder = cache
        .unwrap_or_else(|| repository().join("target"))
        .join("clients");
    let with_home = |run: Run| {
        let kept = [
            "HOME",
            "GOPROXY",
            "GOFLAGS",
            "GOCACHE",
            "GOMODCACHE",
            "GOSUMDB",
        ];
        kept.iter()
            .fold(run, |run, name| match std::env::var_os(name) {
                Some(value) => run.env(name, value),
                None => run,
            })
    };
    let scripts = Run::new(repository().join("scripts/clients")).args([&folder]);
    with_home(scripts).limit(MADE).ok();
    let debian = folder.join("postgresql.tar");
    if !debian.exists() {
        let new = folder.join("postgresql.new.tar");
        let without = LEFT_OUT.map(|path| format!("--dpkgopt=path-exclude={path}"));
        let path = new.display().to_string();
        let packages = ["--variant=minbase", "--include=postgresql", "trixie", &path];
        let debootstrap = without.iter().map(String::as_str).chain(packages);
        with_home(Run::new("mmdebstrap").args(debootstrap))
            .limit(MADE)
            .ok();
        std::fs::rename(new, debian).unwrap();
    }
    folder
}

/// Gives the docker command of a sandbox its plugins.
pub(super) fn plugins(coracle: &Coracle) -> PathBuf {
    let made = made();
    let folder = coracle.user_home().join(".docker/cli-plugins");
    std::fs::create_dir_all(&folder).unwrap();
    for plugin in ["docker-buildx", "docker-compose"] {
        symlink(made.join(plugin), folder.join(plugin)).unwrap();
    }
    made
}

pub(super) fn buildx_builds(docker: &Docker<'_>) {
    let folder = docker.cluster.coracle.user_home().join("stages");
    let file = |name: &str, text: &str| write(folder.join(name), text);
    file(
        "Dockerfile",
        &format!(
            "FROM {BASE} AS first\nARG WHO=nobody\n\
             RUN --mount=type=secret,id=token sh -c 'wc -c < /run/secrets/token > /size'\n\
             RUN echo $WHO > /who\nCOPY . /all\n\
             FROM {BASE}\nCOPY --from=first /size /who /all/ /made/\n\
             HEALTHCHECK --interval=1s CMD test -e /tmp/well\nCMD [\"sleep\", \"100000\"]\n"
        ),
    );
    file(".dockerignore", "*.log\n!keep.log\n");
    file("a.log", "left out");
    file("keep.log", "kept");
    file("token", "twelve bytes");
    let path = folder.to_str().unwrap();
    let build = format!(
        "buildx build --progress plain --secret id=token,src={path}/token \
         --build-arg WHO=me -t staged:1 {path}"
    );
    docker.ok(&build);
    let again = docker.ok(&build);
    assert!(again.stderr.contains("CACHED"), "{again}");
    docker.ok("run -d --name staged staged:1");
    assert_eq!(docker.inside("staged", "cat /made/size").trim(), "12");
    assert_eq!(docker.inside("staged", "cat /made/who"), "me");
    let files = docker.inside("staged", "ls /made");
    assert!(
        files.contains("keep.log") && !files.contains("a.log"),
        "{files}"
    );
    let history = docker.text("history --no-trunc staged:1");
    assert!(!history.contains("twelve bytes"), "{history}");
    let health = || docker.text("inspect -f {{.State.Health.Status}} staged");
    assert_ne!(health(), "healthy");
    docker.inside("staged", "touch /tmp/well");
    until("its check passes", SOON, || health() == "healthy");
    docker.ok("rm -f staged");
}

/// Writes the project, whose page is at this port.
fn project(coracle: &Coracle, made: &Path, port: u16) -> PathBuf {
    let folder = coracle.user_home().join("shop");
    let file = |name: &str, text: &str| write(folder.join(name), text);
    file("db/Dockerfile", DATABASE);
    file("db/start", START);
    std::fs::hard_link(made.join("postgresql.tar"), folder.join("db/debian.tar"))
        .or_else(|_| {
            std::fs::copy(made.join("postgresql.tar"), folder.join("db/debian.tar")).map(drop)
        })
        .unwrap();
    file("web/Dockerfile", WEB);
    file("web/visits", VISITS);
    file(
        "compose.yaml",
        &format!(
            "name: shop
services:
  db:
    build: ./db
    image: shop-db
    volumes: [data:/data]
    healthcheck:
      test: $$(echo /usr/lib/postgresql/*/bin)/pg_isready -h 127.0.0.1
      interval: 2s
      retries: 60
  web:
    build:
      context: ./web
      args: {{DATABASE: shop-db}}
    image: shop-web
    depends_on:
      db: {{condition: service_healthy}}
    ports: [\"{port}:8080\"]
  worker:
    image: {BASE}
    command: sleep 100000
    depends_on: [db]
volumes:
  data:
"
        ),
    );
    std::fs::set_permissions(
        folder.join("db/start"),
        std::fs::Permissions::from_mode(0o755),
    )
    .unwrap();
    folder
}

pub(super) fn a_project_lives(docker: &Docker<'_>, made: &Path) -> (PathBuf, u16) {
    let port = free_port();
    let folder = project(docker.cluster.coracle, made, port);
    let file = folder.join("compose.yaml");
    let compose = |arguments: &str| {
        docker
            .command(&format!("compose -f {} {arguments}", file.display()))
            .limit(MADE)
    };
    // The one is built from the other.
    compose("build db").ok();
    compose("build web").ok();
    compose("up -d").ok();
    let url = format!("http://localhost:{port}/cgi-bin/visits");
    let visits = || page(docker, &url).and_then(|text| text.trim().parse::<u32>().ok());
    // Its port is on this host a moment after it.
    until("it counts", SOON, || visits() == Some(1));
    assert_eq!(visits(), Some(2));
    let listed = compose("ps --format {{.Service}}:{{.State}}").ok();
    for service in ["db:running", "web:running", "worker:running"] {
        assert!(listed.text().contains(service), "{listed}");
    }
    let said = compose("logs db").ok();
    assert!(
        said.stdout.contains("ready to accept connections"),
        "{said}"
    );
    compose("up -d --no-recreate --scale worker=2 worker").ok();
    let workers = compose("ps -q worker").ok();
    assert_eq!(workers.text().lines().count(), 2);
    compose("up -d --no-recreate --scale worker=1 worker").ok();
    let workers = compose("ps -q worker").ok();
    assert_eq!(workers.text().lines().count(), 1);
    let asked = compose("exec -T worker nslookup db").ok();
    assert!(asked.stdout.contains("Address"), "{asked}");
    // What is written stays where it is, and all of it over a stop.
    compose("down").ok();
    assert_eq!(docker.text("ps -aq"), "");
    compose("up -d --wait").ok();
    until("it goes on counting", SOON, || visits() == Some(3));
    docker.cluster.command("stop").ok();
    docker.cluster.command("start").ok();
    assert_eq!(visits(), Some(4));
    compose("down -v").ok();
    assert_eq!(docker.text("volume ls -q"), "");
    (file, port)
}

pub(super) fn the_same_runs_as_pods(docker: &Docker<'_>, (file, port): &(PathBuf, u16)) {
    let cluster = docker.cluster;
    let converted = cluster.command(&format!("convert {}", file.display())).ok();
    // What pods need besides, and what Kubernetes does not do, is said with its line.
    let warned = converted.warnings();
    for said in [
        "compose.yaml:4: services.db.build",
        "compose.yaml:12: services.web.build",
        "compose.yaml:17: services.web.depends_on.db.condition",
    ] {
        let count = warned.iter().filter(|line| line.contains(said)).count();
        assert_eq!(count, 1, "{said}: {converted}");
    }
    assert_eq!(warned.len(), 3, "{converted}");
    cluster.apply(&converted.stdout);
    for service in ["db", "web", "worker"] {
        let status = format!("rollout status deployment {service} --timeout=600s");
        cluster.kubectl(&status);
    }
    let url = cluster.command("service web-published --url").ok();
    assert!(url.text().contains(&format!(":{port}")), "{url}");
    let address = url.text().lines().last().unwrap();
    let visits = || {
        page(docker, &format!("{address}/cgi-bin/visits"))
            .and_then(|text| text.trim().parse::<u32>().ok())
    };
    until("it counts", SOON, || visits() == Some(1));
    assert_eq!(visits(), Some(2));
    // The database begins anew with what it has written.
    cluster.kubectl("rollout restart deployment db");
    cluster.kubectl("rollout status deployment db --timeout=600s");
    until("it goes on counting", SOON, || {
        visits().is_some_and(|visits| visits > 2)
    });
    let wrong = file.with_file_name("wrong.yaml");
    write(
        &wrong,
        "services:\n  web:\n    image: app:1\n    ports: [a:b]\n",
    );
    let refused = cluster
        .command(&format!("convert {}", wrong.display()))
        .done();
    refused
        .fails(18, "CORACLE_COMPOSE_INVALID")
        .says("wrong.yaml:4");
}
