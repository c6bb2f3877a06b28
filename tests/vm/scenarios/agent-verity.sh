# A running agent says which file of an ext4 and of an EROFS on the kernel's dm-verity was hit, through
# which mount.
#@ long: 6.1
#@ modules: erofs
#@ limit: 240
tree() {
    mkdir -p tree/etc
    { printf 'the motto begins here' && noise 0b 65515; } >tree/etc/motto
    noise 0c 200000 >tree/other
}

agent
tree
tree=$PWD/tree
for fs in ext4 erofs; do
    case $fs in
    ext4) mkfs.ext4 -q -b 4096 -d tree image.$fs 8M ;;
    erofs) mkfs.erofs image.$fs tree >/dev/null ;;
    esac
    root=$(veritysetup format image.$fs hash.$fs | awk '/Root hash:/ {print $3}')
    at=$(where "$tree/etc/motto" image.$fs)
    corrupt image.$fs $((at + 8192 + 17))
    block=$(((at + 8192) / 4096))
    data=$(loop image.$fs -r)
    veritysetup open "$data" v-$fs "$(loop hash.$fs -r)" "$root"
    mkdir mnt-$fs
    mount -t $fs -o ro /dev/mapper/v-$fs mnt-$fs
    mount --bind mnt-$fs/etc "$(mkdir -p second && echo second)"
    refuse "the file is bad" cat mnt-$fs/etc/motto >/dev/null 2>&1
    # Without a search, which takes longer.
    ended=${EPOCHREALTIME/./}
    wait_for 10 grep -rqaF "fs=\"$fs\" use=file" trail
    echo "$fs: in the trail $(((${EPOCHREALTIME/./} - ended) / 1000)) ms after the read"
    check "the other is not" cmp tree/other mnt-$fs/other
    told 20 "name=\"v-$fs\"" type=VT_PLACE
    told 5 use=file 'file="/etc/motto"' "fs=\"$fs\"" "offset=8192"
    told 5 type=VT_MOUNT "point=\"$PWD/mnt-$fs\"" "file=\"$PWD/mnt-$fs/etc/motto\""
    told 5 type=VT_MOUNT "point=\"$PWD/second\"" "file=\"$PWD/second/motto\""
    case $KERNEL in
    6.1) ;;
    *) told 5 type=DM_EVENT "op=verify-data dev=$(device_number "$data") sector=$block" ;;
    esac
    expect "the tree's link" /dev/mapper/v-$fs "$(readlink run/fs/devices/v-$fs)"
    check "its status" grep -q '"violations":[1-9].*"last_file":"'"$PWD"'/' run/fs/devices/v-$fs.status
    umount second
    umount mnt-$fs
    veritysetup close v-$fs
done
agent_stops
veritrail trail verify trail
cp -r trail agent.said "$ARTEFACTS"
veritrail search --trail trail --raw >"$ARTEFACTS/records"
