# Packets that the kernel makes records of: the containers of their network namespace stand beside each, for certain.
#@ modules: xt_AUDIT nft_log
#@ tools: iptables ip6tables nft
#@ limit: 300
auditctl -b 0 >/dev/null
printf '[agent]\nsources = ["audit", "bpf"]\n' >config
agent --config config
check "the programs" grep '^bpf: listening: .*namespaces,.* packets-xt, packets-nft, labels' agent.said
mkfifo go

# inside PID COMMAND...: in its network namespace.
inside() { nsenter -t "$1" -n "${@:2}"; }
# with MARK: the records of events with it, CONTAINER_ID among them.
with() {
    local id
    for id in $(recorded type=NETFILTER_PKT "mark=$1 " | sed 's/.*msg=\(audit([^)]*)\).*/\1/'); do
        recorded type=CONTAINER_ID "$id" || true
    done | sed 's/.*): //' | sort -u
}
is_said() { [ "$(with "$1")" = "$2" ]; }
is_there() { recorded type=NETFILTER_PKT "mark=$1 " >/dev/null; }
# rules PID: each echo request is recorded, with the mark of its address.
rules() {
    inside "$1" iptables -A INPUT -p icmp --icmp-type echo-request -m mark ! --mark 0 -j AUDIT --type accept
    inside "$1" ip6tables -A INPUT -p ipv6-icmp --icmpv6-type echo-request -m mark ! --mark 0 -j AUDIT --type accept
    inside "$1" nft 'add table inet t; add chain inet t in { type filter hook input priority 10; }
        add rule inet t in meta mark and 0x100 == 0x100 icmp type echo-request log level audit
        add rule inet t in meta mark and 0x100 == 0x100 icmpv6 type echo-request log level audit'
}
# ping PID MARK ADDRESS: one, with that mark.
ping_with() {
    local tables=iptables
    case $3 in *:*) tables=ip6tables ;; esac
    inside "$1" $tables -t mangle -I PREROUTING -d "$3" -j MARK --set-mark "$2"
    inside "$1" ping -c 1 -w 5 "$3" >/dev/null
    inside "$1" $tables -t mangle -D PREROUTING -d "$3" -j MARK --set-mark "$2"
}

unshare -n sh -c 'ip link set lo up && : >up; read -r l <go; exec unshare -n sleep 300' &
first=$!
wait_for 20 test -e up
nsenter -t "$first" -n sleep 300 &
second=$!
unshare -n sh -c 'ip link set lo up && : >other; exec sleep 300' &
third=$!
wait_for 20 test -e other
rules $first
rules $third
# Whoever is in it, without being a container.
nsenter -t "$first" -n sleep 300 &
witness=$!
sleep 1
n=123450
for pid in $first $second $third; do
    n=$((n + 1))
    echo $n >"run/fs/proc/$pid/audit_containerid"
done

ping_with $first 0x1 127.0.0.1
wait_for 20 is_said 0x1 "contid=123452,123451 VT_VIA=netns"
ping_with $first 0x2 ::1
wait_for 20 is_said 0x2 "contid=123452,123451 VT_VIA=netns"
# The same addresses in another namespace, and by nft too.
ping_with $third 0x3 127.0.0.1
wait_for 20 is_said 0x3 "contid=123453 VT_VIA=netns"
ping_with $third 0x104 127.0.0.1
wait_for 20 is_said 0x104 "contid=123453 VT_VIA=netns"
ping_with $first 0x105 ::1
wait_for 20 is_said 0x105 "contid=123452,123451 VT_VIA=netns"
expect "by each of both rules" 2 "$(recorded type=NETFILTER_PKT 'mark=0x105 ' | wc -l)"
# One goes into a namespace of its own, one ends.
echo >go
wait_for 20 sh -c "grep -qx sleep /proc/$first/comm"
ping_with $witness 0x6 127.0.0.1
wait_for 20 is_said 0x6 "contid=123452 VT_VIA=netns"
kill $second
wait $second || true
ping_with $witness 0x7 127.0.0.1
wait_for 20 is_there 0x7
agent_stops
expect "nobody" "" "$(with 0x7)"
refuse "a gap" recorded type=VT_GAP
veritrail trail verify trail
