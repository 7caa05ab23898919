"""Two guests share a logical unit, and fight over it with persistent reservations."""

import os

import pytest

from guest import MIB, Qemu, ScsiServer, sparse

pytestmark = pytest.mark.vhostd_only

# Type 5: write exclusive, registrants only (SPC-5, 5.14.11). Each step waits for the host, which
# lets the guests go in turns.
COMMON = """
check "disk" eventually 20 scsi_disks 0,0
disk=$(scsi_disk 0 0)
pr() { sg_persist --out --prout-type=5 "$@" $disk; }
put() { echo "$1" | dd of=$disk bs=512 seek=8 conv=notrunc,sync,fsync; }
get() { dd if=$disk bs=512 skip=8 count=1 iflag=direct | head -n 1; }
"""

OWNER = COMMON + """
await register
check "register" pr --register --param-sark=0xa
check "reserve" pr --reserve --param-rk=0xa
check "write" put "from the owner"
await look
# The first command after the other guest took over is told why (SPC-5, 5.14.11.2.6).
forget
say found "$(get)"
check "write when preempted" put "from the preempted"
check "register again" pr --register --param-sark=0xa
check "write when registered" put "from the owner again"
"""

RIVAL = COMMON + """
await write
check "write unregistered" put "from the rival"
forget
say found "$(get)"
await register
check "release without a key" pr --release --param-rk=0xa
check "register" pr --register --param-sark=0xb
check "write registered" put "from the registered rival"
check "preempt" pr --preempt --param-rk=0xb --param-sark=0xa
say keys "$(sg_persist --in --read-keys $disk | grep -o '^ *0x.*' | tr '\\n' ' ')"
say holder "$(sg_persist --in --read-reservation $disk | grep -o 'Key=.*')"
await end
"""


@pytest.fixture(scope="module")
def told(room):
    """(owner's results, rival's results) of the fight."""
    units = {(0, 0): {"file": sparse(room + "/disk.img", 16 * MIB)}}
    for name in ("owner", "rival"):
        os.mkdir(os.path.join(room, name))
    with ScsiServer(room, units, connections=2) as server:
        with Qemu(room + "/owner", server, OWNER) as owner:
            with Qemu(room + "/rival", server, RIVAL) as rival:
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
    assert told[1]["keys"].split() == ["0xb"]
    assert told[1]["holder"] == "Key=0xb"


def test_the_preempted_guest_does_not_write_until_it_registers_again(told):
    assert told[0]["found"] == "from the registered rival"
    assert told[0]["write when preempted"].startswith("failed")
    told[0].ok("register again", "write when registered")
