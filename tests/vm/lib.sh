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
    dmesg -C
}

# records [TYPE...]: the bodies of the kernel's audit records since the mark, out of the kernel's log
# (it has them while no daemon is registered). Types are numbers; without any, 1339 (DM_EVENT).
records() {
    dmesg -r | awk -v types=" ${*:-1339} " '
        match($0, /audit: type=[0-9]+ audit\([0-9.:]+\): /) {
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

# agent [OPTION...]: starts an agent and waits until it is ready. Its trail is ./trail.
agent() {
    veritrail agent run --trail "$PWD/trail" --run-dir "$PWD/run" "$@" >agent.said 2>agent.errors &
    AGENT=$!
    wait_for 30 grep -q '^ready' agent.said
}

# Ends it as a service manager does.
agent_stops() {
    kill -TERM "$AGENT"
    wait "$AGENT" || { cat agent.errors && fail "the agent ended with status $?"; }
}

# recorded WORD...: the records of the trail, without their tails, that contain each of the words; fails
# where there is none.
recorded() {
    local found word
    found=$(veritrail search --trail trail --raw | sed 's/\x1d.*//')
    for word in "$@"; do
        found=$(grep -F -e "$word" <<<"$found" || true)
        [ -n "$found" ] || return 1
    done
    printf '%s\n' "$found"
}

# told SECONDS WORD...: waits until there is such a record.
told() {
    local end=$((${EPOCHREALTIME/./} + $1 * 1000000))
    shift
    until recorded "$@" >/dev/null; do
        if [ "${EPOCHREALTIME/./}" -ge "$end" ]; then
            recorded | grep -v '^type=\(SYSCALL\|CWD\|PATH\|PROCTITLE\|EOE\) '
            fail "no record with $*"
        fi
        sleep 0.2
    done
}

# noise KEY BYTES: always the same for a number of two hex digits.
noise() {
    head -c "$2" /dev/zero | openssl enc -aes-128-ctr -K "000000000000000000000000000000$1" -iv 00000000000000000000000000000000
}

# where FILE IN: the offset of the beginning of one file in another: of 12 bytes, among which must be
# no newline (as in noise 0b).
where() {
    head -c 12 "$1" >where.head
    LC_ALL=C grep -obUaF -m 1 -f where.head "$2" | head -n 1 | cut -d: -f1
}
