# A running agent and the error modes of dm-verity: data and hash blocks, direct and buffered reads, each
# failure told once whoever tells it (on 6.1 dm-verity has no audit records), and dm-crypt.
#@ modules: dm-integrity dm-crypt
#@ limit: 240
agent
# device NAME DAMAGE [OPTION...]: a golden image with 8 bytes of data or hash damaged.
device() {
    local name=$1 damage=$2
    shift 2
    cp "$GOLDEN/vdata-64x4k.img" "data.$name"
    cp "$GOLDEN/v-sha256.hash" "hash.$name"
    corrupt "${damage%:*}.$name" "${damage#*:}"
    DATA=$(loop "data.$name" -r)
    veritysetup open "$DATA" "$name" "$(loop "hash.$name" -r)" "$ROOT" "$@"
    DATA=$(device_number "$DATA")
}
# events WORD: how often it is told of the data device.
events() { recorded type=DM_EVENT "op=$1 dev=$DATA" 2>/dev/null | wc -l; }

device plain data:40977
refuse "block 10" direct /dev/mapper/plain 40960 4096
told 10 type=DM_EVENT "op=verify-data dev=$DATA sector=10"
told 5 type=VT_PLACE 'name="plain"' role=data bytes=40960-45055
sleep 4
expect "a direct read is told once" 1 "$(events verify-data)"
refuse "block 10, buffered" dd if=/dev/mapper/plain of=/dev/null bs=4096 skip=10 count=1 status=none
sleep 5
[ "$(events verify-data)" -ge 2 ] || fail "a buffered read is not told"
veritysetup close plain
told 10 type=VT_DEVICE 'name="plain"' state=removed

device tree hash:4200
refuse "a hash block" direct /dev/mapper/tree 135168 4096
told 10 type=DM_EVENT "op=verify-metadata dev=$DATA"
told 5 type=VT_PLACE 'name="tree"' role=hash
veritysetup close tree

# The kernel writes no record at all in this mode.
device lax data:40977 --ignore-corruption
check "it is let through" direct /dev/mapper/lax 40960 4096
told 15 type=DM_EVENT "op=verify-data dev=$DATA sector=10"
expect "once" 1 "$(events verify-data)"
expect "by the device event" 1 "$(veritrail search --trail trail --raw | tr '\035' '\n' |
    grep -A3 "op=verify-data dev=$DATA sector=10" | grep -c 'VT_SRC=uevent')"
veritysetup close lax

# dm-crypt over dm-integrity.
aead
cryptsetup open --key-file phrase "$LOWER" c
# Nothing was ever written there: no tag is right.
refuse "sector 16" direct /dev/mapper/c 8192 4096
told 10 type=DM_EVENT module=crypt op=integrity-aead sector=16
told 10 type=VT_PLACE "dev=$(device_number /dev/mapper/c) name=\"c\"" bytes=8192-
cryptsetup close c
agent_stops
check "the trail is good" veritrail trail verify trail
veritrail search --trail trail --raw >"$ARTEFACTS/records"
