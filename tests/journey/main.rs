//! One cluster, from `start` to `delete`, and all that a person does with it in between.
//!
//! Nothing here comes from an image registry: the pods run the busybox that every cluster has, and
//! an image that the test makes of it.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

mod conversions;
mod host;
mod life;
mod logs;
mod machine;
mod workloads;

use coracle_tests::{Coracle, Libvirtd, Sections};

#[test]
fn a_cluster_does_what_a_cluster_does_from_start_to_delete() {
    journey("journey", Coracle::with_template());
}

#[test]
#[ignore = "a cold start and all of the journey once more, through libvirt"]
fn a_cluster_of_libvirt_does_the_same() {
    Libvirtd::with_sandbox(|coracle| journey("journey through libvirt", coracle));
}

fn journey(name: &'static str, mut coracle: Coracle) {
    let mut journey = Sections::new(name);
    let kubeconfig = life::foreign_kubeconfig(&mut coracle);

    journey.must("start ends with a ready cluster", || life::start(&coracle));
    journey.run("what the cluster uses", || machine::memory_in_use(&coracle));
    journey.run(
        "start on a running cluster changes nothing, in under two seconds",
        || life::start_again(&coracle, &kubeconfig),
    );
    journey.run("status, list, ip, version, doctor", || host::told(&coracle));
    journey.run("a damaged context is seen and written anew", || {
        host::update_context(&coracle)
    });
    journey.run(
        "the host's kubectl, and this program under that name",
        || host::other_kubectls(&coracle),
    );

    journey.run("whatever convert makes, the API takes", || {
        conversions::are_taken(&coracle);
    });
    journey.must("workloads are applied", || workloads::apply(&coracle));
    journey.run("commands in the machine over ssh", || {
        machine::ssh(&coracle)
    });
    journey.run("a person's shell in the machine", || {
        machine::interactive_ssh(&coracle)
    });
    journey.run("a plain OpenSSH client with the host key pinned", || {
        machine::plain_ssh(&coracle)
    });
    journey.run("what a person finds inside", || machine::inside(&coracle));
    journey.run("files and folders into the machine and out of it", || {
        machine::copy(&coracle)
    });
    journey.run("logs of components", || machine::logs(&coracle));
    journey.run("the kubernetes service has the usual address", || {
        workloads::kubernetes_service(&coracle)
    });
    journey.must("a deployment of three", || workloads::deployment(&coracle));
    journey.run("a service is resolved by name from another pod", || {
        workloads::service_by_name(&coracle)
    });
    journey.run("a manifest of an API version that is gone", || {
        workloads::old_manifest(&coracle)
    });
    journey.run("logs of a pod", || workloads::logs(&coracle));
    journey.run("exec with a terminal", || workloads::exec(&coracle));
    journey.run("port-forward", || workloads::port_forward(&coracle));
    journey.run("a job and a cron job", || workloads::jobs(&coracle));
    journey.run("a config map and a secret as files and environment", || {
        workloads::configuration(&coracle)
    });
    journey.run("known problems in the logs", || logs::problems(&coracle));
    journey.run("a bundle for a bug report holds no secret", || {
        logs::bundle(&coracle)
    });
    journey.run("a daemon set", || workloads::daemon_set(&coracle));
    journey.run("access is denied where it was not given", || {
        workloads::access(&coracle)
    });
    let second = journey.run("files out of a pod, and an image loaded", || {
        workloads::copy_and_load(&coracle)
    });
    if let Some(second) = second {
        journey.run("rollout: another image, undo, restart", || {
            workloads::rollout(&coracle, &second)
        });
    }
    journey.run("scale", || workloads::scale(&coracle));
    journey.must(
        "a stateful set writes to a volume of the default class",
        || workloads::volume(&coracle),
    );

    journey.must("stop", || life::stop(&coracle));
    journey.run("problems and a bundle of a stopped cluster", || {
        logs::of_a_stopped_cluster(&coracle)
    });
    journey.must("start again, with everything that was there", || {
        life::resume(&coracle)
    });
    journey.run("the volume's data outlived the stop", || {
        workloads::volume_is_kept(&coracle)
    });
    journey.run("the deployment is back", || {
        workloads::deployment_is_back(&coracle)
    });

    journey.run(
        "delete leaves nothing and brings the kubeconfig back",
        || life::delete(&coracle, &kubeconfig),
    );
    coracle.delete_all();
    journey.finish();
}
