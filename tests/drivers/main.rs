//! Drivers are interchangeable: one more is a folder and a line of a list, and all the rest of the program
//! goes by what a driver says that it can do.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

mod addresses;
mod fakes;
mod one_more;

use coracle_tests::{Coracle, Sections};

#[test]
#[ignore = "the program built once more, and two cold starts"]
fn a_driver_more_is_one_folder_and_one_list() {
    let mut test = Sections::new("a driver more");
    let workspace = one_more::workspace();
    test.run("lint sees who names it elsewhere", || {
        one_more::is_named_nowhere_else(&workspace);
    });
    let program = test.must("the program is built with it", || {
        one_more::build(&workspace)
    });
    let mut coracle = Coracle::with_machine().with_program(program);
    coracle.set("CORACLE_DRIVER", one_more::NAME);
    one_more::use_its_network(&mut coracle);
    test.run("it is known by its name", || one_more::is_known(&coracle));
    test.run("doctor lists it, and what it cannot do", || {
        one_more::is_listed(&coracle);
    });
    test.must("a start is cold and ends with a ready cluster", || {
        one_more::start(&coracle);
    });
    test.run(
        "the address that its network gave hides none of ours",
        || {
            addresses::are_ours_and_the_networks(&coracle);
        },
    );
    test.run("what it cannot do is refused, with what to do", || {
        one_more::refuses(&coracle);
    });
    let before = test.must("a stop shuts down", || one_more::stop(&coracle));
    test.must("a start boots again with what was there", || {
        one_more::start_again(&coracle, &before);
    });
    test.run("delete leaves nothing", || {
        coracle.delete("coracle");
        coracle.nothing_is_left();
    });
    coracle.delete_all();
    test.finish();
}

#[test]
#[ignore = "a program is built, and a guest waited for in vain"]
fn a_cluster_lives_over_a_fake_of_virtualbox_as_far_as_that_goes() {
    fakes::life(fakes::Fake::virtualbox());
}

#[test]
#[ignore = "a program is built, and a guest waited for in vain"]
fn a_cluster_lives_over_a_fake_of_hyperv_as_far_as_that_goes() {
    fakes::life(fakes::Fake::hyperv());
}
