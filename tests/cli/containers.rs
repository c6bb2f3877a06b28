//! Containers by name: `search --contid NAME` and `report containers`, over a log that tells of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// `web` begins twice, the second time with an identifier that was another's; two are called `db` at once.
const STORY: &str = "\
type=CONTAINER_OP msg=audit(1795298400.000:1): op=set opid=9 old-contid=18446744073709551615 contid=5 pid=1 auid=0 uid=0 tty=(none) ses=1 comm=\"runc\" exe=\"/usr/bin/runc\" res=1
type=VT_CONTAINER msg=audit(1795298400.000:1): state=begun contid=5 opid=9 parent=18446744073709551615 userns=1 mntns=2 pidns=3 netns=4 cgroup=5
type=VT_CONTAINER msg=audit(1795298400.001:2): state=described contid=5 runtime=\"runc\" id=\"ab12\" name=\"web\" image=\"nginx:1\"
type=SYSCALL msg=audit(1795298401.000:3): arch=c000003e syscall=2 success=no exit=-13 pid=9 comm=\"sh\" exe=\"/bin/sh\" key=\"k\"
type=CONTAINER_ID msg=audit(1795298401.000:3): contid=5
type=DM_EVENT msg=audit(1795298402.000:4): module=verity op=verify-data dev=7:1 sector=10 res=0
type=CONTAINER_ID msg=audit(1795298402.000:4): contid=5 VT_CONF=inferred VT_VIA=device
type=CONTAINER_OP msg=audit(1795298403.000:5): op=set opid=9 old-contid=5 contid=6 pid=1 auid=0 uid=0 tty=(none) ses=1 comm=\"sh\" exe=\"/bin/sh\" res=0
type=VT_GAP msg=audit(1795298404.500:6): source=audit records=7 count=exact from=1795298403.500 to=1795298404.500
type=CONTAINER_OP msg=audit(1795298410.000:7): op=drop opid=9 old-contid=5 contid=18446744073709551615 res=1
type=CONTAINER_OP msg=audit(1795298420.000:8): op=set opid=20 old-contid=18446744073709551615 contid=7 pid=1 auid=0 uid=0 tty=(none) ses=1 comm=\"runc\" exe=\"/usr/bin/runc\" res=1
type=VT_CONTAINER msg=audit(1795298420.001:9): state=described contid=7 runtime=\"runc\" id=\"ab34\" name=\"db\"
type=CONTAINER_OP msg=audit(1795298421.000:10): op=set opid=21 old-contid=18446744073709551615 contid=8 pid=1 auid=0 uid=0 tty=(none) ses=1 comm=\"runc\" exe=\"/usr/bin/runc\" res=1
type=VT_CONTAINER msg=audit(1795298421.001:11): state=described contid=8 runtime=\"runc\" id=\"cd56\" name=\"db\"
type=CONTAINER_OP msg=audit(1795298430.000:12): op=drop opid=20 old-contid=7 contid=18446744073709551615 res=1
type=CONTAINER_OP msg=audit(1795298440.000:13): op=set opid=30 old-contid=18446744073709551615 contid=7 pid=1 auid=0 uid=0 tty=(none) ses=1 comm=\"runc\" exe=\"/usr/bin/runc\" res=1
type=VT_CONTAINER msg=audit(1795298440.001:14): state=described contid=7 runtime=\"runc\" id=\"ef78\" name=\"web\" image=\"nginx:2\"
type=SYSCALL msg=audit(1795298441.000:15): arch=c000003e syscall=2 success=yes exit=3 pid=30 comm=\"sh\" exe=\"/bin/sh\" key=\"k\"
type=CONTAINER_ID msg=audit(1795298441.000:15): contid=7,^1
type=VT_CONTAINER msg=audit(1795298442.000:16): state=drift contid=7 opid=30 ns=net old=4 new=9 comm=\"sh\"
type=VT_GAP msg=audit(1795298450.000:17): source=oci-hook reason='there is no agent' containers=1 count=exact runtime=\"runc\" id=\"9999\" image=\"x\" from=1795298450.000 to=1795298450.000
";

fn run(args: &[&str], log: &str) -> (Option<i32>, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    std::fs::write(&path, log).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_veritrail"));
    let output: Output = command
        .args(args)
        .args(["--input", path.to_str().unwrap()])
        .stdin(Stdio::null())
        .env("TZ", "UTC0")
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The serials of the events that are found.
fn found(word: &str) -> (Option<i32>, Vec<u32>, String) {
    let (status, out, err) = run(&["search", "--json", "--contid", word], STORY);
    let serial = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap();
        u32::try_from(event["serial"].as_u64().unwrap()).unwrap()
    };
    (status, out.lines().map(serial).collect(), err)
}

#[test]
fn a_container_is_found_by_what_it_is_called() {
    // A number means each of its lives, and the end of a life is the container's too.
    let of_seven = vec![8, 9, 12, 13, 14, 15, 16];
    assert_eq!(found("7"), (Some(0), of_seven, String::new()));
    for (word, serials) in [
        ("ab12", &[1, 2, 3, 4, 5, 7][..]),
        ("ab1", &[1, 2, 3, 4, 5, 7]),
        // The first life of 7 alone, and the second.
        ("ab34", &[8, 9, 12]),
        ("ef", &[13, 14, 15, 16]),
    ] {
        assert_eq!(found(word), (Some(0), serials.to_vec(), String::new()), "{word}");
    }
    let (status, serials, err) = found("web");
    assert_eq!((status, serials), (Some(0), vec![1, 2, 3, 4, 5, 7, 13, 14, 15, 16]));
    let said = "veritrail: `web` was 2 containers, one after the other\n  \
        5  2026-11-21T22:00:00.000Z to 2026-11-21T22:00:10.000Z  name web, id ab12\n  \
        7  2026-11-21T22:00:40.000Z to now  name web, id ef78\n";
    assert_eq!(err, said);
}

#[test]
fn a_name_that_means_several_at_once_is_no_answer() {
    for (word, status, said) in [
        (
            "db",
            2,
            "veritrail: `db` may be any of 2 containers\n  7  2026-11-21T22:00:20.000Z to 2026-11-21T22:00:30.000Z  name db, id ab34\n  8  2026-11-21T22:00:21.000Z to now  name db, id cd56\n",
        ),
        ("ab", 2, "veritrail: `ab` may be any of 2 containers\n"),
        ("nobody", 1, "veritrail: no container on record is called `nobody`\n"),
        // Only what was registered has an identifier.
        ("9999a", 1, "veritrail: no container on record is called `9999a`\n"),
    ] {
        let (code, serials, err) = found(word);
        assert_eq!((code, serials.as_slice()), (Some(status), &[][..]), "{word}: {err}");
        assert!(err.starts_with(said), "{word}: {err}");
    }
    let mut child = Command::new(env!("CARGO_BIN_EXE_veritrail"))
        .args(["search", "--contid", "web", "--input", "-"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
}

#[test]
fn each_life_of_a_container_has_its_report() {
    let (status, out, err) = run(&["report", "containers", "--json"], STORY);
    assert_eq!((status, err.as_str()), (Some(0), ""));
    let rows: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<_> = rows.iter().map(|row| (row["contid"].clone(), row["id"].clone())).collect();
    let pair = |contid: &str, id: &str| (json!(contid), json!(id));
    assert_eq!(
        names,
        [
            pair("5", "ab12"),
            pair("7", "ab34"),
            pair("8", "cd56"),
            pair("7", "ef78"),
            // Nobody was ever this: only asked for.
            (json!("6"), Value::Null),
            (Value::Null, json!("9999")),
        ]
    );
    assert_eq!(
        rows[0],
        json!({
            "contid": "5", "name": "web", "runtime": "runc", "id": "ab12", "image": "nginx:1", "digest": null,
            "parent": null, "began": "2026-11-21T22:00:00.000Z", "ended": "2026-11-21T22:00:10.000Z",
            "by": {"pid": 1, "comm": "runc"},
            "first": "2026-11-21T22:00:00.000Z", "last": "2026-11-21T22:00:10.000Z", "events": 6,
            "types": {"CONTAINER_OP": 3, "DM_EVENT": 1, "SYSCALL": 1, "VT_CONTAINER": 1},
            "attributed": {"certain": 1, "inferred": 1},
            "violations": {"DM_EVENT": 1}, "failed": 1, "refused": 1, "drift": {}, "over_quota": {}, "gaps": 1,
            "unregistered": null,
        })
    );
    assert_eq!((&rows[3]["drift"], &rows[3]["gaps"]), (&json!({"net": 1}), &json!(0)));
    assert_eq!(rows[5]["unregistered"], "there is no agent");

    let (_, out, _) = run(&["report", "containers", "--contid", "ab12"], STORY);
    assert_eq!(
        out,
        "5  web\n  runc  id ab12  image nginx:1\n  \
         began 2026-11-21T22:00:00.000Z by runc (1), ended 2026-11-21T22:00:10.000Z\n  \
         events 6: CONTAINER_OP 3, DM_EVENT 1, SYSCALL 1, VT_CONTAINER 1, \
         2026-11-21T22:00:00.000Z to 2026-11-21T22:00:10.000Z\n  \
         attributed certain 1, inferred 1\n  violations DM_EVENT 1\n  \
         system calls failed 1\n  sets refused 1\n  gaps while it lived 1\n"
    );
    // Only what happened in that time is counted, and who did nothing then is left out.
    let span = ["report", "containers", "--json", "--start", "1795298441", "--end", "1795298441"];
    let (_, out, _) = run(&span, STORY);
    let row: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&row["contid"], &row["events"]), (&json!("7"), &json!(1)));
    let (status, out, _) = run(&["report", "containers"], "type=USER msg=audit(1.000:1): x\n");
    assert_eq!((status, out.as_str()), (Some(1), "no container is on record\n"));
}
