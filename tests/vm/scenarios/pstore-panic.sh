# panic_on_corruption: the kernel goes down before any record; its last words are found at the next boot.
#@ kernels: 6.12
#@ boots: 2
root=a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15
if [ "$PHASE" = 1 ]; then
    expect "an empty store" "" "$(ls /sys/fs/pstore)"
    cp "$GOLDEN/vdata-64x4k.img" data
    cp "$GOLDEN/v-sha256.hash" hash
    corrupt data 40977
    veritysetup open --panic-on-corruption "$(loop data -r)" v "$(loop hash -r)" "$root"
    going_down
    direct /dev/mapper/v 40960 4096
    fail "the kernel did not go down"
fi
cp /sys/fs/pstore/* "$ARTEFACTS"
check "the last words" grep -h 'data block 10 is corrupted' /sys/fs/pstore/*

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
