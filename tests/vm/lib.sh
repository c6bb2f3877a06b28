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

# The root hash of v-sha256.hash over vdata-64x4k.img.
ROOT=a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15

# taken_down OPTION: in the first phase data block 10 of a device opened so is read, which takes the
# kernel down; in the second its last words are there.
taken_down() {
    if [ "$PHASE" = 1 ]; then
        expect "an empty store" "" "$(ls /sys/fs/pstore)"
        cp "$GOLDEN/vdata-64x4k.img" data
        cp "$GOLDEN/v-sha256.hash" hash
        corrupt data 40977
        veritysetup open "$1" "$(loop data -r)" v "$(loop hash -r)" "$ROOT"
        going_down
        direct /dev/mapper/v 40960 4096
        fail "the kernel did not go down"
    fi
    cp /sys/fs/pstore/* "$ARTEFACTS"
    check "the last words" grep -h 'data block 10 is corrupted' /sys/fs/pstore/*
}

# going_down: what follows may end the guest; the next phase finds $PHASE one higher.
going_down() {
    echo "@@ going down"
    sleep 0.2
}

# agent [OPTION...]: starts an agent and waits until it is ready. Its trail is ./trail. The kernel shall go on
# to print its records, by which ours are judged: the agent does not become the audit daemon.
agent() {
    veritrail agent run --audit-mode coexist --trail "$PWD/trail" --run-dir "$PWD/run" "$@" >agent.said 2>agent.errors &
    AGENT=$!
    wait_for 90 grep -q '^ready' agent.said
}

# The number of one of its processes: agent (the one that listens), doorkeeper, writer.
agent_process() {
    veritrail agent status --run-dir "$PWD/run" | awk -v who="$1:" '$1 == who && $2 == "process" {print $3 + 0; exit}'
}

# Kills all of its processes at once: the doorkeeper can neither start another nor be replaced.
agent_dies() {
    local others
    others="$(agent_process agent) $(agent_process writer)"
    kill -STOP "$AGENT"
    # shellcheck disable=SC2086
    kill -KILL $others "$AGENT"
    wait "$AGENT" || true
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

# integrity_damaged SECTOR...: a dm-integrity device, still to be opened (integritysetup open "$LOWER" i),
# written all over and then damaged, on the loop device $LOWER of the file `file`.
integrity_damaged() {
    local at sector
    truncate -s 4M file
    LOWER=$(loop file)
    integritysetup format -q --no-wipe --interleave-sectors 128 "$LOWER"
    integritysetup open "$LOWER" i
    noise 0b "$(($(blockdev --getsz /dev/mapper/i) * 512))" |
        dd of=/dev/mapper/i bs=4096 iflag=fullblock oflag=direct status=none
    integritysetup close i
    # Where the data begin in the file tells what lies there.
    noise 0b 4096 >pattern
    at=$(where pattern file)
    for sector; do
        corrupt file $((at + sector * 512 + 17))
    done
}

# aead: a dm-crypt device with tags, still to be opened (cryptsetup open --key-file phrase "$LOWER" NAME),
# on the loop device $LOWER of the file luks.
aead() {
    truncate -s 8M luks
    LOWER=$(loop luks)
    printf 'a phrase' >phrase
    cryptsetup luksFormat -q --type luks2 --key-file phrase --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
        --cipher aes-gcm-random --key-size 256 --integrity aead --sector-size 4096 \
        --luks2-metadata-size 16k --luks2-keyslots-size 128k --integrity-no-wipe "$LOWER"
}

# aead_damaged [BYTES]: writes so much of it (all), and damages its block 2: the sectors 16 to 23.
aead_damaged() {
    cryptsetup open --key-file phrase "$LOWER" c
    noise 0b "${1:-$(($(blockdev --getsz /dev/mapper/c) * 512))}" |
        dd of=/dev/mapper/c bs=4096 iflag=fullblock oflag=direct status=none
    cryptsetup close c
    cp luks before
    cryptsetup open --key-file phrase "$LOWER" c
    head -c 4096 /dev/zero | dd of=/dev/mapper/c bs=4096 seek=2 oflag=direct status=none
    cryptsetup close c
    # The block that this wrote, and not its tag nor the journal, is at the last place that differs.
    corrupt luks $(($({ cmp -l before luks || true; } | tail -n 1 | awk '{print $1 - 1}') / 4096 * 4096 + 17))
}
