//! What others publish about themselves. Nothing of it was measured here.

/// One published figure.
pub(crate) struct Published {
    /// Whose.
    pub(crate) who: &'static str,
    /// Seconds until an application runs on a new cluster and DNS answers there.
    pub(crate) seconds: f64,
}

/// Where the figures are from.
pub(crate) const SOURCE: &str = "Minikube's time-to-k8s benchmark of v1.36.0 (minikube.sigs.k8s.io, Benchmarks): \
    minikube 1.36.0, kind 0.29.0, k3d 5.8.3, row Total";
/// What has to be said beside every one of them.
pub(crate) const NOTE: &str = "as published, on real hardware";

/// The figures.
pub(crate) const FIGURES: &[Published] = &[
    Published {
        who: "Minikube",
        seconds: 50.8,
    },
    Published {
        who: "kind",
        seconds: 33.0,
    },
    Published {
        who: "k3d",
        seconds: 19.9,
    },
];
