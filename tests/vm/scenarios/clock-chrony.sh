# A stock time daemon at work: chronyd, after a reference clock of ours that is ahead and too fast, steps the
# clock and slews it. What it does is told once each, to the very values, by whom; and `timeline` shows the
# steps and, in one row each, the slews between them.
#@ long: 6.12 6.1
#@ tools: perl chronyd
#@ limit: 240

# However it ends, the clock goes as before: microseconds, no frequency, ticks of 10 ms, not synchronised.
trap 'perl -e "
    exit(syscall(159, pack(q{L x4 q q q q l x4 q q q q q q q8 l x4}, 0x5012, 0, 0, 0, 0, 64, (0) x 5, 10000, (0) x 9)) < 0)"' EXIT

# reference AHEAD PPM SECONDS: samples for chronyd, four a second, of a time that is so many seconds ahead of
# what the clock says now, and is too fast.
reference() {
    perl -e '
        my ($ahead, $ppm, $seconds) = @ARGV;
        sub now { my $time = "\0" x 16; syscall(228, $_[0], $time); unpack("qq", $time) }
        sub less { my ($s, $n, $s0, $n0) = @_; ($s - $s0) + ($n - $n0) / 1e9 }
        my @real = now(0); my @boot = now(7);
        socket(my $to, 1, 2, 0) or die $!;
        for (1 .. 4 * $seconds) {
            my @at = now(0);
            my $passed = less(now(7), @boot);
            my $offset = $ahead + $passed * (1 + $ppm / 1e6) - less(@at, @real);
            my $sample = pack("q q d l l l l", $at[0], int($at[1] / 1000), $offset, 0, 0, 0, 0x534f434b);
            send($to, $sample, 0, pack("S a108", 1, "/run/work/reference")) or warn $!;
            select(undef, undef, undef, 0.25);
        }' "$@"
}

cat >chrony.conf <<END
refclock SOCK /run/work/reference poll 0 filter 1 precision 1e-6 refid REF
makestep 0.5 -1
pidfile /run/work/chronyd.pid
cmdport 0
bindcmdaddress /
END

# chrony AHEAD PPM SECONDS: has chronyd follow such a clock.
chrony() {
    chronyd -d -u root -f "$PWD/chrony.conf" >>"$ARTEFACTS/chronyd" 2>&1 &
    local chronyd=$!
    wait_for 20 test -S /run/work/reference
    reference "$@"
    kill "$chronyd"
    wait "$chronyd" || true
    rm -f /run/work/reference
}

rule() {
    auditctl -a always,exit -F arch=b64 -S adjtimex,clock_adjtime,settimeofday,clock_settime -k tk
}

# In the order of the trail; `search` goes by the stamps.
in_trail() {
    cat trail/segments/*.log | { grep -aE -e "$1" || true; } | tr '\035' '\t'
}
bodies() {
    in_trail '^type=TIME_' | sed -E 's/^type=([A-Z_]+) msg=audit\([0-9.:]+\): ([^\t]*).*/\1 \2/'
}

# The kernel tells its log, and an agent that does not hear audit tells what it sees: the same, but for a step
# that the kernel has told already and repeats in each later event of the thread that made it.
printf '[agent]\nsources = ["clock", "bpf"]\n' >deaf.toml
agent --config deaf.toml
auditctl -D >/dev/null
rule
mark
chrony 3.2 80 14
auditctl -D >/dev/null
sleep 1
dmesg -r | sed -nE 's/.*audit: type=1332 audit\([0-9.:]+\): /TIME_INJOFFSET /p; s/.*audit: type=1333 audit\([0-9.:]+\): /TIME_ADJNTPVAL /p' >all
awk '/^TIME_INJOFFSET/ && $0 == last {next} /^TIME_INJOFFSET/ {last = $0} 1' all >kernels
repeats=$(($(wc -l <all) - $(wc -l <kernels)))
echo "$repeats steps that the kernel repeats"
dmesg -r | sed -nE 's/.*audit: type=133[23] audit\(([0-9.:]+)\): .*/\1/p' | sort -u >calls
agent_stops
bodies >ours
in_trail '^type=VT_CLOCK ' >clock
cp all kernels ours clock "$ARTEFACTS"
expect "the kernel's text" "$(cat kernels)" "$(cat ours)"
expect "one for each call" "$(wc -l <calls)" "$(wc -l <clock)"
expect "chronyd's, all of them" "" "$(grep -v ' by=task .* comm="chronyd" ' clock || true)"
check "it has stepped" grep -q '^TIME_INJOFFSET sec=3 ' ours
check "it has slewed" test "$(grep -c 'op=freq' ours)" -ge 4

# Both at once, with a rule and without, and somebody else sets the clock under its hands.
rm -rf trail
agent
rule
chrony 2 -50 8
auditctl -D >/dev/null
sleep 6
in_trail '^type=VT_CLOCK ' >clock
expect "the kernel tells, and we say by whom" "" "$(grep -v VT_SRC=engine clock || true)"
expect "one for each call" "$(in_trail '^type=TIME_' | sed 's/): .*//; s/.*(//' | sort -u | wc -l)" "$(wc -l <clock)"
with_rule=$(wc -l <clock)
expect "a step is one, however often the kernel repeats it" 1 "$(grep -c ' kind=step ' clock)"
[ "$repeats" = 0 ] || check "where it repeats it, that is said" grep -q " kind=slew .* reason='TIME_INJOFFSET is of an earlier call'" clock
chrony 1.5 60 20 &
sleep 10
date -s "@$(($(date +%s) + 30))" >/dev/null
wait $!
sleep 6
agent_stops
in_trail '^type=VT_CLOCK ' | tail -n +$((with_rule + 1)) >clock
expect "we tell all of it" "" "$(grep -v VT_SRC=bpf clock || true)"
expect "one of date" 1 "$(grep -c ' kind=step .* comm="date" ' clock)"
expect "no one else" "" "$(grep -v ' by=task .* comm="\(chronyd\|date\)" ' clock || true)"
check "it steps back what date has done" grep -qE ' kind=step .* step=-(28|29|30)[0-9]{9} .* comm="chronyd" ' clock

veritrail timeline --trail trail | tee "$ARTEFACTS/timeline"
veritrail timeline --trail trail --json >rows
cp rows "$ARTEFACTS"
# Each change is in one row; between two steps all slews of chronyd are one, with their totals.
expect "every change is in a row" "$(in_trail '^type=VT_CLOCK ' | wc -l)" \
    "$(sed -E 's/"values":.*//; s/.*"count":([0-9]+).*/\1/' rows | awk '{sum += $1} END {print sum}')"
expect "slews are folded" "" "$(awk '/"kind":"slew"/ {if (slew) print; slew = 1; next} {slew = 0}' rows)"
check "with totals" grep -qE '"kind":"slew".*"values":\[.*"op":"freq","count":[0-9]+.*"comm":"chronyd"' rows
