# How soon a running agent names one of 10,000 files of an EROFS on dm-verity, and in how much memory.
#@ long: 6.12 6.1
#@ modules: erofs
#@ limit: 240
memory() { awk -v what="$1" '/^(VmHWM|RssAnon):/ {text = text " " $1 $2} END {print what ":" text " KiB"}' "/proc/$(agent_process agent)/status"; }

text=$(noise 0b 3300 | od -An -v -tx1 | tr -d ' \n')
for ((d = 100; d < 200; d++)); do
    mkdir -p "tree/$d"
    for ((f = 100; f < 200; f++)); do echo "file $d/$f $text" >"tree/$d/$f"; done
done
mkfs.erofs image tree >/dev/null
root=$(veritysetup format image hash | awk '/Root hash:/ {print $3}')
corrupt image $(($(where tree/173/142 image) + 1000))

agent
sleep 2
memory "idle"
veritysetup open "$(loop image -r)" many "$(loop hash -r)" "$root"
mkdir mnt
mount -t erofs -o ro /dev/mapper/many mnt
told 20 type=VT_DEVICE 'name="many"' state=activated
# It is listed ahead. How busy the machine is, meanwhile: some 100 ms where it is not.
sleep 5
memory "10,000 files listed"
began=${EPOCHREALTIME/./}
for ((n = 0; n < 20000; n++)); do :; done
pace=$(((${EPOCHREALTIME/./} - began) / 1000))
refuse "the file is bad" cat mnt/173/142 >/dev/null 2>&1
ended=${EPOCHREALTIME/./}
wait_for 60 grep -rqaF 'file="/173/142"' trail || { veritrail search --trail trail --raw | tail -20; false; }
took=$(((${EPOCHREALTIME/./} - ended) / 1000))
echo "10,000 files: in the trail $took ms after the read; a loop of 20,000 turns took $pace ms"
memory "one named"
told 5 type=VT_MOUNT "file=\"$PWD/mnt/173/142\""
agent_stops
