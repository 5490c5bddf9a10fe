//! From a changed line to a pod that answers with it: built where pods run, beside the same without a build,
//! and beside a build that is saved and loaded, as where pods have images of their own.

use super::Extent;
use crate::measure::start::start;
use crate::record::Record;
use coracle_tests::{Coracle, Profile, Run, until, write};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const NAME: &str = "built";
/// Rounds, of each way.
const ROUNDS: usize = 5;
const LIMIT: Duration = Duration::from_secs(600);
const PORT: u16 = 30080;
const APP: &str = "FROM coracle.internal/busybox:1.37\nCOPY . /www\n\
                   CMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n";

/// The app, its cluster, and the docker command that is led there.
struct Loop<'a> {
    cluster: Profile<'a>,
    folder: PathBuf,
    variables: BTreeMap<String, String>,
}

pub(crate) fn measure(coracle: &Coracle, record: &mut Record, extent: Extent) {
    start(coracle, NAME, "");
    let cluster = Profile {
        coracle,
        name: NAME,
    };
    let app = Loop {
        cluster,
        folder: coracle.work().join("app"),
        variables: cluster.docker_variables(),
    };
    write(app.folder.join("Dockerfile"), APP);
    // The engine begins, and the app runs.
    app.build("app:first");
    cluster.apply(&manifests());
    app.until_it_says("app:first");
    for round in 0..extent.repeats(ROUNDS) {
        let [built, ready, copied] =
            ["built", "ready", "copied"].map(|way| format!("{way}:{round}"));
        app.build(&ready);
        let timed = |prepare: &dyn Fn(), image: &str| {
            let begun = Instant::now();
            prepare();
            cluster.kubectl(&format!("set image deployment/app app={image}"));
            app.until_it_says(image);
            begun.elapsed().as_secs_f64()
        };
        record.sample("loop.without", timed(&|| (), &ready));
        record.sample("loop.built", timed(&|| app.build(&built), &built));
        let build_and_copy = || {
            app.build(&copied);
            app.save_and_load(&copied);
        };
        record.sample("loop.copied", timed(&build_and_copy, &copied));
    }
    record.derive(
        "loop.over",
        ["loop.built", "loop.without"],
        |built, without| built - without,
    );
    coracle.run(&format!("delete -p {NAME}")).ok();
}

impl Loop<'_> {
    fn with(&self, program: &str) -> Run {
        let run = self.cluster.coracle.program(program).limit(LIMIT);
        run.envs(&self.variables)
    }

    /// Builds the app with a page that says the image's name.
    fn build(&self, image: &str) {
        write(self.folder.join("index.html"), image);
        self.with("docker")
            .args(["build", "-q", "-t", image])
            .args([&self.folder])
            .ok();
    }

    fn save_and_load(&self, image: &str) {
        let own: &Path = &coracle_tests::binary();
        let script = format!(
            "docker save {image} | {} image load -p {NAME} -",
            own.display()
        );
        self.with("sh").args(["-c", &script]).ok();
    }

    fn until_it_says(&self, image: &str) {
        let address = self.cluster.command("ip").ok();
        let url = format!("http://{}:{PORT}/", address.text());
        let page = || {
            let curl = ["-s", "--max-time", "10", &url];
            self.cluster
                .coracle
                .program("curl")
                .args(curl)
                .done()
                .stdout
        };
        until("a pod answers", LIMIT, || page() == image);
    }
}

fn manifests() -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: app}}
spec:
  selector: {{matchLabels: {{app: app}}}}
  template:
    metadata: {{labels: {{app: app}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: app
        image: app:first
        imagePullPolicy: Never
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: app}}
spec:
  type: NodePort
  selector: {{app: app}}
  ports: [{{port: 80, targetPort: 8080, nodePort: {PORT}}}]
"
    )
}
