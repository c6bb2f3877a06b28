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
