//! The choice by table, and reading of what it depends on.

use super::*;

fn linux(kvm: DeviceNode, cpu_flag: Option<bool>) -> AcceleratorFacts {
    AcceleratorFacts {
        system: HostSystem::Linux,
        host: Architecture::X86_64,
        guest: Architecture::X86_64,
        kvm,
        cpu_flag,
        hypervisor_framework: None,
        built_in: BTreeSet::from([Accelerator::Kvm, Accelerator::Tcg]),
    }
}

#[test]
fn automatic_choice_by_table() {
    use Accelerator::{Hvf, Kvm, Tcg, Whpx};
    let opens = || linux(DeviceNode::Opens, Some(true));
    let arm = AcceleratorFacts {
        host: Architecture::Aarch64,
        cpu_flag: None,
        ..opens()
    };
    let mac = |support| AcceleratorFacts {
        system: HostSystem::MacOs,
        kvm: DeviceNode::Absent,
        cpu_flag: None,
        hypervisor_framework: support,
        built_in: BTreeSet::from([Hvf, Tcg]),
        ..opens()
    };
    let windows = |built_in: &[Accelerator]| AcceleratorFacts {
        system: HostSystem::Windows,
        kvm: DeviceNode::Absent,
        cpu_flag: None,
        built_in: built_in.iter().copied().collect(),
        ..opens()
    };
    let table = [
        (opens(), Kvm, "kvm works"),
        (
            linux(DeviceNode::Opens, Some(false)),
            Tcg,
            "/dev/kvm is here but the CPU offers no vmx or svm",
        ),
        (
            linux(DeviceNode::Denied, Some(false)),
            Tcg,
            "/dev/kvm is here but the CPU offers no vmx or svm",
        ),
        (
            linux(DeviceNode::Denied, Some(true)),
            Tcg,
            "may not open /dev/kvm",
        ),
        (
            linux(DeviceNode::Failed("no such device".into()), Some(true)),
            Tcg,
            "no such device",
        ),
        (
            linux(DeviceNode::Absent, Some(true)),
            Tcg,
            "there is no /dev/kvm (is",
        ),
        (
            linux(DeviceNode::Absent, Some(false)),
            Tcg,
            "no /dev/kvm and the CPU offers no vmx or svm",
        ),
        (
            AcceleratorFacts {
                built_in: BTreeSet::from([Tcg]),
                ..opens()
            },
            Tcg,
            "built without kvm",
        ),
        (
            arm.clone(),
            Tcg,
            "the guest is x86_64 and the host is aarch64",
        ),
        (
            AcceleratorFacts {
                guest: Architecture::Aarch64,
                ..arm
            },
            Kvm,
            "kvm works",
        ),
        (mac(Some(true)), Hvf, "hvf works"),
        (mac(Some(false)), Tcg, "kern.hv_support"),
        (mac(None), Tcg, "kern.hv_support"),
        (windows(&[Whpx, Tcg]), Whpx, "whpx works"),
        (windows(&[Tcg]), Tcg, "built without whpx"),
        (
            AcceleratorFacts {
                system: HostSystem::Other,
                ..opens()
            },
            Tcg,
            "no accelerator",
        ),
    ];
    for (facts, accelerator, reason) in table {
        let verdict = decide(AcceleratorChoice::Auto, &facts).unwrap();
        assert_eq!(verdict.accelerator, accelerator, "{facts:?}");
        assert!(
            verdict.reason.contains(reason),
            "{} does not contain {reason}",
            verdict.reason
        );
        assert_eq!(
            verdict.reason.contains("software emulation"),
            accelerator == Tcg
        );
    }
}

#[test]
fn an_accelerator_that_was_asked_for_is_never_replaced() {
    let only = AcceleratorChoice::Only;
    let denied = linux(DeviceNode::Denied, Some(true));
    let error = decide(only(Accelerator::Kvm), &denied).unwrap_err();
    assert!(
        error.permission
            && error
                .to_string()
                .contains("the accelerator kvm cannot be used"),
        "{error}"
    );
    assert!(decide(only(Accelerator::Hvf), &denied).is_err());
    assert_eq!(
        decide(only(Accelerator::Tcg), &denied).unwrap().accelerator,
        Accelerator::Tcg
    );
}

#[test]
fn a_choice_is_read_and_written() {
    for text in ["auto", "kvm", "hvf", "whpx", "tcg"] {
        let choice: AcceleratorChoice = text.parse().unwrap();
        assert_eq!(choice.to_string(), text);
        let json = serde_json::to_string(&choice).unwrap();
        assert_eq!(json, format!("\"{text}\""));
        assert_eq!(
            serde_json::from_str::<AcceleratorChoice>(&json).unwrap(),
            choice
        );
    }
    assert!(
        "xen"
            .parse::<AcceleratorChoice>()
            .unwrap_err()
            .to_string()
            .contains("known are auto")
    );
}

#[test]
fn the_flag_must_be_a_whole_word() {
    assert!(has_virtualisation_flag(
        "processor\t: 0\nflags\t\t: fpu vmx sse\n"
    ));
    assert!(has_virtualisation_flag("flags\t\t: svm\n"));
    assert!(!has_virtualisation_flag(
        "flags\t\t: fpu vmxnet svm_lock\nbugs: vmx\n"
    ));
}
