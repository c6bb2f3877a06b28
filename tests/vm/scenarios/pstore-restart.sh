# restart_on_corruption: the same, where the kernel is told to keep its words at a restart too.
#@ kernels: 6.12
#@ boots: 2
#@ append: printk.always_kmsg_dump=1
root=a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15
if [ "$PHASE" = 1 ]; then
    expect "an empty store" "" "$(ls /sys/fs/pstore)"
    cp "$GOLDEN/vdata-64x4k.img" data
    cp "$GOLDEN/v-sha256.hash" hash
    corrupt data 40977
    veritysetup open --restart-on-corruption "$(loop data -r)" v "$(loop hash -r)" "$root"
    going_down
    direct /dev/mapper/v 40960 4096
    fail "the kernel did not go down"
fi
cp /sys/fs/pstore/* "$ARTEFACTS"
check "the last words" grep -h 'data block 10 is corrupted' /sys/fs/pstore/*
