# A container whose root is on dm-verity, made as a runtime makes one; a block of it is corrupted. One search
# names device, file, container, image, reader and time. Its label is inherited, and its end is told once.
#@ modules: erofs
#@ limit: 240
# What the kernel still keeps of earlier scenarios for a daemon is not to be a loss of this one.
auditctl -b 0 >/dev/null
mkdir -p tree/etc rules.d
{ printf 'the motto begins here' && noise 0b 65515; } >tree/etc/motto
tree=$PWD/tree
mkfs.erofs image tree >/dev/null
root=$(veritysetup format image hash | awk '/Root hash:/ {print $3}')
corrupt image $(($(where "$tree/etc/motto" image) + 8192 + 17))
veritysetup open "$(loop image -r)" v "$(loop hash -r)" "$root"

echo "-a always,exit -F arch=b64 -S read -F exit=-EIO -k bad-read" >rules.d/read.rules
printf '[rules]\ndir = "%s"\n' "$PWD/rules.d" >config
agent --config config
mkdir root
mkfifo go
# shellcheck disable=SC2016
unshare -m sh -c 'mount -t erofs -o ro /dev/mapper/v root && : >up; read -r l <go; for n in 1 2 3; do cat root/etc/motto >/dev/null; done; read -r l <go' 2>/dev/null &
child=$!
wait_for 20 test -e up
printf '{"ociVersion":"1.0.2","id":"web","status":"created","pid":%s,"bundle":"/b","annotations":{"org.opencontainers.image.ref.name":"motd:1"}}' $child |
    veritrail oci-hook --runtime test --contid 7 --strict --run-dir run
expect "its label" 7 "$(cat run/fs/proc/$child/audit_containerid)"
refuse "root of another user namespace" unshare -Ur tee run/fs/proc/$child/audit_containerid <<<8
expect "its label still" 7 "$(veritrail container get $child --run-dir run)"
echo >go
told 20 type=CONTAINER_ID contid=7 VT_VIA=device
found() { veritrail search --trail trail --contid 7 --raw >"$ARTEFACTS/found" && grep -qa "$@" "$ARTEFACTS/found"; }
wait_for 10 found 'type=SYSCALL .*comm="cat"'
wait_for 10 found 'type=VT_FILE .*use=file.*file="/etc/motto"'
check "the file as the container sees it" found 'type=VT_MOUNT .*file="[^"]*/root/etc/motto" contid=7'
check "device" found 'type=VT_PLACE .*name="v"'
check "image" found 'type=VT_CONTAINER .*state=described contid=7 runtime="test" id="web" image="motd:1"'
check "reader" found 'type=SYSCALL .*exit=-5 .*comm="cat"'
case $KERNEL in
6.1) ;;
*) check "time" found 'type=DM_EVENT msg=audit([0-9.]*:[0-9]*): module=verity op=verify-data' ;;
esac
echo >go
wait $child
told 20 type=CONTAINER_OP op=drop old-contid=7
agent_stops
expect "one end" 1 "$(recorded type=CONTAINER_OP op=drop | wc -l)"
refuse "a gap" recorded type=VT_GAP
veritrail trail verify trail
veritysetup close v
