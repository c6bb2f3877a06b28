# Checks of the kernel's own devices, by name and by mount point, and the list of them.
#@ long: 6.1
#@ modules: dm-integrity dm-crypt
#@ limit: 240
scrub() {
    STATUS=0
    veritrail scrub --wait --rate max --trail trail --state-dir st "$@" >said 2>errors || STATUS=$?
    cat errors >&2
}
list() { veritrail device list --state-dir st "$@"; }
# The DM_EVENT bodies of the check that came last.
events() {
    veritrail search --trail trail --raw | awk '
        match($0, /: name="[^"]*" state=(started|resumed)/) {n = 0}
        sub(/^type=DM_EVENT msg=audit\([^)]*\): /, "") {sub(/\035.*/, ""); lines[n++] = $0}
        END {for (i = 0; i < n; i++) print lines[i]}'
}

# dm-verity: an ext4 of 2000 blocks, mounted; a bad data block, and a bad hash block over blocks 256 to 383.
truncate -s 8192000 data
mkfs.ext4 -q -F -b 4096 -O ^has_journal data
veritysetup format data hash --root-hash-file root >/dev/null
root=$(cat root)
data=$(loop data -r) hash=$(loop hash -r)
veritysetup open "$data" v "$hash" "$root"
mkdir mnt
mount -o ro /dev/mapper/v mnt
scrub v
expect "all is good" "0 v: good, 7.8 MiB" "$STATUS $(cut -d' ' -f1-4 said | sed 's/,*$//')"
dev=$(device_number "$data")
# The caches of the loop devices know nothing of it.
cat "$data" "$hash" >/dev/null
corrupt data $((1500 * 4096 + 5))
corrupt hash $((4096 * 4 + 64))
mark
scrub v
expect "a violation" 1 "$STATUS"
expect "what is bad" "blocks: 1 bad, 1 bad in the tree, 128 unverifiable below those" "$(sed 's/.*; //' said)"
wanted="module=verity op=verify-metadata dev=$dev sector=256 res=0
module=verity op=verify-data dev=$dev sector=1500 res=0"
expect "its records" "$wanted" "$(events)"
check "the place has the device" grep -q "VT_PLACE.*: dev=$(device_number /dev/mapper/v) role=data .* name=\"v\" " <(veritrail search --trail trail --raw)
expect "the kernel read nothing" "V" "$(dmsetup status v | awk '{print $4}')"
expect "nor did it speak" "" "$(records)"
scrub mnt
expect "by its mount point" 1 "$STATUS"
check "it is the same" grep -q "^v: VIOLATED" said
scrub /dev/mapper/v
expect "by its path" 1 "$STATUS"

# dm-integrity.
integrity_damaged 8 11
integritysetup open "$LOWER" i
scrub i
expect "a violation" 1 "$STATUS"
expect "what is bad" "blocks: 2 bad" "$(sed 's/.*; //' said)"
dev=$(device_number /dev/mapper/i)
wanted="module=integrity op=integrity-checksum dev=$dev sector=8 res=0
module=integrity op=integrity-checksum dev=$dev sector=11 res=0"
expect "its records" "$wanted" "$(events)"
[ "$KERNEL" = 6.1 ] || check "the kernel's own, too" grep -q "dev=$dev sector=11" <(records)

# dm-crypt above it.
aead
aead_damaged
cryptsetup open --key-file phrase "$LOWER" c
scrub c
expect "a violation" 1 "$STATUS"
expect "what is bad" "blocks: 1 bad" "$(sed 's/.*; //' said)"
below=$(dmsetup info -c --noheadings -o major,minor --separator : c_dif)
expect "its record" "module=crypt op=integrity-aead dev=$below sector=16 res=0" "$(events)"

# In the background, stopped, and on from there.
veritrail scrub c --rate 1M --trail trail --state-dir st --restart >said
check "it has begun" grep -q '^c: .* in the background (process' said
running() { veritrail scrub --status c --state-dir st | grep -q '^c: checking, [1-9]'; }
wait_for 30 running
check "it stops" grep -q '^c: stopped at ' <(veritrail scrub --stop c --state-dir st)
scrub c
expect "the same" 1 "$STATUS"
expect "found once" "blocks: 1 bad" "$(sed 's/.*; //' said)"
check "it went on" grep -q 'goes on from' errors

# A device of the name is another one now: what was known of the old one is not told of it.
cryptsetup close c
dmsetup remove i
dmsetup create linear --table "0 8 linear $LOWER 0"
STATUS=0
veritrail scrub --wait linear --state-dir st 2>said || STATUS=$?
expect "nothing verifies it" 5 "$STATUS"
check "says so" grep -q "verifies nothing of its own" said
dmsetup remove linear
cryptsetup open --key-file phrase "$LOWER" c
head -c 4096 /dev/zero | dd of=/dev/mapper/c bs=4096 seek=2 oflag=direct status=none
scrub c
expect "written anew it is good" 0 "$STATUS"

# All of them. The integrity device that only carries tags for dm-crypt is none of them.
STATUS=0
list >said || STATUS=$?
cp said "$ARTEFACTS/list"
expect "one is violated" 1 "$STATUS"
expect "the devices" "c crypt kernel active aead
v verity kernel verified eio" "$(tail -n +2 said | awk '{print $1, $2, $3, $4, $5}')"
check "its mount and its check" grep -q '^v .* 7.8 MiB *- *1 *20.*: VIOLATED' said
check "as JSON" grep -q '"name":"v".*"module":"verity".*"backend":"kernel".*"mounts":1.*"verdict":"violation"' <(list --json)
check "the trail is good" veritrail trail verify trail
