# 20,000 events, and then so many that a small buffer does not hold them: what is stored and what the
# gaps say is what was sent.
#@ long: 6.12 6.1
#@ kernels: 6.12
#@ limit: 240
# One record for each event: nothing but SYSCALL.
for type in PROCTITLE EOE; do auditctl -a exclude,always -F "msgtype=$type"; done
echo 5 >/proc/sys/kernel/printk_ratelimit
auditctl -a always,exit -F arch=b64 -S write -F exe=/usr/bin/dd -k flood
flood() { dd if=/dev/zero of=/dev/null bs=1 count="$1" status=none; }
stored() { veritrail search --trail trail -k flood --raw -m SYSCALL | grep -c '^type=SYSCALL '; }
gaps() { { recorded type=VT_GAP source=audit || true; } | { grep -o ' records=[0-9]*' || true; } | awk -F= '{n += $2} END {print n + 0}'; }
all_of() { [ $(($(stored) + $(gaps))) = "$1" ]; }

agent
flood 20000
wait_for 60 all_of 20000
agent_stops
echo "stored $(stored), in gaps $(gaps)"
expect "sent = stored + gaps" 20000 $(($(stored) + $(gaps)))
veritrail trail verify trail

rm -rf trail
printf '[agent]\nsources = ["audit"]\naudit_buffer = 4096\n' >config
agent --config config
flood 20000
sleep 3
agent_stops
echo "with a small buffer: stored $(stored), in gaps $(gaps)"
expect "sent = stored + gaps" 20000 $(($(stored) + $(gaps)))
