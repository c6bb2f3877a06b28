//! The fields of a rule: one table of what linux/audit.h numbers, auditctl names, and the kernel
//! lets stand where (`audit_field_valid` in kernel/auditfilter.c).

use super::rule::List;

/// How two values are compared. The numbers are bits of `fieldflags`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `&`: some of the bits are set.
    Mask,
    /// `&=`: all of the bits are set.
    Test,
}

/// An operator, its bits, its sign; a sign before those that it begins with.
const OPERATORS: [(Operator, u32, &str); 8] = [
    (Operator::NotEqual, 0x3000_0000, "!="),
    (Operator::GreaterOrEqual, 0x6000_0000, ">="),
    (Operator::LessOrEqual, 0x5000_0000, "<="),
    (Operator::Test, 0x4800_0000, "&="),
    (Operator::Equal, 0x4000_0000, "="),
    (Operator::Greater, 0x2000_0000, ">"),
    (Operator::Less, 0x1000_0000, "<"),
    (Operator::Mask, 0x0800_0000, "&"),
];

impl Operator {
    /// The operator that the text begins with.
    pub(super) fn leading(text: &str) -> Option<Self> {
        OPERATORS.iter().find(|(.., sign)| text.starts_with(sign)).map(|(operator, ..)| *operator)
    }

    pub(super) fn from_bits(bits: u32) -> Option<Self> {
        OPERATORS.iter().find(|(_, known, _)| *known == bits).map(|(operator, ..)| *operator)
    }

    pub(super) fn bits(self) -> u32 {
        self.row().0
    }

    /// As it is written.
    #[must_use]
    pub fn sign(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (u32, &'static str) {
        OPERATORS
            .iter()
            .find(|(operator, ..)| *operator == self)
            .map_or((0, ""), |(_, bits, sign)| (*bits, sign))
    }
}

/// Operators that a field may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operators {
    All,
    /// Those that order.
    Order,
    /// `=` and `!=`.
    Equality,
    /// `=`.
    Equal,
}

impl Operators {
    pub(super) fn allow(self, operator: Operator) -> bool {
        match operator {
            Operator::Equal => true,
            Operator::NotEqual => self != Operators::Equal,
            Operator::Mask | Operator::Test => self == Operators::All,
            _ => matches!(self, Operators::All | Operators::Order),
        }
    }

    pub(super) fn signs(self) -> &'static str {
        match self {
            Operators::All => "= != < <= > >= & &=",
            Operators::Order => "= != < <= > >=",
            Operators::Equality => "= !=",
            Operators::Equal => "=",
        }
    }
}

/// Where a field means something. The kernel takes many of them elsewhere too, and they then never
/// match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// What is known of a message before it becomes a record, so known everywhere but in
    /// `filesystem`.
    Message,
    /// Only of a message.
    OnlyMessage,
    /// What is known of a task: `task`, `exit`, `io_uring`.
    Task,
    /// What is known at the end of a call: `exit`, `io_uring`.
    Call,
    /// `exit`.
    Exit,
    /// `user`, `exit`, `exclude`.
    Container,
    /// `filesystem`.
    Filesystem,
    /// Everywhere but of messages, for whose lists the kernel knows no key: such a rule matches
    /// nothing and ends the search (`audit_filter`).
    NoMessage,
}

impl Place {
    pub(super) fn includes(self, list: List) -> bool {
        match self {
            Place::NoMessage => !matches!(list, List::User | List::Exclude),
            Place::Message => list != List::Filesystem,
            Place::OnlyMessage => matches!(list, List::User | List::Exclude),
            Place::Task => matches!(list, List::Task | List::Exit | List::IoUring),
            Place::Call => matches!(list, List::Exit | List::IoUring),
            Place::Exit => list == List::Exit,
            Place::Container => matches!(list, List::User | List::Exit | List::Exclude),
            Place::Filesystem => list == List::Filesystem,
        }
    }
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A number of 32 bits, printed with its sign.
    Number,
    /// The same without.
    Unsigned,
    /// The same in hexadecimal.
    Hex,
    Uid,
    Gid,
    /// A login uid, which may be unset.
    LoginUid,
    Session,
    /// `AUDIT_ARCH_*`.
    Arch,
    /// A record's type.
    Type,
    /// What a call returned: a number, or an errno, negative.
    Exit,
    /// Letters of `rwxa`.
    Perm,
    FileType,
    FsType,
    /// An audit container identifier, of 64 bits.
    ContId,
    /// An address family, as a number.
    Family,
    /// 0 or 1.
    Flag,
    /// Which two fields are compared; written by -C.
    Comparison,
    /// Part of a security label, whose text is not the kernel's.
    Label,
    /// An absolute path.
    Path,
    /// What the records are found by.
    Key,
}

impl Kind {
    /// Whether the value is a text in `buf`, and its length in `values`.
    pub(super) fn is_text(self) -> bool {
        matches!(self, Kind::Label | Kind::Path | Kind::Key)
    }
}

/// What the table says of a field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) field: Field,
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) operators: Operators,
    pub(super) place: Place,
}

macro_rules! fields {
    ($($number:literal $name:literal $field:ident: $kind:ident $operators:ident $place:ident,)*) => {
        /// What is compared.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Field {
            $(#[doc = concat!("`", $name, "`, ", stringify!($number))] $field,)*
            /// A number that is none of these: of another kernel.
            Other(u32),
        }

        pub(super) const FIELDS: &[Row] = &[$(Row {
            field: Field::$field,
            number: $number,
            name: $name,
            kind: Kind::$kind,
            operators: Operators::$operators,
            place: Place::$place,
        },)*];
    };
}

fields! {
    0 "pid" Pid: Number Order Message,
    1 "uid" Uid: Uid Order Message,
    2 "euid" Euid: Uid Order Task,
    3 "suid" Suid: Uid Order Task,
    4 "fsuid" FsUid: Uid Order Task,
    5 "gid" Gid: Gid Order Message,
    6 "egid" Egid: Gid Order Task,
    7 "sgid" Sgid: Gid Order Task,
    8 "fsgid" FsGid: Gid Order Task,
    9 "auid" Auid: LoginUid Order Message,
    10 "pers" Pers: Number All Task,
    11 "arch" Arch: Arch Equality Call,
    12 "msgtype" MsgType: Type Order OnlyMessage,
    13 "subj_user" SubjUser: Label Equality Message,
    14 "subj_role" SubjRole: Label Equality Message,
    15 "subj_type" SubjType: Label Equality Message,
    16 "subj_sen" SubjSen: Label Order Message,
    17 "subj_clr" SubjClr: Label Order Message,
    18 "ppid" Ppid: Number Order Call,
    19 "obj_user" ObjUser: Label Equality Exit,
    20 "obj_role" ObjRole: Label Equality Exit,
    21 "obj_type" ObjType: Label Equality Exit,
    22 "obj_lev_low" ObjLevLow: Label Order Exit,
    23 "obj_lev_high" ObjLevHigh: Label Order Exit,
    24 "loginuid_set" LoginUidSet: Flag Equality Message,
    25 "sessionid" SessionId: Session Order Task,
    26 "fstype" FsType: FsType Equality Filesystem,
    27 "contid" ContId: ContId All Container,
    100 "devmajor" DevMajor: Number Order Call,
    101 "devminor" DevMinor: Number All Call,
    102 "inode" Inode: Unsigned Equality Call,
    103 "exit" Exit: Exit Order Call,
    104 "success" Success: Number Order Call,
    105 "path" Path: Path Equal Call,
    106 "perm" Perm: Perm Equality Exit,
    107 "dir" Dir: Path Equal Call,
    108 "filetype" FileType: FileType Equality Call,
    109 "obj_uid" ObjUid: Uid Order Call,
    110 "obj_gid" ObjGid: Gid Order Call,
    111 "field_compare" FieldCompare: Comparison Equality Call,
    112 "exe" Exe: Path Equality Message,
    113 "saddr_fam" SaddrFam: Family Order Call,
    200 "a0" A0: Hex All Call,
    201 "a1" A1: Hex All Call,
    202 "a2" A2: Hex All Call,
    203 "a3" A3: Hex All Call,
    210 "key" Key: Key Equal NoMessage,
    1001 "cont_path" ContPath: Path Equality Exit,
    1002 "cont_dir" ContDir: Path Equality Exit,
    1003 "cont_exe" ContExe: Path Equality Exit,
}

impl Field {
    /// Whether no kernel that was released knows it: `contid` of the patches, and what is ours, whose numbers
    /// no kernel sees.
    #[must_use]
    pub fn is_beyond_kernels(self) -> bool {
        matches!(self, Field::ContId | Field::ContPath | Field::ContDir | Field::ContExe)
    }

    pub(super) fn row(self) -> Option<&'static Row> {
        FIELDS.iter().find(|row| row.field == self)
    }

    /// The field of a number of linux/audit.h.
    #[must_use]
    pub fn from_number(number: u32) -> Self {
        let row = FIELDS.iter().find(|row| row.number == number);
        row.map_or(Field::Other(number), |row| row.field)
    }

    /// The field of a name in any case, `loginuid` for `auid` as auditctl has it.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        let name = if name.eq_ignore_ascii_case("loginuid") { "auid" } else { name };
        FIELDS.iter().find(|row| row.name.eq_ignore_ascii_case(name)).map(|row| row.field)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u32 {
        match self {
            Field::Other(number) => number,
            known => known.row().map_or(0, |row| row.number),
        }
    }

    /// Its name, where it has one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        self.row().map(|row| row.name)
    }
}

/// Two fields that -C compares; the number is what `field_compare` has as its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Comparison(u32);

/// By number (`AUDIT_COMPARE_*`), from 1.
const COMPARISONS: [(Field, Field); 25] = [
    (Field::Uid, Field::ObjUid),
    (Field::Gid, Field::ObjGid),
    (Field::Euid, Field::ObjUid),
    (Field::Egid, Field::ObjGid),
    (Field::Auid, Field::ObjUid),
    (Field::Suid, Field::ObjUid),
    (Field::Sgid, Field::ObjGid),
    (Field::FsUid, Field::ObjUid),
    (Field::FsGid, Field::ObjGid),
    (Field::Uid, Field::Auid),
    (Field::Uid, Field::Euid),
    (Field::Uid, Field::FsUid),
    (Field::Uid, Field::Suid),
    (Field::Auid, Field::FsUid),
    (Field::Auid, Field::Suid),
    (Field::Auid, Field::Euid),
    (Field::Euid, Field::Suid),
    (Field::Euid, Field::FsUid),
    (Field::Suid, Field::FsUid),
    (Field::Gid, Field::Egid),
    (Field::Gid, Field::FsGid),
    (Field::Gid, Field::Sgid),
    (Field::Egid, Field::FsGid),
    (Field::Egid, Field::Sgid),
    (Field::Sgid, Field::FsGid),
];

impl Comparison {
    /// Of these two, in either order, if the kernel compares them.
    #[must_use]
    pub fn of(one: Field, other: Field) -> Option<Self> {
        let at = COMPARISONS.iter().position(|pair| *pair == (one, other) || *pair == (other, one));
        at.and_then(|at| u32::try_from(at + 1).ok()).map(Self)
    }

    /// The one of a number of linux/audit.h.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self(number).pair().map(|_| Self(number))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// The two.
    #[must_use]
    pub fn fields(self) -> (Field, Field) {
        self.pair().unwrap_or((Field::Uid, Field::Uid))
    }

    fn pair(self) -> Option<(Field, Field)> {
        COMPARISONS.get(usize::try_from(self.0.checked_sub(1)?).ok()?).copied()
    }
}

/// Files' types as auditctl names them, by their bits of the mode.
pub(super) const FILE_TYPES: record::tables::Named = &[
    (0o010_000, "fifo"),
    (0o020_000, "character"),
    (0o040_000, "dir"),
    (0o060_000, "block"),
    (0o100_000, "file"),
    (0o120_000, "link"),
    (0o140_000, "socket"),
];

/// File systems as auditctl names them, by their magic number.
pub(super) const FS_TYPES: record::tables::Named =
    &[(0x6462_6720, "debugfs"), (0x7472_6163, "tracefs")];

/// The bits of `perm`, in the order in which auditctl writes them.
pub(super) const PERMISSIONS: [(u32, char); 4] = [(4, 'r'), (2, 'w'), (1, 'x'), (8, 'a')];
