# Seed 000: "dm verity: log audit events for dm-verity target" (2023-03-01).
#
# The document's example, line by line. Changes beyond a path, each with its reason:
#  1. /dev/mapper/<uuid>-root: devices are served by a later capability. Until then the loop of `dd` is
#     `verity cat --repeat`, which reads through the same engine as one opened device would be read.
#  2. `for i in range {1..101}` runs 102 times (the word `range` is one of the list), so --repeat is 102.
#  3. dev= is 0:0, as no device is involved.
#
# The document's `dd ... of=root.img` has no conv=notrunc, so it cuts root.img behind sector 1000, which is in
# block 125; the block 1000 that its loop reads is then missing. It is run literally: what is missing is a
# violation, not a crash.
set -euo pipefail

head -c $((1200 * 4096)) /dev/urandom >root.img
veritysetup format root.img root.hash --root-hash-file root.txt >/dev/null
veritrail verity verify root.img root.hash "$(cat root.txt)" --trail trail 2>/dev/null

dd if=/dev/urandom of=root.img bs=512 count=1 seek=1000 2>/dev/null

expect() { # STATUS COMMAND...
    local want=$1 got=0
    shift
    "$@" 2>>stderr.txt || got=$?
    [ "$got" = "$want" ] || { echo "$*: exit $got, expected $want"; cat stderr.txt; exit 1; }
}
expect 1 veritrail verity cat root.img root.hash "$(cat root.txt)" --skip 1000 --count 1 --repeat 102 --trail trail >read.img
[ ! -s read.img ] || { echo "bytes came out of a missing block"; exit 1; }

# The records as the document shows them: verify-data for the block that was read, and when the hundredth
# read fails one max-corrupted-errors. The document's log has it last; the kernel of today first counts, so it
# stands directly before the hundredth.
veritrail search --trail trail -m DM_EVENT --raw | grep '^type=DM_EVENT' | cut -d$'\x1d' -f1 >records.txt
sed -E 's/audit\([0-9]+\.[0-9]{3}:[0-9]+\)/audit(T:N)/' records.txt >shape.txt
{
    for _ in {1..99}; do echo 'type=DM_EVENT msg=audit(T:N): module=verity op=verify-data dev=0:0 sector=1000 res=0'; done
    echo 'type=DM_EVENT msg=audit(T:N): module=verity op=max-corrupted-errors dev=0:0 sector=? res=0'
    for _ in {100..102}; do echo 'type=DM_EVENT msg=audit(T:N): module=verity op=verify-data dev=0:0 sector=1000 res=0'; done
} >expected.txt
diff expected.txt shape.txt

# The whole image: from block 125 on, which the cut goes through, nothing is what was promised; before it, all is.
expect 1 veritrail verity cat root.img root.hash "$(cat root.txt)" >read.img
cmp -n $((125 * 4096)) root.img read.img
[ "$(stat -c %s read.img)" = $((125 * 4096)) ] || { echo "cat gave $(stat -c %s read.img) bytes"; exit 1; }
expect 1 veritrail verity verify root.img root.hash "$(cat root.txt)" >verdict.txt
grep -qx 'data blocks 125-1199 are missing: bytes 512000-4915199 of root.img' verdict.txt || { cat verdict.txt; exit 1; }

expect 0 veritrail trail verify trail >/dev/null
