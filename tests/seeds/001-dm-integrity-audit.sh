# Seed 001: "dm: audit event logging" (2021), dm-integrity and dm-crypt.
#
# The document's example makes a dm-integrity device, which a later capability does. What it shows of the
# audit log, `001-audit.log` beside this script byte for byte (double `=` included), is read here as the document
# means it: its types had no names yet, and their numbers are other records' today.
set -euo pipefail

log=$SEEDS/001-audit.log
veritrail trail import trail "$log" >/dev/null

count() { veritrail search --trail trail "$@" --raw | grep -c '^type='; }
[ "$(count -m DM_CTRL)" = 7 ]
[ "$(count -m DM_CTRL --op ctr)" = 4 ]
[ "$(count -m DM_EVENT --op integrity-checksum --device 254:3 --sector 77480)" = 10 ]
# In 512-byte sectors of the mapped device; the document's dd wrote sector 100000 of the one below.
[ "$(count -m DM_EVENT --sector 77000-78000)" = 10 ]
status=0
veritrail search --trail trail -m URINGOP,OPENAT2 >/dev/null || status=$?
[ "$status" = 1 ] || { echo "dm records were taken for io_uring's: exit $status"; exit 1; }

# The log comes back as it was, and stock ausearch counts the same events in the trail, import record apart.
veritrail trail export trail --format raw | cmp - "$log"
if [ -x /usr/sbin/ausearch ]; then
    stock=$(/usr/sbin/ausearch -if trail/segments/00000000000000000000.log --raw | grep -c '^type=UNKNOWN')
    [ "$stock" = 17 ] || { echo "stock ausearch finds $stock of 17"; exit 1; }
fi
