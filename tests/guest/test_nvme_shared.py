"""Two guests on one NVMe subsystem fight over a namespace with reservations."""

import os

import pytest

from guest import MIB, Q35, NvmeServer, Qemu, sparse

pytestmark = pytest.mark.vhostd_only

# Type 3: write exclusive, registrants only (base 6.11). Each step waits for the host, which lets
# the guests go in turns.
COMMON = """
check "disk" eventually 30 nvme_disks 1
disk=$(nvme_disk 1)
# Set Features, Host Identifier (base 5.21.1.25)
head -c 7 /dev/zero >/tmp/zeroes
identify() {
	{ printf $1; cat /tmp/zeroes; } >/tmp/id
	nvme admin-passthru /dev/nvme0 -o 9 --cdw10=0x81 -l 8 -w -i /tmp/id
}
resv() { local verb=$1; shift; nvme resv-$verb $disk -n 1 "$@"; }
put() { echo "$1" | dd of=$disk bs=512 seek=8 conv=notrunc,sync,fsync; }
get() { dd if=$disk bs=512 skip=8 count=1 iflag=direct | head -n 1; }
"""

OWNER = COMMON + """
identify A
await register
check "register" resv register --nrkey=0xa --rrega=0 --cptpl=3
check "reserve" resv acquire --crkey=0xa --rtype=3 --racqa=0
check "write" put "from the owner"
await look
forget
say found "$(get)"
check "write when preempted" put "from the preempted"
# byte 8 of the page; reading takes it out (base 5.14.1.16)
say notified $(nvme get-log /dev/nvme0 --log-id=0x80 --log-len=64 -b | hexdump -v -e '1/1 "%d "' | cut -d' ' -f9)
check "register again" resv register --nrkey=0xa --rrega=0
check "write when registered" put "from the owner again"
"""

RIVAL = COMMON + """
identify B
await write
check "write unregistered" put "from the rival"
forget
say found "$(get)"
await register
check "release without a key" resv release --crkey=0xa --rtype=3 --rrela=0
check "register" resv register --nrkey=0xb --rrega=0
check "write registered" put "from the registered rival"
check "preempt" resv acquire --crkey=0xb --prkey=0xa --rtype=3 --racqa=1
nvme resv-report $disk -n 1
say registrants $(nvme resv-report $disk -n 1 | sed -n 's/^regctl *: *//p')
say holder $(nvme resv-report $disk -n 1 | sed -n 's/^ *rcsts *: *//p')
say keys $(nvme resv-report $disk -n 1 | sed -n 's/^ *rkey *: *//p')
await end
"""


@pytest.fixture(scope="module")
def told(room, sid):
    """(owner's results, rival's results) of the fight."""
    namespaces = {1: {"file": sparse(room + "/disk.img", 16 * MIB)}}
    for name in ("owner", "rival"):
        os.mkdir(os.path.join(room, name))
    with NvmeServer(room, namespaces, controllers=2) as server:
        how = {"machine": Q35, "with_fio": True, "sid": sid}
        with Qemu(room + "/owner", server, OWNER, sockets=server.sockets[:1], **how) as owner:
            with Qemu(room + "/rival", server, RIVAL, sockets=server.sockets[1:], **how) as rival:
                rival.question("write")
                owner.answer("register")
                owner.question("look")
                rival.answer("write")
                rival.answer("register")
                rival.question("end")
                owner.answer("look")
                owner_results = owner.finish()
                rival.answer("end")
                return owner_results, rival.finish()


def test_the_owner_of_a_reservation_writes(told):
    told[0].ok("disk", "register", "reserve", "write")


def test_a_guest_that_is_not_registered_reads_but_does_not_write(told):
    assert told[1]["write unregistered"].startswith("failed")
    assert told[1]["found"] == "from the owner"


def test_a_reservation_is_not_released_with_another_s_key(told):
    assert told[1]["release without a key"].startswith("failed")


def test_a_guest_that_registers_writes_and_takes_over(told):
    told[1].ok("register", "write registered", "preempt")
    assert told[1]["registrants"] == "1"
    assert told[1]["holder"] == "1"
    assert told[1]["keys"] in ("b", "0xb", "11")


def test_the_preempted_guest_does_not_write_until_it_registers_again(told):
    assert told[0]["found"] == "from the registered rival"
    assert told[0]["write when preempted"].startswith("failed")
    told[0].ok("register again", "write when registered")


def test_the_preempted_guest_finds_a_notification(told):
    assert told[0]["notified"] in ("1", "2", "3")
