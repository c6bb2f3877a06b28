# A running agent names the file of which the kernel's fs-verity says FILE CORRUPTED, on a loop device
# and on a mapped one.
#@ long: 6.1
#@ limit: 180
agent
mkdir second
for on in loop mapped; do
    truncate -s 32M image.$on
    mkfs.ext4 -q -b 4096 -O verity image.$on
    device=$(loop image.$on)
    [ $on = loop ] || {
        dmsetup create mapped --table "0 65536 linear $device 0"
        dmsetup mknodes mapped
        device=/dev/mapper/mapped
    }
    number=$(device_number "$device")
    name=$(basename "$(readlink -f "/sys/dev/block/$number")")
    mkdir mnt-$on
    mount "$device" mnt-$on
    mkdir mnt-$on/etc
    { printf 'the motto begins here' && noise 0b 65515; } >mnt-$on/etc/motto
    noise 0c 65536 >mnt-$on/etc/other
    for file in motto other; do fsverity enable mnt-$on/etc/$file; done
    inode=$(stat -c %i mnt-$on/etc/motto)
    sync
    mount --bind mnt-$on/etc second
    corrupt image.$on $(($(where mnt-$on/etc/motto image.$on) + 8192 + 17))
    echo 3 >/proc/sys/vm/drop_caches
    mark
    refuse "the file is bad" cat mnt-$on/etc/motto >/dev/null 2>&1
    check "the other is not" cat mnt-$on/etc/other >/dev/null
    dmesg | grep -o 'fs-verity (.*' | tee -a "$ARTEFACTS/lines" | head -n 1
    case $KERNEL in
    6.1) offset="fault=mismatch level=-1" ;;
    *) offset="offset=8192 level=-1" ;;
    esac
    told 20 type=VT_FILE "fs_name=\"$name\"" "inode=$inode fault=mismatch" "$offset"
    told 10 type=VT_FILE "dev=$number fs=\"ext4\" use=file inode=$inode file=\"/etc/motto\""
    told 5 type=VT_MOUNT "point=\"$PWD/mnt-$on\"" "file=\"$PWD/mnt-$on/etc/motto\""
    told 5 type=VT_MOUNT "point=\"$PWD/second\"" "file=\"$PWD/second/motto\""
    umount second
done
# The name stands in the event of the kernel's line.
events() { recorded "$1" | grep -o 'audit([^)]*)' | sort -u; }
told=$(grep -cxFf <(events fault=mismatch) <(events 'file="/etc/motto"'))
[ "$told" -ge 2 ] || fail "only $told events have the name"
agent_stops
veritrail trail verify trail
cp -r trail "$ARTEFACTS"
veritrail search --trail trail --raw >"$ARTEFACTS/records"
