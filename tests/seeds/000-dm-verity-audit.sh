# Seed 000: "dm verity: log audit events for dm-verity target" (2023-03-01).
#
# The document's example, line by line. Changes beyond a path, each with its reason:
#  1. The device is opened with --direct-io: one record for each read, where a page cache asks twice.
#  2. dev= is that of the served device in all records; the kernel names the data device in verify-data.
#  3. `for i in range {1..101}` runs 102 times (the word `range` is one of the list); it is run as it is.
# Where no device can be served (no FUSE), the same reads go through `verity cat --repeat`, which is the same
# engine without a device, and dev= is 0:0. That way is run everywhere.
#
# The document's `dd ... of=root.img` has no conv=notrunc, so it cuts root.img behind sector 1000, which is in
# block 125; the block 1000 that its loop reads is then missing. It is run literally: what is missing is a
# violation, not a crash.
set -euo pipefail

head -c $((1200 * 4096)) /dev/urandom >root.img
veritysetup format root.img root.hash --root-hash-file root.txt >/dev/null
veritrail verity verify root.img root.hash "$(cat root.txt)" --trail trail 2>/dev/null

uuid=$(cat /proc/sys/kernel/random/uuid)
served=yes
if ! veritrail verity open root.img "$uuid-root" root.hash "$(cat root.txt)" --trail served --run-dir run --direct-io >path.txt 2>why.txt; then
    served=no
    echo "SKIPPED: the reads of a served device: $(grep -m1 because why.txt)"
fi
trap 'veritrail verity close "$uuid-root" --run-dir run --deferred 2>/dev/null || true' EXIT

dd if=/dev/urandom of=root.img bs=512 count=1 seek=1000 2>/dev/null

# The records as the document shows them: verify-data for the block that was read, and when the hundredth
# read fails one max-corrupted-errors. The document's log has it last; the kernel of today first counts, so it
# stands directly before the hundredth.
records() { # TRAIL
    veritrail search --trail "$1" -m DM_EVENT --raw | grep '^type=DM_EVENT' | cut -d$'\x1d' -f1 |
        sed -E 's/audit\([0-9]+\.[0-9]{3}:[0-9]+\)/audit(T:N)/'
}
expected() { # DEV
    for _ in {1..99}; do echo "type=DM_EVENT msg=audit(T:N): module=verity op=verify-data dev=$1 sector=1000 res=0"; done
    echo "type=DM_EVENT msg=audit(T:N): module=verity op=max-corrupted-errors dev=$1 sector=? res=0"
    for _ in {100..102}; do echo "type=DM_EVENT msg=audit(T:N): module=verity op=verify-data dev=$1 sector=1000 res=0"; done
}

if [ $served = yes ]; then
    device=$(tail -n 1 path.txt)
    for i in range {1..101}; do
        dd if="$device" of=/dev/null bs=4096 \
            count=1 skip=1000 2>>dd.txt && { echo "bytes came out of a missing block"; exit 1; }
    done
    [ "$(grep -c 'Input/output error' dd.txt)" = 102 ] || { cat dd.txt; exit 1; }
    dev=$(stat -c %Hd:%Ld "$device")
    veritrail verity close "$uuid-root" --run-dir run
    records served | diff <(expected "$dev") -
    veritrail search --trail served --device "$uuid-root" --op ctr --raw >ctr.txt
    grep -qE "^type=DM_CTRL .* op=ctr ppid=[0-9]+ pid=[0-9]+ auid=.* comm=\"veritrail\" exe=\".*\" dev=$dev error_msg='success' res=1" ctr.txt ||
        { cat ctr.txt; exit 1; }
    # What the document asks for, a controlling instance that is told: who read, and of which device.
    [ "$(veritrail search --trail served --device "$uuid-root" -c dd --raw | grep -c '^type=VT_READER.*comm="dd"')" = 103 ]
fi

expect() { # STATUS COMMAND...
    local want=$1 got=0
    shift
    "$@" 2>>stderr.txt || got=$?
    [ "$got" = "$want" ] || { echo "$*: exit $got, expected $want"; cat stderr.txt; exit 1; }
}
expect 1 veritrail verity cat root.img root.hash "$(cat root.txt)" --skip 1000 --count 1 --repeat 102 --trail trail >read.img
[ ! -s read.img ] || { echo "bytes came out of a missing block"; exit 1; }

records trail | diff <(expected 0:0) -

# The whole image: from block 125 on, which the cut goes through, nothing is what was promised; before it, all is.
expect 1 veritrail verity cat root.img root.hash "$(cat root.txt)" >read.img
cmp -n $((125 * 4096)) root.img read.img
[ "$(stat -c %s read.img)" = $((125 * 4096)) ] || { echo "cat gave $(stat -c %s read.img) bytes"; exit 1; }
expect 1 veritrail verity verify root.img root.hash "$(cat root.txt)" >verdict.txt
grep -qx 'data blocks 125-1199 are missing: bytes 512000-4915199 of root.img' verdict.txt || { cat verdict.txt; exit 1; }

expect 0 veritrail trail verify trail >/dev/null
