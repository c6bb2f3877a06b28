#@ long: 6.12 6.1
#@ limit: 240
# The backend `kernel` makes what veritysetup makes: table, UUID and status, for every golden image and
# many mixes of options; and each of the two closes what the other one opened.
loops() {
    DATA=$(loop "$1" -r)
    HASH=$(loop "$2" -r)
    FEC=$([ -z "${3:-}" ] || loop "$3" -r)
}

# About v, as three tools see it. What only we say is not compared, and a blank that veritysetup forgets
# is put in.
seen() {
    dmsetup table --showkeys v
    dmsetup info -c --noheadings --separator ' ' -o uuid,readonly,suspended v
    "$@" status v | grep -Ev '^  (backend|device|signed by|last check|FEC loop): ' | sed 's/oncetry/once try/'
}

both() {
    local what="$*" wanted
    veritysetup open "$DATA" v "$HASH" "$@"
    wanted=$(seen veritysetup)
    expect "$what: our status of theirs" "$wanted" "$(seen veritrail verity)"
    check "$what: close theirs" veritrail verity close v
    refuse "$what: it is closed" [ -e /dev/mapper/v ]
    expect "$what: the path" /dev/mapper/v "$(veritrail verity open "$DATA" v "$HASH" "$@" --backend kernel)"
    expect "$what: ours" "$wanted" "$(seen veritysetup)"
    check "$what: close ours" veritysetup close v
}

golden() {
    cp "$GOLDEN/$1" data
    cp "$GOLDEN/$2" hash
    [ -z "${3:-}" ] || cp "$GOLDEN/$3" fec
    loops data hash ${3:+fec}
}

v256=a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15
golden vdata-64x4k.img v-sha256.hash
both "$v256"
both "$v256" --ignore-corruption
both "$v256" --restart-on-corruption
both "$v256" --panic-on-corruption --ignore-zero-blocks
both "$v256" --check-at-most-once --ignore-zero-blocks --use-tasklets
echo -n "$v256" >root
both --root-hash-file root --ignore-corruption --check-at-most-once

golden vdata-64x4k.img v-nosalt.hash
both 07d905d8fcaa7ebade256623ee5f6499600e94d5a7ed241d77172fc156edadb3
golden vdata-64x4k.img v-sha1-t0.hash
both d48390c62074ad16085bf641e861938efa17581f
golden vdata-64x4k.img v-sha1-t1.hash
both f3f99771c193298ca97b7eedd2c592b1b0241a25
golden vdata-64x4k.img v-sha512-1k512.hash
both 9580272a638395a09352a7fc441a9bafbc1007a1d739e3a3760cc9d6048c2536d8226e2466b271f9711ee5b28de12b3a00672013408dc4f072006f64f29db902
golden vdata-64x4k.img v-sha256-d512-h1k.hash
both 90655735a0ef747bba6ef06a02af374403325dc27593b7ef8156e105fc192777
golden vdata-64x4k.img v-nosb.hash
both d4d1d6840f838e03c624471254b8e013d2719cea4f945b5167607abd8347845e --no-superblock --salt 1234 --data-blocks 64
golden vdata-1x4k.img v-1block.hash
both 4e6969b4c74546b927ba18f467396946ab3fd095c56317a43e1697db388c2053
feed=2453c8dd3cd6a45a9516eccb147fa3028cb4e18ec21790192757032091b33dd2
golden vdata-64x4k.img v-fec2.hash v-fec2.fec
both "$feed" --fec-device "$FEC" --fec-roots 2
golden vdata-64x4k.img v-fec24.hash v-fec24.fec
both "$feed" --fec-device "$FEC" --fec-roots 24 --ignore-zero-blocks
golden vdata-64x4k.img v-fec13-1k.hash v-fec13-1k.fec
both 982823c77c5360d77b63b09a22b8cafee795db6a1e2efcf0d2b9fdb64f7c28e1 --fec-device "$FEC" --fec-roots 13
cp "$GOLDEN/v-onefec.img" one
DATA=$(loop one -r) HASH=$DATA
both 0ffc2545049274c0a372a0e0e78237a13d025dcac18a264e49a48f3971a097cb --data-blocks 64 --hash-offset 262144 \
    --fec-device "$DATA" --fec-offset 270336 --fec-roots 8 --panic-on-corruption
