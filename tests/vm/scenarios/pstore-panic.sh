# panic_on_corruption: the kernel goes down before any record; its last words are found at the next boot.
#@ kernels: 6.12
#@ boots: 2
taken_down --panic-on-corruption

# The agent tells it once, whoever starts it how often.
modprobe fuse 2>/dev/null || true
for start in 1 2; do
    veritrail agent run --trail trail --run-dir run >out 2>err &
    agent=$!
    wait_for 20 grep -q '^ready' out
    sleep 2
    kill -TERM "$agent"
    wait "$agent"
    veritrail search --trail trail --raw -m DM_EVENT | tr '\035' '\n' >"$ARTEFACTS/start-$start"
    grep -q 'op=verify-data .*sector=10 res=0' "$ARTEFACTS/start-$start"
    expect "told once" 1 "$(grep -c VT_SRC=pstore "$ARTEFACTS/start-$start")"
done
