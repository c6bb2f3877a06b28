# The agent comes when a device is corrupt already, is killed, and comes again; a dm-integrity of
# the stock tools is placed.
#@ long: 6.1
#@ modules: dm-integrity
#@ limit: 240
cp "$GOLDEN/vdata-64x4k.img" data
cp "$GOLDEN/v-sha256.hash" hash
corrupt data 40977
veritysetup open "$(loop data -r)" early "$(loop hash -r)" "$ROOT"
refuse "block 10 is bad" direct /dev/mapper/early 40960 4096
agent
told 20 type=VT_DEVICE 'name="early"' state=corrupted

agent_dies
umount -l run/fs 2>/dev/null || true
agent
told 20 type=VT_GAP source=agent reason=killed

integrity_damaged 8
integritysetup open "$LOWER" i
dev=$(device_number /dev/mapper/i)
refuse "sector 8 is bad" direct /dev/mapper/i 4096 4096
told 20 type=DM_EVENT "module=integrity op=integrity-checksum dev=$dev sector=8"
told 10 type=VT_PLACE "dev=$dev name=\"i\"" bytes=4096-
agent_stops
veritrail search --trail trail --raw >"$ARTEFACTS/records"
