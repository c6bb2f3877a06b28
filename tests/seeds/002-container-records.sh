# Seed 002: "audit: implement container identifier" (ghak90 V5), the records of its examples.
#
# Labelling tasks is a later capability; here the document's records are read. They are printed there as
# `ausearch -i` shows them, which is output only. So the log below is their raw form (auid and uid as numbers,
# res=1, stamps in seconds), and what is checked is that searching shows the document's lines again.
set -euo pipefail

cat >audit.log <<'LOG'
type=CONTAINER_OP msg=audit(1528288769.636:26949): op=set opid=2209 old-contid=18446744073709551615 contid=123456 pid=628 auid=0 uid=0 tty=ttyS0 ses=1 subj=unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023 comm="bash" exe="/usr/bin/bash" res=1
type=NETFILTER_PKT msg=audit(1552659373.369:244): mark=0x12345555 saddr=127.0.0.1 daddr=127.0.0.1 proto=1
type=CONTAINER_ID msg=audit(1552659373.369:244): contid=123452,123451
LOG
export TZ=UTC0

veritrail search -if audit.log -m container_op -i >op.txt
grep -qE 'op=set opid=2209 old-contid=(unset|18446744073709551615) contid=123456 pid=628 auid=root uid=root tty=ttyS0 ses=1 subj=\S+ comm=bash exe=/usr/bin/bash res=yes' op.txt || { cat op.txt; exit 1; }

# The document's own two commands, with -if in place of the running system's log.
veritrail search -if audit.log -i -m NETFILTER_PKT | grep mark=0x12345555 | grep -q 'saddr=127.0.0.1 daddr=127.0.0.1 proto=icmp'
veritrail search -if audit.log -i -m NETFILTER_PKT | grep contid= | grep 123451 | grep -q 123452

# Ours: every event of a container.
[ "$(veritrail search -if audit.log --contid 123451 --raw | wc -l)" = 2 ]
[ "$(veritrail search -if audit.log --contid 123456 --raw | wc -l)" = 1 ]
