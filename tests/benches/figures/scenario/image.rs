//! The image: built again, to download, built from nothing.

use super::Extent;
use crate::measure::time;
use crate::record::Record;
use coracle_tests::{Coracle, binary, repository};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longer than any build.
const LIMIT: Duration = Duration::from_secs(3 * 3600);

pub(crate) fn measure(coracle: &Coracle, record: &mut Record, extent: Extent) {
    for _ in 0..3 {
        record.sample("image.again", build_again(coracle));
    }
    if extent.size {
        let store = coracle_iso::images::Store::new(&coracle.home());
        let digest = store.current().expect("a store").expect("an image");
        let image = store.open(&digest).expect("the current image");
        let size = coracle_iso::images::download_size(&image).expect("the image's files");
        record.sample("image.download", mib(size.compressed()));
        record.sample("image.disk", mib(size.size()));
    } else {
        record.skip("image.download", "asked for with --size");
        record.skip("image.disk", "asked for with --size");
    }
    if extent.from_nothing {
        let sandbox = Coracle::new();
        let begun = Instant::now();
        let build = sandbox.run("image-build").folder(repository());
        build.limit(LIMIT).ok();
        record.sample("image.from-nothing", begun.elapsed().as_secs_f64());
    } else {
        record.skip("image.from-nothing", "asked for with --from-nothing");
    }
}

/// With the toolchains' own caches, as they are there for whoever builds again.
fn build_again(coracle: &Coracle) -> f64 {
    let mut run = coracle.program(binary()).args(["image-build"]);
    run = run.folder(repository()).env("CORACLE_HOME", shared_home());
    for name in ["HOME", "CORACLE_CACHE"] {
        if let Some(value) = std::env::var_os(name) {
            run = run.env(name, value);
        }
    }
    time(run)
}

fn shared_home() -> PathBuf {
    std::env::var_os("CORACLE_TEST_HOME")
        .map_or_else(|| repository().join("target/test-home"), PathBuf::from)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
