# The agent comes when a device is corrupt already, is killed, and comes again; a dm-integrity of
# the stock tools is placed.
#@ modules: dm-integrity
#@ limit: 240
root=a8f55e2d0f00c51dbe2c909296784c81633d184829b19980e2bd1d4270963f15
cp "$GOLDEN/vdata-64x4k.img" data
cp "$GOLDEN/v-sha256.hash" hash
corrupt data 40977
veritysetup open "$(loop data -r)" early "$(loop hash -r)" "$root"
refuse "block 10 is bad" direct /dev/mapper/early 40960 4096
agent
told 20 type=VT_DEVICE 'name="early"' state=corrupted

kill -KILL "$AGENT"
wait "$AGENT" || true
umount -l run/fs 2>/dev/null || true
agent
told 20 type=VT_GAP source=agent reason=killed

truncate -s 4M file
lower=$(loop file)
integritysetup format -q --no-wipe --interleave-sectors 128 "$lower"
integritysetup open "$lower" i
bytes=$(($(blockdev --getsz /dev/mapper/i) * 512))
noise 0b "$bytes" | dd of=/dev/mapper/i bs=4096 iflag=fullblock oflag=direct status=none
integritysetup close i
noise 0b 4096 >pattern
corrupt file $(($(where pattern file) + 8 * 512 + 17))
integritysetup open "$lower" i
dev=$(device_number /dev/mapper/i)
refuse "sector 8 is bad" direct /dev/mapper/i 4096 4096
told 20 type=DM_EVENT "module=integrity op=integrity-checksum dev=$dev sector=8"
told 10 type=VT_PLACE "dev=$dev name=\"i\"" bytes=4096-
agent_stops
veritrail search --trail trail --raw >"$ARTEFACTS/records"
