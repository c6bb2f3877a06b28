# The kernel's records of dm-integrity and of dm-crypt above it, with stock tools alone.
#@ modules: dm-integrity dm-crypt


truncate -s 4M file
lower=$(loop file)
mark
integritysetup format -q --interleave-sectors 128 "$lower"
integritysetup open "$lower" i
bytes=$(($(blockdev --getsz /dev/mapper/i) * 512))
noise 0b "$bytes" | dd of=/dev/mapper/i bs=4096 iflag=fullblock oflag=direct status=none
dev=$(device_number /dev/mapper/i)
integritysetup close i
noise 0b 4096 >pattern
# Where the data begin in the file tells what lies there.
at=$(LC_ALL=C grep -obUaF -m 1 "$(head -c 12 pattern)" file | cut -d: -f1)
corrupt file $((at + 8 * 512 + 17))
integritysetup open "$lower" i
check "the first block is good" direct /dev/mapper/i 0 4096
refuse "sector 8 is bad" direct /dev/mapper/i 4096 4096
expect "the counter" 1 "$(dmsetup status i | awk '{print $4}')"
integritysetup close i
expect "the record" "module=integrity op=integrity-checksum dev=$dev sector=8 res=0" "$(records)"

truncate -s 8M luks
lower=$(loop luks)
printf 'a phrase' >phrase
mark
cryptsetup luksFormat -q --type luks2 --key-file phrase --pbkdf pbkdf2 --pbkdf-force-iterations 1000 \
    --cipher aes-gcm-random --key-size 256 --integrity aead --sector-size 4096 \
    --luks2-metadata-size 16k --luks2-keyslots-size 128k --integrity-no-wipe "$lower"
cryptsetup open --key-file phrase "$lower" c
noise 0b 65536 | dd of=/dev/mapper/c bs=4096 iflag=fullblock oflag=direct status=none
cryptsetup close c
cp luks before
cryptsetup open --key-file phrase "$lower" c
head -c 4096 /dev/zero | dd of=/dev/mapper/c bs=4096 seek=2 oflag=direct status=none
cryptsetup close c
# The block that this wrote, and not its tag nor the journal, is at the last place that differs.
at=$({ cmp -l before luks || true; } | tail -n 1 | awk '{print $1 - 1}')
corrupt luks $((at / 4096 * 4096 + 17))
cryptsetup open --key-file phrase "$lower" c
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
