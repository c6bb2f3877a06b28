# From a sector of a disk to the file, through the kernel's own mapped devices.
#@ modules: dm-verity dm-crypt
mkdir -p tree/etc mnt
head -c 100000 /dev/urandom >tree/etc/motto
truncate -s 8M image
mkfs.ext4 -q -F -b 4096 -O ^has_journal -d tree image
block=$(debugfs -R 'blocks /etc/motto' image 2>/dev/null | awk '{print $1}')
sectors=$((8 << 11))
inode=$(debugfs -R 'stat /etc/motto' image 2>/dev/null | awk 'NR == 1 {print $2}')
file="  file      /etc/motto, inode $inode, from its byte"

# told WHAT MAPPED BYTE EXPLAIN-ARGUMENTS...: the file's byte, in the file system on the mapped device.
told() {
    local what=$1 mapped=$2 byte=$3
    shift 3
    veritrail device explain "$@" >told || fail "$what: exit status $?: $(cat told)"
    expect "$what" "$file $byte" "$(grep '^  file ' told)"
    expect "$what, mounted" "/etc/motto" "$(sed -n "s|^  mounted   $PWD/mnt (the file: $PWD/mnt\(.*\)), .*|\1|p" told)"
    grep -q "^ext4 on $(device_number "/dev/mapper/$mapped"), " told || fail "$what: $(cat told)"
}

# dm-verity: the kernel counts blocks of the data device.
data=$(loop image -r)
root=$(veritysetup format "$data" hash | awk '/Root hash/ {print $3}')
hash=$(loop hash -r)
veritysetup open "$data" v "$hash" "$root"
mount -t ext4 -o ro /dev/mapper/v mnt
told "the mapped device by name" v 0 v --block "$block"
told "the data device" v 8192 "$data" --block $((block + 2))
told "the file below" v 4096 "$PWD/image" --block $((block + 1))
grep -q "by way of .*mapped v" told || fail "the way: $(cat told)"
umount mnt
veritysetup close v

# dm-linear: two pieces of a disk, the second one first.
truncate -s 16M disk
dd if=image of=disk bs=4096 seek=1024 skip=0 count=1024 conv=notrunc status=none
dd if=image of=disk bs=4096 seek=0 skip=1024 count=1024 conv=notrunc status=none
disk=$(loop disk)
printf '0 8192 linear %s 8192\n8192 8192 linear %s 0\n' "$disk" "$disk" | dmsetup create l
dmsetup mknodes l
mount -t ext4 -o ro /dev/mapper/l mnt
[ "$block" -lt 1000 ] || fail "the file is not in the first piece"
told "a piece of a disk" l 4096 "$disk" $(((1024 + block + 1) * 8))
veritrail device explain l --block "$block" >told
expect "down again" "bytes $(((1024 + block) * 4096))-$(((1024 + block + 1) * 4096 - 1))" \
    "$(sed -n 's/^  made of   loop .*), //p' told)"
umount mnt
dmsetup remove l

# dm-crypt, with its data behind a header of 64 sectors.
truncate -s 0 disk2
truncate -s $(((sectors + 64) * 512)) disk2
disk=$(loop disk2)
key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
dmsetup create c --table "0 $sectors crypt aes-xts-plain64 $key 0 $disk 64"
dmsetup mknodes c
dd if=image of=/dev/mapper/c bs=64k conv=fsync status=none
mount -t ext4 -o ro /dev/mapper/c mnt
told "an encrypted disk" c 12288 "$disk" $(((block + 3) * 8 + 64))
umount mnt
dmsetup remove c
