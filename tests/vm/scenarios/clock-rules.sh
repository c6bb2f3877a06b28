# Where no program of ours may run in the kernel, rules of ours have the kernel tell who changes the clock: of
# calls of 64 and of 32 bits, also of one that is told that it failed, and of nothing else. They go when the
# agent stops, and where auditing is off there are none, which is said.
#@ long: 6.12 6.1
#@ tools: perl
#@ limit: 300

printf '[agent]\nsources = ["audit", "clock"]\n' >veritrail.toml
ours() {
    auditctl -l | grep 'key=veritrail' | grep -v '^-a never,'
}

# told_of COMM FIELD...: the VT_CLOCK beside the SYSCALL record of that program, with these words.
told_of() {
    local comm=$1 id
    shift
    id=$(recorded type=SYSCALL "comm=\"$comm\"" | sed 's/.*audit(//; s/):.*//' | tail -n 1)
    [ -n "$id" ] && recorded type=VT_CLOCK "audit($id)" "$@"
}

# elf FILE FLAGS: a program that steers the clock by 2 ppm by adjtimex with 32 bits. In memory that nobody may
# write (FLAGS 5) the answer finds no place: the clock is changed, and the call says EFAULT.
elf() {
    perl -e '
        my $code = pack("C V C V C2 C2 C V C2", 0xb8, 124, 0xbb, 0x400100, 0xcd, 0x80, 0x31, 0xdb, 0xb8, 1, 0xcd, 0x80);
        my $elf = pack("a4 C5 x7 v v V Q Q Q V v v v v v v", "\x7fELF", 2, 1, 1, 0, 0, 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 64, 0, 0)
            . pack("V V Q Q Q Q Q Q", 1, $ARGV[0], 0, 0x400000, 0x400000, 0x300, 0x300, 0x1000) . $code;
        print $elf, "\0" x (0x100 - length $elf), pack("V l l", 2, 0, 131072), "\0" x 0x1f4;' "$2" >"$1"
    chmod +x "$1"
}

# steer UNITS: adjtimex, 2^-16 ppm.
steer() {
    perl -e 'exit(syscall(159, pack("L x4 q q q q l x4 q q q q q q q8 l x4", 2, 0, $ARGV[0], (0) x 19)) < 0)' "$1"
}

auditctl -D >/dev/null
auditctl -a always,exit -F arch=b64 -S swapoff -k theirs
theirs=$(auditctl -l)
agent --config veritrail.toml
cat agent.said
told 10 type=VT_RULE state=installed
expect "a rule for each width" 2 "$(ours | wc -l)"
expect "both for the calls" 2 "$(ours | grep adjtimex | grep -c clock_settime)"
expect "nothing is amiss" "" "$(recorded state=degraded || true)"

date -s "@$(($(date +%s) + 100))" >/dev/null
steer 65536
steer 0
told 10 type=VT_CLOCK call=clock_settime kind=step by=task
told 10 type=TIME_ADJNTPVAL op=freq old=4294967296000 new=0
check "who set it" told_of date kind=step by=task call=clock_settime
check "who steered it" told_of perl kind=slew by=task call=adjtimex
elf narrow 7
./narrow
told 10 'comm="narrow"' type=SYSCALL arch=40000003
check "who steered it with 32 bits" told_of narrow kind=slew by=task call=adjtimex
steer 0
elf failing 5
./failing
told 10 'comm="failing"' type=SYSCALL success=no
check "who steered it and was told that it failed" told_of failing kind=slew by=task call=adjtimex
steer 0

# What changes nothing leaves nothing.
told 10 type=TIME_ADJNTPVAL op=freq new=0
sleep 4
before=$(recorded | wc -l)
steer 0
perl -e 'my $timex = "\0" x 208; exit(syscall(159, $timex) < 0)'
refuse "no clock to set" perl -e 'exit(syscall(227, 1, pack("qq", time(), 0)) < 0)'
sleep 4
expect "what changes nothing" "$before" "$(recorded | wc -l)"
expect "no step that nobody was seen to make" "" "$(recorded type=VT_CLOCK by=unknown || true)"
expect "each once" "$(recorded type=TIME_ | sed 's/.*audit(//; s/):.*//' | sort -u | wc -l)" "$(recorded type=VT_CLOCK | wc -l)"

# Somebody takes all rules away: that is a loss, and is said.
auditctl -D >/dev/null
told 10 type=VT_AGENT state=degraded source=clock
agent_stops
expect "rules of ours are gone" "" "$(auditctl -l | grep veritrail || true)"

# Auditing is off: no rules, until it is on.
auditctl -a always,exit -F arch=b64 -S swapoff -k theirs
auditctl -e 0 >/dev/null
rm -rf trail
agent --config veritrail.toml
cat agent.said
check "the loss is said" grep -q '^clock: listening: .*; who changes it is not seen: .*auditing is off' agent.said
told 10 type=VT_AGENT state=degraded source=clock
expect "none for the calls" "" "$(ours || true)"
date -s "@$(($(date +%s) - 100))" >/dev/null
told 10 type=VT_CLOCK kind=step by=unknown
auditctl -e 1 >/dev/null
told 20 type=VT_AGENT state=restored source=clock
expect "a rule for each width" 2 "$(ours | wc -l)"
steer 65536
told 10 type=VT_CLOCK kind=slew call=adjtimex by=task
steer 0
agent_stops
expect "theirs are as they were" "$theirs" "$(auditctl -l)"
