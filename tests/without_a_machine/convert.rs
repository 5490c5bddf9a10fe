//! `coracle convert` with manifests: what it reads, writes and refuses.

use coracle_tests::{Coracle, write};

const OLD: &str = "apiVersion: batch/v1beta1 # as it was
kind: CronJob
metadata: {name: clean}
";

#[test]
fn manifests_are_converted_from_a_file_or_standard_input() {
    let coracle = Coracle::new();
    let file = coracle.work().join("old.yaml");
    write(&file, OLD);
    let expected = OLD.replace("batch/v1beta1", "batch/v1");
    let converted = coracle.run("convert").args([&file]).ok();
    assert_eq!(converted.stdout, expected);
    let told = "old.yaml:1: CronJob clean: batch/v1beta1 is batch/v1";
    assert!(converted.stderr.contains(told), "{converted}");
    let piped = coracle.run("convert -").stdin(OLD).ok();
    assert_eq!(piped.stdout, expected);
    let again = coracle.run("convert -").stdin(expected.as_str()).ok();
    assert_eq!(again.stdout, expected);
    assert!(
        again.stderr.contains("of current versions already"),
        "{again}"
    );
}

#[test]
fn what_cannot_be_converted_is_said_and_nothing_is_written() {
    let coracle = Coracle::new();
    let (file, output) = (
        coracle.work().join("old.yaml"),
        coracle.work().join("new.yaml"),
    );
    write(&file, OLD);
    write(&output, "mine");
    let convert = || coracle.run("convert").args([&file]);
    let refused = convert().args(["-o"]).args([&output]).done();
    refused.fails(14, "CORACLE_USAGE");
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "mine");
    convert()
        .args(["--project-name", "x"])
        .done()
        .fails(14, "CORACLE_USAGE");
    // The colon of such a key is elsewhere.
    write(&file, "kind: CronJob\n? apiVersion\n: batch/v1beta1\n");
    convert().done().fails(18, "CORACLE_MANIFEST_INVALID");
    write(&file, "kind: [\n");
    convert().done().fails(18, "CORACLE_COMPOSE_INVALID");
    let missing = coracle.run("convert nothing.yaml").done();
    missing.fails(14, "CORACLE_USAGE");
}
