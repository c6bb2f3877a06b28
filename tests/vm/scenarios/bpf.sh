# Programs that tell of processes: all of them load, each process is heard once, other namespaces
# are seen, and what finds no room is a gap with its number.
#@ modules: xt_AUDIT nft_log
#@ limit: 300

# source KEY: a count of the source bpf.
source_of() {
    veritrail agent status --json --run-dir run | tr -d ' \n' |
        grep -o '"name":"bpf","state":"[a-z]*"[^}]*' | grep -o "\"$1\":[0-9]*" | cut -d: -f2
}
# program NAME KEY: a count of a program.
program_of() {
    veritrail agent status --json --run-dir run | tr -d ' \n' |
        grep -o "\"name\":\"$1\",\"state\":\"attached\"[^}]*" | grep -o "\"$2\":[0-9]*" | cut -d: -f2
}
at_least() { [ "$("${@:2}")" -ge "$1" ]; }

veritrail doctor >doctor.said
check "all programs load" grep -E '^has +BPF programs +fork, exec, exit, namespaces' doctor.said

printf '[agent]\nsources = ["bpf"]\n[bpf]\nstatistics = true\n' >config
agent --config config
check "it listens" grep '^bpf: listening: fork, exec, exit, namespaces' agent.said
for ((i = 0; i < 200; i++)); do /bin/true; done
unshare -n /bin/true
wait_for 20 at_least 600 source_of messages
wait_for 20 at_least 200 program_of exec runs
wait_for 20 at_least 1 program_of namespaces runs
expect "nothing lost" 0 "$(source_of lost)"
veritrail agent status --json --run-dir run >"$ARTEFACTS/status"
agent_stops
refuse "a gap" recorded type=VT_GAP

printf '[agent]\nsources = ["bpf"]\n[bpf]\nring_bytes = 4096\n' >config
agent --config config
# shellcheck disable=SC2046
kill -STOP $(pidof veritrail)
for ((i = 0; i < 50; i++)); do /bin/true; done
# shellcheck disable=SC2046
kill -CONT $(pidof veritrail)
wait_for 20 at_least 50 source_of lost
told 20 type=VT_GAP source=bpf count=exact
agent_stops
lost=$(recorded type=VT_GAP source=bpf | grep -o 'records=[0-9]*' | cut -d= -f2 | awk '{ sum += $1 } END { print sum }')
expect "what is counted is told" "$(recorded type=VT_AGENT state=stopped | tail -n 1 | grep -o ' bpf=[0-9/]*' | cut -d/ -f3)" "$lost"
