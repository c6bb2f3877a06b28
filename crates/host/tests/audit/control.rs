//! Requests and their answers, and what is said where there is none.

use std::process::Command;

use host::audit::{Control, Error, OnFailure};

use crate::auditing::Auditing;

#[test]
fn the_status_is_what_auditctl_shows() {
    let Some(mut auditing) = Auditing::begin("the_status_is_what_auditctl_shows") else { return };
    let control = &mut auditing.control;
    control.set_failure(OnFailure::Silent).unwrap();
    control.set_rate_limit(12_345).unwrap();
    control.set_backlog_limit(777).unwrap();
    let wait = control.status().unwrap().backlog_wait_time;
    control.set_backlog_wait_time(wait - 1).unwrap();
    let status = control.status().unwrap();
    let features = control.features().unwrap();
    let shown = Command::new("auditctl").arg("-s").output();
    control.set_failure(OnFailure::Print).unwrap();
    control.set_rate_limit(0).unwrap();
    control.set_backlog_wait_time(wait).unwrap();
    let lost = control.reset_lost().unwrap();
    assert!(lost >= status.lost);
    assert_eq!((status.failure, status.rate_limit, status.backlog_limit), (0, 12_345, 777));
    let Ok(shown) = shown else {
        return eprintln!("SKIPPED: the_status_is_what_auditctl_shows: no auditctl, our side only");
    };
    let shown = String::from_utf8(shown.stdout).unwrap();
    let word = |name: &str| -> u32 {
        let line = shown.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap().split(' ').next().unwrap().parse().unwrap()
    };
    for (name, value) in [
        ("enabled", status.enabled),
        ("failure", status.failure),
        ("pid", status.pid),
        ("rate_limit", status.rate_limit),
        ("backlog_limit", status.backlog_limit),
        ("lost", status.lost),
        ("backlog_wait_time", wait - 1),
        ("backlog_wait_time_actual", status.backlog_wait_time_actual),
        ("loginuid_immutable", features.on >> 1 & 1),
    ] {
        assert_eq!(value, word(name), "{name}");
    }
}

#[test]
fn messages_that_the_kernel_would_refuse_or_cut_are_not_sent() {
    let Some(mut auditing) =
        Auditing::begin("messages_that_the_kernel_would_refuse_or_cut_are_not_sent")
    else {
        return;
    };
    let long = [b'x'; Control::MESSAGE_BYTES + 1];
    let cases: [(u16, &[u8], &str); 6] = [
        (1339, b"module=verity", "its type"),
        (1200, b"op=start", "its type"),
        (2100, b"", "no text"),
        (2999, &long, "longer than 8560"),
        (1121, b"a\0b", "NUL"),
        (1020, b"x", "its type"),
    ];
    for (kind, text, said) in cases {
        let refused = auditing.control.send_user(kind, text).unwrap_err();
        assert!(matches!(refused, Error::Message { .. }), "{refused}");
        assert!(refused.to_string().contains(said), "{refused}");
    }
    for kind in [1005, 1100, 1199, 2100, 2999] {
        if kind != 1124 {
            auditing.control.send_user(kind, b"op=test").unwrap();
        }
    }
}

#[test]
fn rules_that_are_none_are_refused_with_the_reason() {
    let Some(mut auditing) = Auditing::begin("rules_that_are_none_are_refused_with_the_reason")
    else {
        return;
    };
    let control = &mut auditing.control;
    // exit,always for no system call and no field.
    let mut rule = vec![0; 1040];
    rule[0] = 4;
    rule[4] = 2;
    assert!(matches!(control.delete_rule(&rule), Err(Error::NoSuchRule { .. })));
    control.add_rule(&rule).unwrap();
    assert!(matches!(control.add_rule(&rule), Err(Error::RuleExists { .. })));
    assert_eq!(control.rules().unwrap(), [rule.clone()]);
    control.delete_rule(&rule).unwrap();
    assert!(control.rules().unwrap().is_empty());
    rule[0] = 2;
    for bad in [&rule[..], &rule[..1039], b"", &[0xff; 1040]] {
        assert!(matches!(control.add_rule(bad), Err(Error::Refused { .. })));
    }
}

#[test]
fn many_rules_are_listed_whole_and_in_order() {
    let Some(mut auditing) = Auditing::begin("many_rules_are_listed_whole_and_in_order") else {
        return;
    };
    let rules: Vec<Vec<u8>> = (0..500_u16)
        .map(|pid| {
            // user,always -F pid=N: the list that no system call has to walk.
            let mut rule = vec![0; 1040];
            rule[4] = 2;
            rule[8] = 1;
            rule[524..526].copy_from_slice(&pid.to_le_bytes());
            rule[783] = 0x40;
            rule
        })
        .collect();
    for rule in &rules {
        auditing.control.add_rule(rule).unwrap();
    }
    assert!(auditing.control.rules().unwrap() == rules);
}
