# The kernel's records of dm-integrity and of dm-crypt above it, with stock tools alone.
#@ modules: dm-integrity dm-crypt

mark
integrity_damaged 8
integritysetup open "$LOWER" i
dev=$(device_number /dev/mapper/i)
check "the first block is good" direct /dev/mapper/i 0 4096
refuse "sector 8 is bad" direct /dev/mapper/i 4096 4096
expect "the counter" 1 "$(dmsetup status i | awk '{print $4}')"
integritysetup close i
expect "the record" "module=integrity op=integrity-checksum dev=$dev sector=8 res=0" "$(records)"

mark
aead
aead_damaged 65536
cryptsetup open --key-file phrase "$LOWER" c
refuse "a bad block" direct /dev/mapper/c 8192 4096
above=$(device_number /dev/mapper/c)
below=$(dmsetup info -c --noheadings -o major,minor --separator : c_dif)
cryptsetup close c
cp file luks "$ARTEFACTS"
found=$(records)
case $found in
"module=crypt op=integrity-aead dev=$above sector=16 res=0") echo "the record names the crypt device" ;;
"module=crypt op=integrity-aead dev=$below sector=16 res=0") echo "the record names the device below" ;;
*) fail "records: $found" ;;
esac
