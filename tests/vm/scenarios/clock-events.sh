# The clock is set again and again while events flow: each step is told once, whoever tells it; no event is
# lost, told twice or out of its place in the trail; and `timeline` has each at the time at which it
# happened, which the events themselves say in a clock that nobody sets.
#@ long: 6.12 6.1
#@ tools: perl
#@ limit: 200

# flow FIRST LAST: numbered messages to audit, one each 5 ms, with the time since boot.
flow() {
    perl -e '
        my ($first, $last) = @ARGV;
        socket(my $audit, 16, 3, 9) or die $!;
        for my $n ($first .. $last) {
            my $time = "\0" x 16;
            syscall(228, 7, $time);
            my $text = sprintf "flow n=%d boot=%d.%09d.", $n, unpack("qq", $time);
            my $message = pack("L S S L L a*", 16 + length $text, 1121, 1, $n, 0, $text);
            send($audit, $message, 0, pack("S S L L", 16, 0, 0, 0)) or die $!;
            select(undef, undef, undef, 0.005);
        }' "$1" "$2"
}

# In seconds; with those since boot at the end, the clock is as it was.
STEPS="1000 -2000 3 -7.5 86400 -86400 5.25 999"
steps() {
    local step
    for step in $STEPS; do
        sleep 0.5
        date -s "@$(date +%s.%N | awk -v step="$step" '{printf "%.3f", $1 + step}')" >/dev/null
    done
    sleep 0.5
}

# in_trail PATTERN: what matches, in the order of the trail; `search` goes by the stamps.
in_trail() {
    cat trail/segments/*.log | grep -aoE -e "$1"
}

agent
auditctl -D >/dev/null
flow 1 1500 &
steps
wait $!
auditctl -a always,exit -F arch=b64 -S clock_settime,settimeofday -k tk
flow 1501 3000 &
steps
wait $!
auditctl -D >/dev/null
sleep 6
agent_stops

expect "every message, once and in its place" "$(seq 3000)" "$(in_trail 'flow n=[0-9]+' | sed 's/.*=//')"
in_trail '^type=TIME_INJOFFSET .*' | tee "$ARTEFACTS/steps" | sed 's/.* sec=\(-*[0-9]*\) nsec=\([0-9]*\).*/\1 \2/' |
    awk -v wanted="$STEPS $STEPS" '
        { found = $1 + $2 / 1e9; n = split(wanted, step, " "); late = step[NR] - found
          if (late < 0 || late > 3) { print "step", NR, "is", found, "for", step[NR]; wrong = 1 } }
        END { if (NR != n) { print NR, "steps"; wrong = 1 } exit wrong }' || fail "the steps"
for source in engine bpf; do
    expect "half by the kernel, half by us" 8 "$(in_trail "^type=VT_CLOCK .*VT_SRC=$source" | wc -l)"
done
expect "who" "$(for ((n = 0; n < 16; n++)); do echo 'call=clock_settime clock=realtime kind=step by=task'; done)" \
    "$(in_trail '^type=VT_CLOCK .*' | sed -E 's/.*: (call=[^ ]* clock=[^ ]* kind=[^ ]*) .* (by=[^ ]*).*/\1 \2/; s/\x1d.*//')"

# By the corrected times each message was sent at the time since boot that it says.
veritrail timeline --trail trail --events --json >events
in_trail '^type=TRUSTED_APP msg=audit\([0-9.]+:[0-9]+\): .*boot=[0-9]+\.[0-9]+' |
    sed -E 's/.*:([0-9]+)\): .*boot=/\1 /' >sent
cp events sent "$ARTEFACTS"
perl -e '
    my (%boot, @order, $low, $high, $before);
    open my $sent, "<", "sent"; while (<$sent>) { my ($serial, $at) = split; $boot{$serial} = $at; push @order, $serial }
    open my $events, "<", "events";
    while (<$events>) {
        my ($serial) = /"serial":(\d+)/; next unless defined $boot{$serial // ""};
        $serial == $order[$n++] or die "message $n stands elsewhere\n";
        my ($h, $m, $s) = /"time":"[^T]*T(\d+):(\d+):([0-9.]+)/ or die $_;
        my $apart = $h * 3600 + $m * 60 + $s - $boot{$serial};
        $apart += 86400 if defined $low && $apart < $low - 43200;
        $low = $apart if !defined $low || $apart < $low;
        $high = $apart if !defined $high || $apart > $high;
    }
    printf "%d messages within %.3f s\n", $n, $high - $low;
    exit !($n == 3000 && $high - $low < 0.4);' || fail "the corrected times"
veritrail timeline --trail trail | tee "$ARTEFACTS/timeline"
