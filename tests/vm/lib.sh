# What scenarios share. A scenario fails where a command fails (set -e), where it calls `fail`, and
# when its time is up. It runs in an empty directory; $KERNEL is 6.12 or 6.1, $GOLDEN the golden
# images, $ARTEFACTS a directory whose files come out of the guest, $DISK0 ... its blank disks, $PHASE
# the boot it is in.
set -Eeuo pipefail
trap 'echo "failed: ${BASH_SOURCE[0]##*/} line $LINENO: $BASH_COMMAND" >&2' ERR

fail() {
    echo "failed: $*" >&2
    exit 1
}

# skip REASON: this machine or kernel cannot; told by the harness.
skip() {
    echo "@@ skip $*"
    exit 77
}

# check WHAT COMMAND...: the command succeeds.
check() {
    local what=$1
    shift
    "$@" || fail "$what: $*"
}

# refuse WHAT COMMAND...: the command fails.
refuse() {
    local what=$1
    shift
    if "$@"; then fail "$what: $*"; fi
}

# expect WHAT WANTED FOUND: two texts are equal.
expect() {
    [ "$2" = "$3" ] && return
    echo "failed: $1" >&2
    diff <(printf '%s\n' "$2") <(printf '%s\n' "$3") | sed 's/^</wanted:/; s/^>/found: /' >&2 || true
    exit 1
}

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
    local end=$((${EPOCHREALTIME/./} + $1 * 1000000))
    shift
    until "$@"; do
        [ "${EPOCHREALTIME/./}" -lt "$end" ] || fail "in vain waited for: $*"
        sleep 0.05
    done
}

# corrupt FILE OFFSET: 8 bytes, as the golden images' README does.
corrupt() {
    printf 'CORRUPT!' | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# loop FILE [OPTION...]: prints the loop device.
loop() {
    local file=$1
    shift
    losetup --show -f "$@" "$file"
}

# direct DEVICE OFFSET BYTES [SIZE]: read past the page cache, in pieces of SIZE (4096), going on
# after errors; fails if a piece did.
direct() {
    local size=${4:-4096} at status=0
    for ((at = $2; at < $2 + $3; at += size)); do
        dd if="$1" of=/dev/null bs="$size" count=1 skip="${at}B" iflag=direct status=none 2>/dev/null || status=1
    done
    return "$status"
}

# mark: from here on `records` looks.
mark() {
    MARK=$NAME.$EPOCHREALTIME
    echo "mark $MARK" >/dev/kmsg
}

# records [TYPE...]: the bodies of the kernel's audit records since the mark, out of the kernel's log
# (it has them while no daemon is registered). Types are numbers; without any, 1339 (DM_EVENT).
records() {
    dmesg -r | awk -v mark="mark $MARK" -v types=" ${*:-1339} " '
        index($0, mark) {seen = 1; next}
        seen && match($0, /audit: type=[0-9]+ audit\([0-9.:]+\): /) {
            text = substr($0, RSTART); split(text, word, /[ =]/)
            if (index(types, " " word[3] " ")) print substr($0, RSTART + RLENGTH)
        }'
}

# device_number DEVICE: as records have it, 7:1.
device_number() {
    local numbers
    numbers=$(stat -L -c '%t %T' "$1")
    # shellcheck disable=SC2086
    set -- $numbers
    echo "$((16#$1)):$((16#$2))"
}

# going_down: what follows may end the guest; the next phase finds $PHASE one higher.
going_down() {
    echo "@@ going down"
    sleep 0.2
}
