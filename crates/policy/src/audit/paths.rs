//! Whether a file or a program is the one of a path, as far as the texts of records say.
//!
//! `path`, `dir` and `exe` are of the host: the kernel compares inodes there, so two texts that differ may be one
//! file. `cont_path`, `cont_dir` and `cont_exe` are what a process in a container calls it: texts, from its root.

use record::tables::syscall::Machine;
use record::value::Value as Text;

use super::evaluate::Holds;
use super::facts::{Fact, Facts, Name};

pub(super) fn exe(facts: &Facts<'_>, path: &[u8]) -> Holds {
    match facts.exe {
        Fact::Known(exe) if bytes(exe).eq(path.iter().copied()) => Holds::Yes,
        Fact::Known(_) if facts.resolved => Holds::No,
        Fact::Absent => Holds::No,
        Fact::Known(_) | Fact::Unknown => Holds::Unknown,
    }
}

/// Whether a task of a container runs the program that is at this path for it: the kernel writes where it found
/// it from the task's root.
pub(super) fn exe_inside(facts: &Facts<'_>, path: &[u8]) -> Holds {
    match facts.exe {
        Fact::Known(exe) => bytes(exe).eq(path.iter().copied()).into(),
        Fact::Absent => Holds::No,
        Fact::Unknown => Holds::Unknown,
    }
}

/// Whether what is below counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Below {
    Yes,
    No,
}

/// Whether a file is the one of a path, or below it.
pub(super) fn at_path(file: &Name<'_>, facts: &Facts<'_>, path: &[u8], below: Below) -> Holds {
    if file.inode == u64::MAX {
        return Holds::No;
    }
    match at_path_inside(file, facts, path, below) {
        Holds::No if !facts.resolved => Holds::Unknown,
        holds => holds,
    }
}

/// Whether a task of a container calls it so, be it there or not. What it reaches by a link of its own has
/// another name.
pub(super) fn at_path_inside(
    file: &Name<'_>,
    facts: &Facts<'_>,
    path: &[u8],
    below: Below,
) -> Holds {
    let name = match file.name {
        Fact::Known(name) => name,
        // Nothing has a name in a call that takes a descriptor.
        Fact::Absent | Fact::Unknown => return Holds::Unknown,
    };
    let relative = bytes(name).next() != Some(b'/');
    let folder = match facts.folder {
        Fact::Known(folder) if relative && begins_in_folder(facts) => Some(folder),
        _ if relative => return Holds::Unknown,
        _ => None,
    };
    let whole = || folder.into_iter().flat_map(bytes).chain([b'/']).chain(bytes(name));
    if has_dots(whole()) {
        return Holds::Unknown;
    }
    let mut is = single_slashes(whole());
    for byte in single_slashes(path.iter().copied()) {
        if is.next() != Some(byte) {
            return Holds::No;
        }
    }
    let behind = is.next();
    (behind.is_none() || (below == Below::Yes && (behind == Some(b'/') || path == b"/"))).into()
}

/// `AT_FDCWD`, its low half.
const AT_FDCWD: u32 = (-100_i32).cast_unsigned();

/// Whether relative names of the call begin in its working directory, and not in one that it has open.
fn begins_in_folder(facts: &Facts<'_>) -> bool {
    let (Fact::Known(arch), Fact::Known(call), Fact::Known(arguments)) =
        (facts.arch, facts.call, facts.arguments)
    else {
        return false;
    };
    let is_cwd = |at: usize| arguments.get(at) == Some(&AT_FDCWD);
    match Machine::from_audit_arch(arch).and_then(|machine| machine.syscall(call)) {
        Some("renameat" | "renameat2" | "linkat") => is_cwd(0) && is_cwd(2),
        Some("symlinkat") => is_cwd(1),
        Some("openat2" | "faccessat2" | "fchmodat2" | "statx") => is_cwd(0),
        Some("name_to_handle_at") => is_cwd(0),
        Some(name)
            if name.ends_with("at") && !matches!(name, "stat" | "lstat" | "fstat" | "shmat") =>
        {
            is_cwd(0)
        }
        Some(_) => true,
        None => false,
    }
}

/// The bytes that a value stands for.
fn bytes(text: Text<'_>) -> impl Iterator<Item = u8> + '_ {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let is_hex = matches!(text, Text::Literal(text)
        if text.len() % 2 == 0 && text.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'A'..=b'F')));
    let raw = text.text();
    let step = if is_hex { 2 } else { 1 };
    raw.chunks(step).map(move |part| match part {
        [high, low] => digit(*high).unwrap_or(0) << 4 | digit(*low).unwrap_or(0),
        [byte, ..] => *byte,
        [] => 0,
    })
}

/// Whether one of the parts is `.` or `..`.
fn has_dots(path: impl Iterator<Item = u8>) -> bool {
    let (mut dots, mut others) = (0, 0);
    let mut found = false;
    for byte in path.chain([b'/']) {
        match byte {
            b'/' => {
                found |= others == 0 && (dots == 1 || dots == 2);
                (dots, others) = (0, 0);
            }
            b'.' => dots += 1,
            _ => others += 1,
        }
    }
    found
}

/// Several slashes are one, and one at the end is none.
fn single_slashes(path: impl Iterator<Item = u8>) -> impl Iterator<Item = u8> {
    let mut path = path.peekable();
    let mut first = true;
    std::iter::from_fn(move || {
        let byte = path.next()?;
        if byte == b'/' {
            while path.next_if_eq(&b'/').is_some() {}
            if path.peek().is_none() && !first {
                return None;
            }
        }
        first = false;
        Some(byte)
    })
}

#[cfg(test)]
mod tests {
    use record::Line;

    use super::super::tests::parse;
    use super::super::{Decision, Field, InKernel, List, Rule, decide};
    use super::*;

    /// What one rule says of a call in container 5, if in one; `names` are the files'.
    fn decided(rule: &str, call: &str, cwd: &str, names: &[&str], contid: Option<u64>) -> Decision {
        let stamp = "msg=audit(1.000:2):";
        let mut text = vec![
            format!(
                "type=SYSCALL {stamp} arch=c000003e {call} success=yes exit=3 items={} ppid=1 pid=7 auid=0 uid=0 \
                 gid=0 euid=0 suid=0 fsuid=0 egid=0 sgid=0 fsgid=0 ses=1 comm=\"x\" exe=\"/usr/bin/x\" key=\"k\"",
                names.len()
            ),
            format!("type=CWD {stamp} cwd=\"{cwd}\""),
        ];
        for name in names {
            text.push(format!("type=PATH {stamp} item=0 name=\"{name}\" inode=9 dev=fe:00 mode=0100644 ouid=0 ogid=0"));
        }
        let lines: Vec<Line<'_>> =
            text.iter().map(|line| Line::parse(line.as_bytes()).unwrap()).collect();
        let mut facts = Facts::of_call(lines);
        facts.container = contid.map_or(Fact::Unknown, Fact::Known);
        decide(&[parse(&format!("-a always,exit {rule}"))], List::Exit, &facts)
    }

    const OPENAT: &str = "syscall=257 a0=ffffff9c a1=0 a2=0 a3=0";
    const YES: Decision = Decision::Rule { at: 0, action: super::super::Action::Always };

    #[test]
    fn inside_a_container_a_path_is_what_the_process_calls_it() {
        let of = |rule: &str, names: &[&str]| decided(rule, OPENAT, "/etc", names, Some(5));
        let doubt = |missing| Decision::CannotTell { at: 0, missing };
        for (rule, name, decision) in [
            ("-F cont_path=/etc/shadow", "/etc/shadow", YES),
            ("-F cont_path=/etc/shadow", "//etc//shadow", YES),
            ("-F cont_path=/etc/shadow", "shadow", YES),
            ("-F cont_path=/etc/shadow", "/etc/passwd", Decision::Nothing),
            ("-F cont_path=/etc/shadow", "/etc/shadow2", Decision::Nothing),
            ("-F cont_path=/etc/shadow", "/srv/../etc/shadow", doubt(Field::ContPath)),
            ("-F cont_path!=/etc/shadow", "/etc/shadow", Decision::Nothing),
            ("-F cont_path!=/etc/shadow", "/etc/passwd", YES),
            ("-F cont_dir=/etc", "/etc/ssl/x", YES),
            ("-F cont_dir=/etc", "ssl/x", YES),
            ("-F cont_dir=/etc", "/etc2/x", Decision::Nothing),
            ("-F cont_dir=/etc/", "/srv/x", Decision::Nothing),
            ("-F cont_exe=/usr/bin/x", "/srv/x", YES),
            ("-F cont_exe=/bin/x", "/srv/x", Decision::Nothing),
            ("-F cont_exe!=/bin/x", "/srv/x", YES),
        ] {
            assert_eq!(of(rule, &[name]), decision, "{rule} {name}");
        }
        // One file of several is enough.
        assert_eq!(of("-F cont_path=/a", &["/b", "/a"]), YES);
        // Nobody is told of who is in no container, nor of who may be in none as if he were in one.
        for rule in ["-F cont_path=/a", "-F cont_path!=/b", "-F cont_exe=/usr/bin/x"] {
            assert_eq!(decided(rule, OPENAT, "/", &["/a"], Some(u64::MAX)), Decision::Nothing);
            let unknown = decided(rule, OPENAT, "/", &["/a"], None);
            assert!(matches!(unknown, Decision::CannotTell { .. }), "{rule}");
        }
    }

    #[test]
    fn a_name_in_a_directory_that_is_open_could_be_any() {
        let of =
            |call: &str| decided("-F cont_path=/etc/shadow", call, "/etc", &["shadow"], Some(5));
        let doubt = Decision::CannotTell { at: 0, missing: Field::ContPath };
        for (call, decision) in [
            ("syscall=257 a0=3 a1=0 a2=0 a3=0", doubt),
            ("syscall=2 a0=7fff a1=0 a2=0 a3=0", YES),
            // renameat2: from the one, to the other.
            ("syscall=316 a0=ffffff9c a1=0 a2=5 a3=0", doubt),
            ("syscall=316 a0=ffffff9c a1=0 a2=ffffff9c a3=0", YES),
            ("syscall=266 a0=7fff a1=ffffff9c a2=0 a3=0", YES),
        ] {
            assert_eq!(of(call), decision, "{call}");
        }
    }

    #[test]
    fn the_kernel_gets_what_it_knows_of_such_a_rule() {
        let rule =
            parse("-a always,exit -S openat -F perm=wa -F cont_path=/etc/shadow -F uid=0 -k k");
        let kernel = parse("-a always,exit -S openat -F perm=wa -F uid=0 -k k");
        assert_eq!(rule.in_kernel(), InKernel::Broader(Box::new(kernel)));
        let never: Rule = parse("-a never,exit -F cont_exe=/usr/bin/noisy");
        assert_eq!(never.in_kernel(), InKernel::Nothing);
    }
}
