#!/usr/bin/env bash
# The three examples of "[PATCH ghak90 V5 00/10] audit: implement container identifier", on a stock kernel.
#
# Changed beyond paths:
# - An agent runs: it labels, and writes the records that this kernel does not know.
# - `ausearch` is ours and reads the agent's trail: no kernel hands these records to auditd.
# - `sleep 2` became `sleep 5`, `-ts recent` went: nothing else is in the trail.
# - The filter on the identifier stands in a file of the agent's and not in `auditctl -a`: no kernel takes contid, so
#   it is the agent's to evaluate (docs/guide.md, Rules). It watches a folder of this test and not all of /tmp.
# - perl became dd with the same system call: perl is not everywhere. It waits for a line, and not for a second.
# - The third runs in a network namespace of its own, with its loopback interface up: this machine's rules stay as they
#   are. Where this kernel does not tell the namespace of a packet, others that have 127.0.0.1 too may be in the list.
# - There `sleep 5` became `sleep 20`, and the second that it waits for the record as long as it takes.
set -euo pipefail

mkdir rules.d watched
cat >veritrail.toml <<EOF
[agent]
sources = ["audit", "bpf"]
[rules]
dir = "$PWD/rules.d"
key = "seed-002"
EOF
contid=123459
key=tmpcontainerid
echo "-a exit,always -F dir=$PWD/watched -F perm=wa -F contid=$contid -F key=$key" >rules.d/seed.rules
timeout 100 veritrail agent run --config veritrail.toml --trail trail --run-dir run --audit-mode coexist >agent.log 2>&1 &
agent=$!
trap 'kill $agent 2>/dev/null || true; wait $agent 2>/dev/null || true' EXIT
for _ in $(seq 300); do
    grep -q '^ready' agent.log && break
    sleep 0.1
done
grep -q '^ready' agent.log
if ! grep -q 'bpf: listening: .*labels' agent.log; then
    echo "SKIPPED: this kernel does not let us label tasks"
    exit 0
fi
proc=$PWD/run/fs/proc

# "Set an audit container identifier of 123456 to the "sleep" task"
sleep 5 &
child=$!
echo 123456 >"$proc/$child/audit_containerid"
ausearch --trail trail --raw -m container_op >records
echo "child:$child contid:$(cat "$proc/$child/audit_containerid")" | tee said
grep -qx "child:$child contid:123456" said
grep -Eq "^type=CONTAINER_OP msg=audit\([0-9.]+:[0-9]+\): op=set opid=$child old-contid=18446744073709551615 contid=123456 pid=$$ auid=[0-9]+ uid=0 tty=[^ ]+ ses=[0-9]+ (subj=[^ ]+ )?comm=\"bash\" exe=\"[^\"]*bash\" res=1" records

# "Set a filter on an audit container identifier 123459"
mkfifo go
for id in $contid 5; do
    # The second is another container: no rule asks for what it does.
    bash -c "read -r line <go; exec dd if=/dev/null of=watched/$id.$key status=none" &
    child=$!
    echo "$id" >"$proc/$child/audit_containerid"
    echo >go
    wait "$child"
done
for _ in $(seq 100); do
    ausearch --trail trail --raw -k "$key" >records || true
    grep -q '^type=CONTAINER_ID' records && break
    sleep 0.1
done
grep -Eq "^type=CONTAINER_ID msg=audit\([0-9.]+:[0-9]+\): contid=$contid" records
grep -Eq "^type=SYSCALL .* comm=\"dd\" " records
grep -Eq "^type=PATH .* name=\"(watched/)?$contid\.$key\" .* nametype=CREATE" records
sleep 1
ausearch --trail trail --raw -k "$key" >records
if grep -q "5\.$key" records; then
    echo "what another container did was kept:"
    grep "5\.$key" records
    exit 1
fi

# "Test multiple containers on one netns"
for tool in iptables ip ping unshare; do
    if ! command -v "$tool" >/dev/null; then
        echo "SKIPPED: the third example: $tool is not installed"
        exit 0
    fi
done
cat >third <<'EOF'
set -euo pipefail
ip link set lo up
sleep 20 &
child1=$!
containerid1=123451
echo $containerid1 >"$proc/$child1/audit_containerid"
sleep 20 &
child2=$!
containerid2=123452
echo $containerid2 >"$proc/$child2/audit_containerid"
if ! iptables -I INPUT -i lo -p icmp --icmp-type echo-request -j AUDIT --type accept ||
    ! iptables -I INPUT -t mangle -i lo -p icmp --icmp-type echo-request -j MARK --set-mark 0x12345555; then
    echo "SKIPPED: the third example: this kernel has no AUDIT or MARK for iptables"
    exit 0
fi
bash -c "ping -q -c 1 127.0.0.1 >/dev/null 2>&1"
for _ in $(seq 100); do
    ausearch --trail trail -i -m NETFILTER_PKT >records || true
    grep -q contid= records && break
    sleep 0.1
done
ausearch --trail trail -i -m NETFILTER_PKT | grep mark=0x12345555
ausearch --trail trail -i -m NETFILTER_PKT | grep contid= | grep $containerid1 | grep $containerid2
kill $child1 $child2
EOF
proc=$proc unshare -n bash third | tee said
grep -q '^SKIPPED' said && exit 0
grep -Eq '^type=NETFILTER_PKT .*mark=0x12345555 saddr=127.0.0.1 daddr=127.0.0.1 proto=icmp' said
grep -Eq '^type=CONTAINER_ID .*contid=(.*,)?123452,123451(,| |$)' said
