# Every change of the clock is told once: by the kernel's records where a rule has them made, else by ours,
# which are the same text; by whom; and what nobody was seen to change, by the witness.
#@ long: 6.12 6.1
#@ tools: perl
#@ limit: 300

# adj MODES [OFFSET FREQ STATUS CONSTANT TICK SECONDS FRACTION]: adjtimex(2) itself.
adj() {
    perl -e '
        my ($m, $o, $f, $s, $c, $t, $sec, $part) = (@ARGV, (0) x 8);
        my $timex = pack("L x4 q q q q l x4 q q q q q q q8 l x4",
            oct($m), $o, $f, 0, 0, $s, $c, 0, 0, $sec, $part, $t, (0) x 8, 0);
        exit(syscall(159, $timex) < 0);' "$@"
}

# What changes, each value in a way of its own, and back; then what changes nothing.
changes() {
    adj 0x2 0 65536
    adj 0x4000 0 0 0 0 10001
    adj 0x80 0 0 0 38
    adj 0x10 0 0 1
    adj 0x1 1000
    adj 0x8001 100
    adj 0x2100 0 0 0 0 0 -1 250000000
    adj 0x100 0 0 0 0 0 3 4
    date -s "@$(($(date +%s) + 1000))" >/dev/null
    date -s "@$(($(date +%s) - 1000))" >/dev/null
    perl -e 'exit(syscall(164, pack("qq", time() + 5000, 0), 0) < 0)'
    perl -e 'exit(syscall(227, 0, pack("qq", time() - 5000, 0)) < 0)'
    adj 0x8001 0
    adj 0x10 0 0 64
    adj 0x2 0 0
    adj 0x4080 0 0 0 0 10000

    adj 0
    adj 0xa001
    adj 0x4000 0 0 0 0 10000
    adj 0xc
    refuse "a tick that no clock has" adj 0x4000 0 0 0 0 1
    refuse "no clock to set" perl -e 'my $time = pack("qq", time(), 0); exit(syscall(227, 1, $time) < 0)'
}

# told_by SOURCE: the records of the clock that came from there, without what depends on the moment: how
# long since the second, what is left of an offset, and the frequency that the PLL makes of it. Sorted, as
# `search` goes by stamps, which these calls change.
told_by() {
    veritrail search --trail trail --raw | awk -v source="VT_SRC=$1" '
        {
            split($0, half, /\x1d/)
            match(half[1], /audit\([0-9.:]+\): /); id = substr(half[1], RSTART, RLENGTH)
            if (half[1] ~ /^type=TIME_/) { text[id] = text[id] substr(half[1], 6) "\n"; if (!(id in seen)) { seen[id]; order[++n] = id } }
            if (index(half[2], source)) from[id]
        }
        END { for (i = 1; i <= n; i++) if (order[i] in from) printf "%s", text[order[i]] }' |
        sed -E 's/ msg=audit\([0-9.:]+\)://; s/(op=offset).*/\1/
            s/(TIME_INJOFFSET sec=-?)[0-9]{3}( |[0-9] ).*/\1N/; s/(op=freq old=).*( new=0)$/\1ANY\2/' |
        { grep -v 'op=freq old=4294967296000 ' || true; } | sort
}

agent
grep -E '^(bpf|clock|audit): ' agent.said
check "who changes the clock is seen" grep -q '^bpf: listening: .*clock' agent.said

# With a rule the kernel tells.
auditctl -D >/dev/null
auditctl -a always,exit -F arch=b64 -S adjtimex,clock_adjtime,settimeofday,clock_settime -k tk
changes
sleep 6
auditctl -D >/dev/null
told_by kernel >kernels
told_by bpf >both
recorded | tee "$ARTEFACTS/with-a-rule" >/dev/null
expect "where the kernel told, we did not" "" "$(cat both)"

# Without, we do, and so does the same.
changes
sleep 6
told_by bpf >ours
cp kernels ours "$ARTEFACTS"
cat ours
expect "the kernel's text" "$(cat kernels)" "$(cat ours)"
expect "every kind" "17" "$(wc -l <ours | tr -d ' ')"
recorded type=VT_CLOCK >clock
cp clock "$ARTEFACTS"
expect "no step that nobody was seen to make" "" "$(grep by=unknown clock || true)"
check "who" grep -q 'call=clock_settime clock=realtime kind=step .* by=task ppid=.* comm="date" exe=' clock

# A call of 32 bits, which no tracepoint of system calls shows: adjtimex by int 0x80, 2 ppm.
perl -e '
    my $code = pack("C V C V C2 C2 C V C2", 0xb8, 124, 0xbb, 0x400100, 0xcd, 0x80, 0x31, 0xdb, 0xb8, 1, 0xcd, 0x80);
    my $elf = pack("a4 C5 x7 v v V Q Q Q V v v v v v v", "\x7fELF", 2, 1, 1, 0, 0, 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 64, 0, 0)
        . pack("V V Q Q Q Q Q Q", 1, 7, 0, 0x400000, 0x400000, 0x300, 0x300, 0x1000) . $code;
    print $elf, "\0" x (0x100 - length $elf), pack("V l l", 2, 0, 131072), "\0" x 0x1f4;' >narrow
chmod +x narrow
./narrow
told 10 type=TIME_ADJNTPVAL 'op=freq old=0 new=8589934592000'
told 10 type=VT_CLOCK call=adjtimex 'comm="narrow"'
adj 0x2 0 0

# Two at the same time: each change is told, and nothing else.
steps() { recorded type=VT_CLOCK 'comm="perl"' kind=step | wc -l; }
before=$(steps)
perl -e 'for (1 .. 40) { syscall(227, 0, pack("qq", time() + 60, 0)) }' &
one=$!
perl -e 'for (1 .. 40) { syscall(227, 0, pack("qq", time() - 60, 0)) }' &
wait "$one" $!
sleep 6
expect "steps of two processes" 80 "$(($(steps) - before))"
agent_stops
expect "no step that nobody was seen to make" "" "$(recorded type=VT_CLOCK by=unknown || true)"

veritrail timeline --trail trail >"$ARTEFACTS/timeline"
veritrail timeline --trail trail --json >rows
check "steps in the timeline" grep -q '"kind":"step".*"call":"clock_settime".*"comm":"date"' rows
veritrail timeline --trail trail --events >events
cp events "$ARTEFACTS"

# Without those who see the call or hear of it, the witness measures the step.
printf '[agent]\nsources = ["clock"]\n' >veritrail.toml
rm -rf trail
agent --config veritrail.toml
date -s "@$(($(date +%s) + 100))" >/dev/null
sleep 4
told 10 type=VT_CLOCK by=unknown kind=step
recorded type=VT_CLOCK
agent_stops
