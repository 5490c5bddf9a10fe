//! What changes behind a Service while it is used: not one request fails.

use super::shop::{LIMIT, Shop, get};
use coracle_tests::until;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const DEPLOYMENT: &str = include_str!("rollout.yaml");
/// The Service's NodePort.
const PORT: u16 = 30095;
/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(20);

/// How long it is asked on after a switch.
const AFTERWARDS: Duration = Duration::from_secs(2);

/// Asks again and again while something is done: every answer, none of which may be missing.
fn asked_meanwhile(address: SocketAddr, act: impl FnOnce()) -> Vec<String> {
    let (answers, is_over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                let answer = get(address).unwrap_or_else(|| "no answer".to_owned());
                let line = answer.lines().last().unwrap_or_default().to_owned();
                answers.lock().expect("nobody panicked").push(line);
                std::thread::park_timeout(PAUSE);
            }
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        is_over.store(true, Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
    answers.into_inner().expect("nobody panicked")
}

/// Every answer is one of these, and each of them was given.
#[track_caller]
fn are_all_of(answers: &[String], versions: &[&str]) {
    let foreign: Vec<_> = answers
        .iter()
        .filter(|one| !versions.contains(&one.as_str()))
        .collect();
    let count = answers.len();
    assert!(
        foreign.is_empty(),
        "{} of {count}: {foreign:?}",
        foreign.len()
    );
    for version in versions {
        assert!(
            answers.iter().any(|one| one == version),
            "never {version:?} in {count}"
        );
    }
    eprintln!("{count} requests, none failed");
}

/// A rolling update and its undo, and a switch from one version to another.
pub(crate) fn changes_lose_no_request(shop: &Shop<'_>) {
    let address = SocketAddr::new(shop.address, PORT);
    for colour in ["blue", "green"] {
        shop.apply(&DEPLOYMENT.replace("COLOUR", colour));
    }
    shop.apply(&format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: front}}, spec: {{type: NodePort, \
         selector: {{colour: blue}}, ports: [{{port: 80, targetPort: 8080, nodePort: {PORT}}}]}}}}"
    ));
    let rolled_out = |colour: &str| {
        shop.kubectl(&format!(
            "rollout status deployment/{colour} --timeout=300s"
        ));
    };
    rolled_out("blue");
    rolled_out("green");
    until("it answers", LIMIT, || get(address).is_some());
    let updated = asked_meanwhile(address, || {
        shop.kubectl("set env deployment/blue VERSION=2");
        rolled_out("blue");
        until("the old version is gone", LIMIT, || {
            shop.kubectl("get pods -l colour=blue -o name")
                .lines()
                .count()
                == 2
        });
    });
    are_all_of(&updated, &["blue 1", "blue 2"]);
    let undone = asked_meanwhile(address, || {
        shop.kubectl("rollout undo deployment/blue");
        rolled_out("blue");
        until("the new version is gone", LIMIT, || {
            shop.kubectl("get pods -l colour=blue -o name")
                .lines()
                .count()
                == 2
        });
    });
    are_all_of(&undone, &["blue 1", "blue 2"]);
    let switched = asked_meanwhile(address, || {
        let selector = r#"{"spec":{"selector":{"colour":"green"}}}"#;
        shop.kubectl(&format!("patch service front -p {selector}"));
        until("the other one answers", LIMIT, || {
            get(address).is_some_and(|answer| answer.contains("green"))
        });
        std::thread::park_timeout(AFTERWARDS);
    });
    are_all_of(&switched, &["blue 1", "green 1"]);
    shop.kubectl("delete service/front deployment/blue deployment/green");
}
