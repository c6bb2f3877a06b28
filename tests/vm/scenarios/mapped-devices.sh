#@ long: 6.1
#@ limit: 240
# The life of a device of the backend `kernel`.
feed=2453c8dd3cd6a45a9516eccb147fa3028cb4e18ec21790192757032091b33dd2
cp "$GOLDEN/vdata-64x4k.img" data
cp "$GOLDEN/v-sha256.hash" hash
open() { veritrail verity open data "$@" --backend kernel; }
loops() { losetup -nO BACK-FILE | sort | xargs; }

# Files get loop devices, which go away with the device; auto takes the kernel where there is one.
expect "the path" /dev/mapper/v "$(veritrail verity open data v hash $ROOT)"
check "the backend is told" grep -q '^  backend:     kernel$' <(veritrail verity status v)
check "so it is as JSON" grep -q '"backend":"kernel".*"device":"25[0-9]:0".*"open_count":0' <(veritrail verity status v --json)
check "veritysetup takes it for one of its own" grep -q "^/dev/mapper/v is active" <(veritysetup status v)
expect "a loop for each file" "$PWD/data $PWD/hash" "$(loops)"
check "the data is the image's" cmp /dev/mapper/v data
refuse "the name is taken" open v hash $ROOT 2>said
check "says so" grep -q "Device v already exists" said
check "all of them" grep -q "^/dev/mapper/v is active" <(veritrail verity status)

# Somebody uses it.
exec 5</dev/mapper/v
expect "its first line" "/dev/mapper/v is active and is in use." "$(veritrail verity status v | head -1)"
expect "as veritysetup's" "$(veritysetup status v | head -1)" "$(veritrail verity status v | head -1)"
refuse "busy" veritrail verity close v 2>said
check "says so" grep -q "Device v is still in use" said
check "later" veritrail verity close v --deferred
check "it is told" grep -q "will be closed when its last user has gone" <(veritrail verity status v)
check "not after all" veritrail verity close v --cancel-deferred
exec 5<&-
sleep 0.2
check "it is there still" [ -b /dev/mapper/v ]
exec 5</dev/mapper/v
check "later again" veritrail verity close v --deferred
exec 5<&-
gone() { ! dmsetup info v >/dev/null 2>&1; }
wait_for 5 gone
refuse "nothing is open" veritrail verity status v
no_loops() { [ -z "$(loops)" ]; }
wait_for 5 no_loops
refuse "nothing to close" veritrail verity close v 2>said
check "says so" grep -q "Device v is not active" said

# Names.
for name in a@b:c=d#e+f_-. "$(printf 'x%.0s' $(seq 127))"; do
    check "open $name" open "$name" hash $ROOT >/dev/null
    check "veritysetup closes $name" veritysetup close "$name"
done
dmsetup create 'a b' --table "0 8 zero"
refuse "a device of another kind" veritrail verity close 'a b' 2>said
check "says so" grep -q "not a dm-verity device" said
check "it is there still" dmsetup info 'a b' >/dev/null
dmsetup remove 'a b'
data=$(loop data -r) hash=$(loop hash -r)
dmsetup create 'c d' --readonly --table "0 512 verity 1 $data $hash 4096 4096 64 1 sha256 $ROOT $(printf %02x $(seq 0 31)) 1 from_nowhere" 2>/dev/null &&
    fail "an unknown option was taken"
dmsetup create 'c d' --readonly --table "0 512 verity 1 $data $hash 4096 4096 64 1 sha256 $ROOT $(printf %02x $(seq 0 31))"
check "a mangled name" grep -q 'mapper/c.x20d is active' <(veritrail verity status 'c d')
check "is closed" veritrail verity close 'c d'
losetup -d "$data" "$hash"

# What the kernel refuses is said in its words, and nothing of it stays.
refused() {
    local status=0
    "${@:3}" 2>said >&2 || status=$?
    expect "the exit status of: ${*:3}" "$1" "$status"
    grep -q "$2" said || fail "not told ($2): $(cat said)"
    refuse "nothing stays" dmsetup info v >/dev/null 2>&1
    wait_for 5 no_loops
}
mark
refused 5 'refuses v: Invalid root digest' open v hash "${ROOT:2}"
[ "$KERNEL" = 6.1 ] || expect "its record" "error_msg='Invalid root digest' res=0" \
    "$(records 1338 | grep op=ctr | tail -1 | grep -o "error_msg=.*")"
head -c 4096 hash >short
refused 5 'refuses v:.* too small' open v short $ROOT
head -c 131072 data >half
refused 5 'refuses v:.* too small' veritrail verity open half v hash $ROOT --backend kernel
refused 1 'refuses v: Root hash verification failed' open v hash $ROOT --root-hash-signature "$GOLDEN/v-sha256.p7s"
check "with what to do" grep -q "hint: .*keyring" said
check "the kernel lacks the key" grep -qi "required key not available" said
refused 1 'Root hash verification failed' open v hash $ROOT --require-signature
refused 2 'is for --backend user' open v hash $ROOT --trail trail

# With a keyring of ours the signature is judged here, and not by the kernel.
mkdir -m 755 keyring
cp "$GOLDEN/v-sha256.p7s.cert.pem" keyring/
open v hash $ROOT --root-hash-signature "$GOLDEN/v-sha256.p7s" --keyring keyring --at 2026-12-01T00:00:00Z >/dev/null
veritrail verity close v
refused 1 'Root hash verification failed' open v hash "${ROOT/a8/a9}" --root-hash-signature "$GOLDEN/v-sha256.p7s" --keyring keyring --at 2026-12-01T00:00:00Z

# A wrong root hash opens, as with veritysetup, and the first read fails.
open v hash 07d905d8fcaa7ebade256623ee5f6499600e94d5a7ed241d77172fc156edadb3 >/dev/null
refuse "nothing can be read" direct /dev/mapper/v 0 4096
expect "it is corrupted" "  status:      corrupted" "$(veritrail verity status v | grep '^  status:')"
expect "as veritysetup says" "$(veritysetup status v | grep '^  status:')" "$(veritrail verity status v | grep '^  status:')"
veritrail verity close v

# Error correction.
cp "$GOLDEN/v-fec2.hash" hash
cp "$GOLDEN/v-fec2.fec" fec
corrupt data 40977
open v hash $feed --fec-device fec --fec-roots 2 >/dev/null
check "the block is corrected" direct /dev/mapper/v 40960 4096
check "all of it" cmp /dev/mapper/v "$GOLDEN/vdata-64x4k.img"
expect "nothing is wrong" "  status:      verified" "$(veritrail verity status v | grep '^  status:')"
veritrail verity close v
refused 2 'no multiple of 4096' open v hash $feed --fec-device fec --fec-roots 2 --fec-offset 512

# One file, one loop device.
cp "$GOLDEN/v-onefec.img" one
veritrail verity open one v one 0ffc2545049274c0a372a0e0e78237a13d025dcac18a264e49a48f3971a097cb --backend kernel \
    --data-blocks 64 --hash-offset 262144 --fec-device one --fec-offset 270336 --fec-roots 8 >/dev/null
expect "one loop" "$PWD/one" "$(loops)"
veritrail verity close v

# A device that both could have is one or the other.
veritrail verity open "$GOLDEN/vdata-1x4k.img" u "$GOLDEN/v-1block.hash" 4e6969b4c74546b927ba18f467396946ab3fd095c56317a43e1697db388c2053 --backend user >/dev/null
check "the other backend" grep -q '^  backend:     user$' <(veritrail verity status u)
refused 2 'Device u already exists' open u hash $feed
veritrail verity close u
