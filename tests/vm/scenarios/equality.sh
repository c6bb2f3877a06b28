# The same damage and the same reads on the kernel's dm-verity and on ours, over the same bytes: what is
# read, the status and the records have to be equal field by field, but for the numbers of devices and
# who opened (pid, ppid, comm, exe). Every verity case of tests/golden/devices/README.md.
#
# Without a security module that labels tasks: subj= is then in nobody's records.
#@ kernels: 6.12
#@ append: lsm=landlock,lockdown,yama,integrity,bpf
#@ limit: 400
sha256=a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15
nosalt=07d905d8fcaa7ebade256623ee5f6499600e94d5a7ed241d77172fc156edadb3
sha1_t0=d48390c62074ad16085bf641e861938efa17581f
sha1_t1=f3f99771c193298ca97b7eedd2c592b1b0241a25
sha512=9580272a638395a09352a7fc441a9bafbc1007a1d739e3a3760cc9d6048c2536d8226e2466b271f9711ee5b28de12b3a00672013408dc4f072006f64f29db902
d512=90655735a0ef747bba6ef06a02af374403325dc27593b7ef8156e105fc192777
nosb=d4d1d6840f838e03c624471254b8e013d2719cea4f945b5167607abd8347845e
fec=2453c8dd3cd6a45a9516eccb147fa3028cb4e18ec21790192757032091b33dd2
fec13=982823c77c5360d77b63b09a22b8cafee795db6a1e2efcf0d2b9fdb64f7c28e1
onefec=0ffc2545049274c0a372a0e0e78237a13d025dcac18a264e49a48f3971a097cb
one=4e6969b4c74546b927ba18f467396946ab3fd095c56317a43e1697db388c2053

work=/run/work
run=$work/run
ours=(--backend user --direct-io --trail "$work/trail" --run-dir "$run")
veritrail verity open --help | grep -q -e --backend || ours=("${ours[@]:2}")

# Record bodies without what may differ.
comparable() { sed -E 's/ dev=[0-9:]+ / dev=N /; s/ (pid|ppid)=[0-9]+/ \1=N/g; s/ comm="[^"]*" exe="[^"]*"/ comm=N exe=N/'; }

# The records of all our devices, into us/NAME: the tail at an event's end names the device.
our_records() {
    veritrail search --trail trail --raw | awk '
        {split($0, half, "\035"); stamp = $2; body = half[1]; sub(/^type=[A-Z_]* msg=audit\([0-9.:]*\): /, "", body)}
        /^type=DM_/ {events[stamp] = events[stamp] body "\n"}
        match($0, / VT_DEV=[^ ]*/) {
            printf "%s", events[stamp] >("us/" substr($0, RSTART + 8, RLENGTH - 8) ".records")
            delete events[stamp]
        }'
}

# Each READ is OFFSETxSIZE, N*OFFSETxSIZE, or `all`: everything in pieces of 4096 bytes. Says what was
# read and what could not be.
reads() {
    local device=$1 read times size at i
    shift
    for read in "$@"; do
        : >errors
        if [ "$read" = all ]; then
            dd if="$device" of=bytes bs=4096 iflag=direct conv=noerror,sync 2>errors || true
            # What stands there comes from the failed read: the kernel's direct reads fill the buffer
            # before they verify it.
            for at in $(awk '/Input\/output error/ {getline; split($1, n, "+"); print n[1] + n[2]}' errors); do
                echo "piece $at: error"
                head -c 4096 /dev/zero | dd of=bytes bs=4096 seek="$at" conv=notrunc iflag=fullblock status=none
            done
        else
            times=1
            case $read in *'*'*) times=${read%%'*'*} read=${read#*'*'} ;; esac
            at=${read%x*} size=${read#*x}
            : >bytes
            for ((i = 0; i < times; i++)); do
                dd if="$device" bs="$size" count=1 skip="${at}B" iflag=direct status=none >>bytes 2>>errors || true
            done
            echo "$(grep -ci 'input/output error' errors || true) errors"
        fi
        echo "$(stat -c %s bytes) bytes $(sha256sum <bytes)"
    done
}

# FEC and SAME in the options are the parity, and the device of the data.
by_kernel() {
    local root=$1 data hash words=("${options[@]}")
    data=$(loop ../data -r)
    hash=$data
    [ ! -e ../hash ] || hash=$(loop ../hash -r)
    words=("${words[@]/#SAME/$data}")
    [ ! -e ../fec ] || words=("${words[@]/#FEC/$(loop ../fec -r)}")
    mark
    veritysetup open "$data" v "$hash" "$root" "${words[@]}"
    reads /dev/mapper/v "${wanted[@]}"
    dmsetup status v | awk '{print $4}'
    veritysetup close v
    records 1338 1339 | comparable >"../kernel/$what.records"
    losetup -D
}

by_us() {
    local root=$1 hash=../hash words=("${options[@]}")
    [ -e ../hash ] || hash=../data
    words=("${words[@]/#SAME/../data}")
    words=("${words[@]/#FEC/../fec}")
    veritrail verity open "${ours[@]}" ../data "$what" "$hash" "$root" "${words[@]}" >opened 2>&1
    reads "$run/devices/$what" "${wanted[@]}"
    veritrail verity status "$what" --run-dir "$run" --json | grep -q '"corrupted": *true' && echo C || echo V
    veritrail verity close "$what" --run-dir "$run"
}

# compare NAME IMAGE ROOT "DAMAGE..." "READ..." [OPTION...]: DAMAGE is data:OFFSET or hash:OFFSET (8 bytes),
# or noise:BLOCK,COUNT (blocks of 4096 bytes of the data). Both sides run at once, each in a directory of
# its own; what differs is told at the end.
compare() {
    local image=$2 root=$3 damage one two
    what=$1
    rm -rf data hash fec
    read -ra damages <<<"$4"
    read -ra wanted <<<"$5"
    shift 5
    options=("$@")
    case $image in
    v-onefec) cp "$GOLDEN/v-onefec.img" data ;;
    v-1block) cp "$GOLDEN/vdata-1x4k.img" data ;;
    *) cp "$GOLDEN/vdata-64x4k.img" data ;;
    esac
    [ "$image" = v-onefec ] || cp "$GOLDEN/$image.hash" hash
    [ ! -e "$GOLDEN/$image.fec" ] || cp "$GOLDEN/$image.fec" fec
    for damage in "${damages[@]}"; do
        case $damage in
        noise:*)
            damage=${damage#noise:}
            head -c "$((${damage#*,} * 4096))" /dev/zero | openssl enc -aes-128-ctr -K 0000000000000000000000000000002a -iv 00000000000000000000000000000000 |
                dd of=data bs=4096 seek="${damage%,*}" conv=notrunc iflag=fullblock status=none
            ;;
        *) corrupt "${damage%:*}" "${damage#*:}" ;;
        esac
    done
    rm -rf by-kernel by-us
    mkdir by-kernel by-us
    (cd by-kernel && by_kernel "$root") >"kernel/$what.reads" &
    one=$!
    (cd by-us && by_us "$root") >"us/$what.reads" &
    two=$!
    wait "$one" || fail "$what by the kernel"
    wait "$two" || { cat by-us/opened && fail "$what by us"; }
    echo "ran: $what"
}

mkdir kernel us
# Only these records say what happened; fewer of them are quicker read.
for type in SYSCALL CWD PATH PROCTITLE; do
    auditctl -a exclude,always -F "msgtype=$type"
done

without=(--no-superblock --salt 1234)
single=(--data-blocks 64 --hash-offset 262144 --fec-device SAME --fec-offset 270336 --fec-roots 8)

# Nothing wrong: no record but of opening and closing.
compare clean v-sha256 $sha256 "" all

# The cases of the README, in its order.
compare block-10 v-sha256 $sha256 data:40977 40960x4096
compare two-in-one-read v-sha256 $sha256 "data:40977 data:49169" 32768x65536
compare two-in-pieces v-sha256 $sha256 "data:40977 data:49169" all
compare hash-block v-sha256 $sha256 hash:4200 135168x4096
compare hash-block-of-a-level v-sha512-1k512 $sha512 hash:4000 all
compare hundred v-sha256 $sha256 data:40977 '103*40960x4096'
compare sha1-t0 v-sha1-t0 $sha1_t0 data:40977 "40960x4096 all"
compare d512-h1k v-sha256-d512-h1k $d512 data:40977 40960x512
compare corrected-fec2 v-fec2 $fec data:40977 "40960x4096 all" --fec-device FEC --fec-roots 2
compare corrected-onefec v-onefec $onefec data:40977 "40960x4096 all" "${single[@]}"
compare beyond-fec2 v-fec2 $fec noise:10,4 40960x4096 --fec-device FEC --fec-roots 2
compare no-tree v-1block $one data:7 0x4096
compare foreign-root v-sha256 $nosalt "" 0x4096

# And the images that it has no case of.
compare nosalt v-nosalt $nosalt data:40977 all
compare sha1-t1 v-sha1-t1 $sha1_t1 data:40977 all
compare nosb v-nosb $nosb data:40977 all "${without[@]}"
compare corrected-fec13-1k v-fec13-1k $fec13 data:40977 all --fec-device FEC --fec-roots 13
compare zeros v-sha256 $sha256 "data:163857 data:40977" all --ignore-zero-blocks
compare once v-sha256 $sha256 data:40977 "all all" --check-at-most-once

# Two differences are known, and looked at below.
compare ignored v-sha256 $sha256 noise:0,64 "all all" --ignore-corruption
compare corrected-hash-block v-fec24 $fec hash:4200 40960x4096 --fec-device FEC --fec-roots 24

# Refused at opening.
rm -f fec
cp "$GOLDEN/vdata-64x4k.img" data
cp "$GOLDEN/v-sha256.hash" hash
salt=$(veritysetup dump hash | awk '$1 == "Salt:" {print $2}')
data=$(loop data -r) hash=$(loop hash -r)
mark
refuse "a root hash that is too short" dmsetup create v --noudevsync -r --table \
    "0 512 verity 1 $data $hash 4096 4096 64 1 sha256 a8f55e2d $salt" 2>messages
records 1338 | comparable >kernel/short-root.records
refuse "by us" veritrail verity open "${ours[@]}" data short-root hash a8f55e2d 2>messages

mkdir others
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem -out others/other.pem -subj /CN=other -days 30 2>messages
signature=(--root-hash-signature "$GOLDEN/v-sha256.p7s")
mark
refuse "an unknown signer" veritysetup open "$data" v "$hash" "$sha256" "${signature[@]}" 2>messages
records 1338 | comparable >kernel/unknown-signer.records
refuse "by us" veritrail verity open "${ours[@]}" data unknown-signer hash "$sha256" "${signature[@]}" --keyring others 2>messages

our_records
for file in us/*.records; do
    comparable <"$file" >comparable
    mv comparable "$file"
done
cp -r kernel us "$ARTEFACTS"

# Corruption that is ignored is on record here, each; the kernel says only that there were a hundred.
expect "our records of ignored corruption" 128 "$(grep -c 'op=verify-data dev=N sector=[0-9]* res=0' us/ignored.records)"
sed -i '/op=verify-data/d' us/ignored.records
echo "KNOWN DIFFERENCE: ignored corruption: 128 records verify-data of ours, none of the kernel"

# Each read through a hash block that parity has corrected is a record of the kernel, and makes its status
# C, though the data are right. We tell of the correction once, with VT_FEC.
cp kernel/corrected-hash-block.records quirk
expect "the kernel's records of a corrected hash block" "$(for block in {0..63}; do echo "module=verity op=verify-metadata dev=N sector=$block res=0"; done)" "$(grep op=verify quirk)"
sed -i '/op=verify-metadata/d' kernel/corrected-hash-block.records
sed -i 's/^C$/V/' kernel/corrected-hash-block.reads
echo "KNOWN DIFFERENCE: a corrected hash block: 64 records verify-metadata and status C of the kernel, none and V of ours"

status=0
diff -r kernel us || status=$?
expect "lines beginning with < are the kernel's, with > ours" 0 "$status"
echo "equal: $(cat kernel/*.records | wc -l) records of $(ls kernel/*.records | wc -l) cases"
