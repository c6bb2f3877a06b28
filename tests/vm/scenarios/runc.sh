# A container of runc whose root is on dm-verity, with the hook and nothing made by hand; a block of it is corrupted. One
# search by the container's name tells device, file, container, image, reader and time.
#@ modules: erofs
#@ tools: runc
#@ long: 6.1
#@ limit: 240
auditctl -b 0 >/dev/null
mkdir -p tree/bin tree/etc tree/proc tree/dev tree/sys tree/go rules.d bundle/rootfs
cp /usr/bin/busybox tree/bin/busybox
ln -s busybox tree/bin/sh
{ printf 'the motto begins here' && noise 0b 65515; } >tree/etc/motto
mkfs.erofs image tree >/dev/null
root=$(veritysetup format image hash | awk '/Root hash:/ {print $3}')
corrupt image $(($(where tree/etc/motto image) + 8192 + 17))
veritysetup open "$(loop image -r)" v "$(loop hash -r)" "$root"
mount -t erofs -o ro /dev/mapper/v bundle/rootfs

echo "-a always,exit -F arch=b64 -S read -F exit=-EIO -k bad-read" >rules.d/read.rules
printf '[rules]\ndir = "%s"\n' "$PWD/rules.d" >config
agent --config config
mkdir go
mkfifo go/go
hook="{\"path\":\"$(command -v veritrail)\",\"args\":[\"veritrail\",\"oci-hook\",\"--strict\",\"--run-dir\",\"$PWD/run\"]}"
cat >bundle/config.json <<END
{"ociVersion":"1.0.2","hostname":"web","root":{"path":"rootfs","readonly":true},
 "process":{"user":{"uid":0,"gid":0},"cwd":"/","env":["PATH=/bin"],
  "args":["/bin/sh","-c","for n in 1 2 3; do busybox cat /etc/motto >/dev/null; done; read -r l </go/go"]},
 "mounts":[{"destination":"/proc","type":"proc","source":"proc"},
  {"destination":"/dev","type":"tmpfs","source":"tmpfs","options":["nosuid","mode=755"]},
  {"destination":"/go","type":"none","source":"$PWD/go","options":["bind"]}],
 "hooks":{"createRuntime":[$hook],"poststop":[$hook]},
 "annotations":{"org.opencontainers.image.ref.name":"motd:1"},
 "linux":{"namespaces":[{"type":"pid"},{"type":"network"},{"type":"ipc"},{"type":"uts"},{"type":"mount"}]}}
END
# There is no pivot_root(2) out of an initramfs.
runc run --no-pivot -b bundle web >runc.said 2>&1 &
runc=$!
told 60 type=CONTAINER_ID VT_VIA=device
found() { veritrail search --trail trail --contid web --raw >"$ARTEFACTS/found" && grep -qa "$@" "$ARTEFACTS/found"; }
wait_for 10 found 'type=SYSCALL .*comm="busybox"'
wait_for 10 found 'type=VT_FILE .*use=file.*file="/etc/motto"'
contid=$(recorded type=CONTAINER_OP op=set res=1 | sed 's/.* contid=\([0-9]*\) .*/\1/')
check "container" found "type=VT_CONTAINER .*state=described contid=$contid runtime=\"runc\" id=\"web\" image=\"motd:1\""
check "the file as the container sees it" found "type=VT_MOUNT .*file=\"/etc/motto\" contid=$contid"
check "device" found 'type=VT_PLACE .*name="v"'
check "reader" found 'type=SYSCALL .*exit=-5 .*comm="busybox"'
check "whose the reader is" found "type=CONTAINER_ID .*contid=$contid.VT_LEAF=.* VT_CONF=certain "
case $KERNEL in
6.1) ;;
*) check "time" found 'type=DM_EVENT msg=audit([0-9.]*:[0-9]*): module=verity op=verify-data' ;;
esac
echo >go/go
wait $runc
expect "what runc said" "" "$(grep -v 'Input/output error' runc.said || true)"
told 20 type=CONTAINER_OP op=drop "old-contid=$contid"
agent_stops
expect "one end" 1 "$(recorded type=CONTAINER_OP op=drop | wc -l)"
refuse "a gap" recorded type=VT_GAP
veritrail trail verify trail
umount bundle/rootfs
veritysetup close v
