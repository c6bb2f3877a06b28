# The kernel's records of a corrupted block of dm-verity, with stock tools alone.
cp "$GOLDEN/vdata-64x4k.img" data
cp "$GOLDEN/v-sha256.hash" hash
corrupt data 40977
data=$(loop data -r)
hash=$(loop hash -r)
mark
veritysetup open "$data" v "$hash" "$ROOT"
status() { dmsetup status v | awk '{print $4}'; }
expect "a fresh device" V "$(status)"
check "the first block is good" direct /dev/mapper/v 0 4096
refuse "block 10 is bad" direct /dev/mapper/v 40960 4096
expect "the status" C "$(status)"
veritysetup close v
dmesg >"$ARTEFACTS/kernel.log"
case $KERNEL in
6.1) expect "no records: this dm-verity has none" "" "$(records 1338 1339)" ;;
*)
    expect "the record" "module=verity op=verify-data dev=$(device_number "$data") sector=10 res=0" "$(records)"
    expect "construction and destruction" "op=ctr op=dtr" "$(records 1338 | grep -o 'op=[a-z]*' | xargs)"
    ;;
esac
