use super::*;
use proptest::prelude::*;

const ROOT: &str = "a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15";

/// The one entry of a table with this line behind two others.
fn good(line: &str) -> Entry {
    let tab = parse(format!("# a comment\n\n{line}\n").as_bytes());
    assert_eq!(tab.problems, [], "{line}");
    let [entry] = tab.devices.try_into().unwrap();
    assert_eq!(entry.line, 3);
    entry
}

/// `line:column: what (hint)` of the one problem of a table.
fn bad(text: impl AsRef<[u8]>) -> String {
    let tab = parse(text.as_ref());
    assert_eq!(tab.devices, [], "{:?}", String::from_utf8_lossy(text.as_ref()));
    let [Problem { line, column, what, hint, .. }] = tab.problems.try_into().unwrap();
    let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
    format!("{line}:{column}: {what}{hint}")
}

#[test]
fn the_examples_of_the_manual_are_read() {
    let entry = good(&format!(
        "usr  PARTUUID=783e45ae-7aa3-484a-beef-a80ff9c19cbb PARTUUID=21dc1dfe-4c33-8b48-98a9-918a22eb3e37 {ROOT} auto"
    ));
    assert_eq!(entry.data, "/dev/disk/by-partuuid/783e45ae-7aa3-484a-beef-a80ff9c19cbb");
    assert_eq!(entry.hash, "/dev/disk/by-partuuid/21dc1dfe-4c33-8b48-98a9-918a22eb3e37");
    assert_eq!((entry.name.as_str(), entry.root_hash.as_str()), ("usr", ROOT));
    assert_eq!(entry.options, [""; 0]);
    let entry = good(&format!("data /etc/data /etc/hash {ROOT} auto"));
    assert_eq!((entry.data.as_str(), entry.hash.as_str()), ("/etc/data", "/etc/hash"));
}

#[test]
fn every_option_becomes_an_argument_of_open() {
    for (option, argument) in [
        ("superblock=no", Some("--no-superblock")),
        ("superblock=Off", Some("--no-superblock")),
        ("superblock=1", None),
        ("superblock=TRUE", None),
        ("format=0", Some("--format=0")),
        ("data-block-size=512", Some("--data-block-size=512")),
        ("hash-block-size=4K", Some("--hash-block-size=4096")),
        ("data-blocks=64", Some("--data-blocks=64")),
        ("hash-offset=262144", Some("--hash-offset=262144")),
        ("hash-offset=1G", Some("--hash-offset=1073741824")),
        ("salt=-", Some("--salt=-")),
        ("salt=", Some("--salt=-")),
        ("salt=00ff", Some("--salt=00ff")),
        (
            "uuid=6b2ba1de-e5d9-4ec2-a8c0-8aa3b2a3c2f5",
            Some("--uuid=6b2ba1de-e5d9-4ec2-a8c0-8aa3b2a3c2f5"),
        ),
        ("hash=sha512", Some("--hash=sha512")),
        ("ignore-corruption", Some("--ignore-corruption")),
        ("restart-on-corruption", Some("--restart-on-corruption")),
        ("panic-on-corruption", Some("--panic-on-corruption")),
        ("ignore-zero-blocks", Some("--ignore-zero-blocks")),
        ("check-at-most-once", Some("--check-at-most-once")),
        ("fec-device=/dev/sdc", Some("--fec-device=/dev/sdc")),
        ("fec-offset=8192", Some("--fec-offset=8192")),
        ("fec-roots=24", Some("--fec-roots=24")),
        ("root-hash-signature=/etc/a\\,b.p7s", Some("--root-hash-signature=/etc/a,b.p7s")),
        ("auto", None),
        ("noauto", None),
        ("nofail", None),
        ("_netdev", None),
        ("x-initrd.attach", None),
        ("x-veritrail.trail=/srv/trail", Some("--trail=/srv/trail")),
        ("x-veritrail.direct-io", Some("--direct-io")),
        ("x-veritrail.keyring=/etc/keys", Some("--keyring=/etc/keys")),
    ] {
        let entry = good(&format!("a /d /h {ROOT} {option}"));
        assert_eq!(entry.options, argument.into_iter().collect::<Vec<_>>(), "{option}");
        assert_eq!(entry.signature, None);
    }
    let entry =
        good(&format!("a /d /h {ROOT} nofail,superblock=n,root-hash-signature=base64:MAA="));
    assert_eq!(entry.options, ["--no-superblock"]);
    assert_eq!(entry.signature, Some(vec![0x30, 0]));
    for none in ["", " ", "  -", "\tnone\r"] {
        assert_eq!(good(&format!("a /d /h {ROOT}{none}")).options, [""; 0]);
    }
}

#[test]
fn tags_are_spelled_as_udev_does() {
    for (tag, path) in [
        ("UUID=ABCD-1234", "/dev/disk/by-uuid/ABCD-1234"),
        ("LABEL=a/../b", "/dev/disk/by-label/a\\x2f..\\x2fb"),
        ("LABEL=größe=1", "/dev/disk/by-label/größe=1"),
        ("PARTLABEL=\"x\"", "/dev/disk/by-partlabel/\\x22x\\x22"),
        ("PARTUUID=1", "/dev/disk/by-partuuid/1"),
    ] {
        assert_eq!(good(&format!("a {tag} /h {ROOT}")).data, path);
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    const LINE: &str = "a line is: volume-name data-device hash-device roothash options";
    for (text, expected) in [
        ("a", format!("1:2: the data-device is missing ({LINE})")),
        ("# x\n\n  a /d\t/h  ", format!("3:10: the roothash is missing ({LINE})")),
        (
            "a /d /h ROOT nofail noauto",
            "1:81: a line has five fields, and this is a sixth (options stand behind each other \
             with commas and without blanks)"
                .to_owned(),
        ),
        (".a /d /h ROOT", "1:1: a name does not begin with a dot".to_owned()),
        (
            "a d /h ROOT",
            "1:3: d is no device: an absolute path, UUID=, LABEL=, PARTUUID= or PARTLABEL= is"
                .to_owned(),
        ),
        ("a /d UUID= ROOT", "1:6: UUID= has nothing behind the =".to_owned()),
        (
            "a /d /h -",
            "1:9: the root hash is not looked for in udev's properties (write it in the line: \
             whoever can change the disk can change those)"
                .to_owned(),
        ),
        (
            "a /d /h ROOT nofail,hash-offest=1",
            "1:81: there is no option hash-offest (hash-offset is one)".to_owned(),
        ),
        (
            "a /d /h ROOT xyzzy",
            "1:74: there is no option xyzzy (veritytab(5) and `veritrail serve --help` have them)"
                .to_owned(),
        ),
        (
            "a /d /h ROOT ,nofail",
            "1:74: there is no option empty (veritytab(5) and `veritrail serve --help` have them)"
                .to_owned(),
        ),
        ("a /d /h ROOT nofail=1", "1:74: nofail takes no value".to_owned()),
        ("a /d /h ROOT data-blocks", "1:74: data-blocks needs a value: =".to_owned()),
        ("a /d /h ROOT data-blocks=-1", "1:74: data-blocks is -1: no number".to_owned()),
        ("a /d /h ROOT hash-offset=17E", "1:74: hash-offset is 17E: no size in bytes".to_owned()),
        ("a /d /h ROOT fec-roots=1", "1:74: fec-roots is 1: 2 to 24 is meant".to_owned()),
        (
            "a /d /h ROOT superblock=maybe",
            "1:74: superblock is maybe: yes or no is meant".to_owned(),
        ),
        (
            "a /d /h ROOT x-veritrail.trail=t",
            "1:74: x-veritrail.trail t is no absolute path".to_owned(),
        ),
        ("a /d /h ROOT nofail,nofail", "1:81: nofail is given twice".to_owned()),
        (
            "a /d /h ROOT ignore-corruption,panic-on-corruption",
            "1:92: panic-on-corruption and ignore-corruption exclude each other".to_owned(),
        ),
        (
            "a /d /h ROOT root-hash-signature=/a\\b",
            "1:96: only a comma or a backslash can stand behind a backslash".to_owned(),
        ),
        ("a /d\u{7}x /h ROOT", "1:5: this is a control character".to_owned()),
    ] {
        assert_eq!(bad(text.replace("ROOT", ROOT)), expected, "{text}");
    }
    assert_eq!(bad(b"a /\xc3\xa4\xff /h x"), "1:5: this is not UTF-8");
    for (text, begins) in [
        ("a /d /h xyz", "1:9: "),
        ("a /d /h ROOT hash=md4711", "1:74: hash is md4711: hash algorithm"),
        ("a /d /h ROOT data-block-size=1000", "1:74: data-block-size is 1000: "),
        ("a /d /h ROOT format=2", "1:74: format is 2: "),
        ("a /d /h ROOT salt=xy", "1:74: salt is xy: "),
        ("a /d /h ROOT uuid=1", "1:74: uuid is 1: "),
        ("a /d /h ROOT root-hash-signature=base64:!", "1:74: root-hash-signature is no base64: "),
    ] {
        let said = bad(text.replace("ROOT", ROOT));
        assert!(said.starts_with(begins), "{said}");
    }
}

#[test]
fn a_bad_line_spoils_no_other_and_a_name_has_one_line() {
    let tab = parse(format!("a /d /h {ROOT}\nb\nc /d /h {ROOT}\na /x /y {ROOT}").as_bytes());
    let names: Vec<&str> = tab.devices.iter().map(|entry| entry.name.as_str()).collect();
    assert_eq!(names, ["a", "c"]);
    let problems: Vec<_> =
        tab.problems.iter().map(|problem| (problem.line, problem.name.as_deref())).collect();
    assert_eq!(problems, [(2, Some("b")), (4, Some("a"))]);
    assert_eq!(tab.problems[1].what, "a is described in line 1 already");
}

#[test]
fn a_table_has_an_end() {
    let text = (0..2000).fold(String::new(), |text, n| text + &format!("n{n} /d /h {ROOT}\n"));
    let tab = parse(text.as_bytes());
    assert_eq!((tab.devices.len(), tab.problems.len()), (MOST_DEVICES, 1));
    assert_eq!(tab.problems[0].line, MOST_DEVICES + 1);
    let endless = parse("x".repeat(1 << 20).as_bytes());
    assert!(endless.problems[0].name.as_ref().unwrap().len() < 100);
    let endless = bad(format!("a /d /h {ROOT} {}", "x".repeat(1 << 20)));
    assert!(endless.len() < 200, "{endless}");
}

proptest! {
    /// Whatever stands in a table, each line is a device, a problem or nothing, and what becomes an
    /// argument is one word that its option begins.
    #[test]
    fn any_bytes_are_a_table(
        pieces in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..8),
                proptest::sample::select(vec![
                    "a", " ", " /d", " /h", " \t", "\n", "#", ",", "=", "\\", "\\,", ROOT, "UUID=",
                    "nofail", "superblock=no", "salt=00", "hash-offset=4K", "base64:", "fec-roots=2",
                    "root-hash-signature=",
                ]).prop_map(|piece| piece.as_bytes().to_vec()),
            ],
            0..60,
        ),
    ) {
        let text = pieces.concat();
        let tab = parse(&text);
        let lines = text.split(|byte| *byte == b'\n').count();
        prop_assert!(tab.devices.len() + tab.problems.len() <= lines);
        for entry in &tab.devices {
            prop_assert!(Name::parse(&entry.name).is_ok());
            prop_assert!(entry.data.starts_with('/') && entry.hash.starts_with('/'));
            for option in &entry.options {
                let argument = option.split('=').next().unwrap_or_default();
                prop_assert!(OPTIONS.iter().any(|(.., known)| *known == argument), "{}", option);
                prop_assert!(!option.contains(['\0', '\n']));
            }
        }
        for problem in &tab.problems {
            prop_assert!((1..=lines).contains(&problem.line) && problem.column > 0);
        }
    }
}
