# Runs the scenarios of /vm/plan one after the other, each in a directory and a control group of its
# own, and cleans up behind it. All output goes to the host line by line; lines that begin with
# `@@ ` are for the harness (guest.rs).
for try in $(seq 100); do
    [ -c /dev/vport0p1 ] && [ -c /dev/vport0p2 ] && break
    sleep 0.1
done
mkfifo /run/log
cat /run/log >/dev/vport0p2 &
writer=$!
exec 3>/run/log

KERNEL=$(uname -r | cut -d. -f1,2)
export KERNEL GOLDEN=/golden/devices
mounts() { awk '{print $5}' /proc/self/mountinfo; }
mounts_at_first=$(mounts)
audit_at_first=$(auditctl -s | awk '$1 == "enabled" {print $2}')
group=/sys/fs/cgroup/scenario
mkdir -p "$group"

# The device of the scenario's nth disk.
disk() {
    local found
    found=$(grep -lx "s$1d$2" /sys/block/vd*/serial) && echo "/dev/$(basename "${found%/serial}")"
}

# Ends what still runs and takes away what was left; what cannot be taken away is said.
clean_up() {
    local try point
    echo 1 >"$group/cgroup.kill"
    for try in $(seq 50); do
        grep -q 'populated 0' "$group/cgroup.events" && break
        sleep 0.1
    done
    mounts | tac | while read -r point; do
        grep -qxF "$point" <<<"$mounts_at_first" || timeout 10 umount "$point" 2>/dev/null || umount -l "$point"
    done
    timeout 20 dmsetup remove_all --force --noudevsync >/dev/null 2>&1
    losetup -D
    auditctl -D >/dev/null
    auditctl -r 0 >/dev/null
    auditctl -b 8192 >/dev/null
    auditctl -e "$audit_at_first" >/dev/null
    echo 0 >/proc/sys/kernel/printk_ratelimit
    rm -rf /run/work /run/veritrail /tmp/*
    [ "$(dmsetup info -c --noheadings -o name 2>/dev/null)" = "No devices found" ] && return
    echo "left behind: $(dmsetup info -c --noheadings -o name)"
}

number=0
while IFS='|' read -r name phase limit disks modules; do
    echo "@@ begin $name" >&3
    ARTEFACTS=/run/artefacts/$name
    mkdir -p "/run/work" "$ARTEFACTS"
    export ARTEFACTS NAME=$name PHASE=$phase
    for ((i = 0; i < 4; i++)); do
        unset "DISK$i"
        [ "$i" -ge "$disks" ] || export "DISK$i=$(disk "$number" "$i")"
    done
    echo "scenario $name begins" >/dev/kmsg
    began=$EPOCHREALTIME
    (
        echo "$BASHPID" >"$group/cgroup.procs"
        cd /run/work || exit
        for module in ${modules//,/ }; do
            modprobe "$module" || echo "no module $module"
        done
        exec timeout -k 5 "$limit" bash -c '. /vm/lib.sh; . "/vm/scenarios/$NAME.sh"'
    ) </dev/null >&3 2>&1 3>&-
    status=$?
    ended=$EPOCHREALTIME
    case $status in
    0 | 77) ;;
    124 | 137) echo "not finished within $limit s" >&3 ;;
    esac
    if [ "$status" != 0 ] && [ "$status" != 77 ]; then
        echo "--- the kernel's log of it ends with:" >&3
        dmesg | awk -v begin="scenario $name begins" 'index($0, begin) {n = 0; next} !/audit: type=13(00|02|07|27) / {lines[n++] = $0} END {for (i = n > 60 ? n - 60 : 0; i < n; i++) print lines[i]}' >&3
    fi
    clean_up >&3 2>&1 3>&-
    echo "@@ end $name $status $(awk -v a="$began" -v b="$ended" 'BEGIN {printf "%.1f", b - a}')" >&3
    rmdir "$ARTEFACTS" 2>/dev/null
    number=$((number + 1))
done </vm/plan

if [ -n "$(ls -A /run/artefacts)" ]; then
    tar -C /run/artefacts -cf /dev/vport0p1 .
fi
echo "@@ done" >&3
exec 3>&-
for try in $(seq 50); do
    kill -0 "$writer" 2>/dev/null || break
    sleep 0.1
done
