"""The daemon is handed over to a new process, again and again, while a guest's fio writes and verifies."""

import pytest

from guest import MIB, Q35, Qemu, Server, sparse

HAND_OVERS = 3

JOB = """
# progress: completed writes, so that each hand-over is in the middle of them
(while sleep 0.1; do echo "@@ writes = $(awk '{ print $5 }' /sys/block/vda/stat)"; done) &
check "verify" fio --name=verify --filename=/dev/vda --direct=1 --ioengine=libaio --iodepth=16 \\
	--rw=randwrite --bs=4k --size=48M --verify=crc32c --do_verify=1 --verify_fatal=1
kill %1
say "trouble" $(dmesg | grep -c -i "vda.*error\\|blocked for more")
"""


@pytest.mark.vhostd_only
@pytest.mark.parametrize("packed", ["off", "on"], ids=["split", "packed"])
def test_a_guest_s_fio_notices_no_hand_over(room, packed):
    disk = sparse(room + "/disk.img", 64 * MIB)
    with Server(room, disk, managed=True) as server:
        with Qemu(room, server, JOB, machine=Q35, packed=packed, with_fio=True) as guest:
            for i in range(HAND_OVERS):
                guest.count("writes", 1000 * (i + 1), 120)
                print(server.hand_over())
            results = guest.finish(240)
    results.ok("verify")
    assert results["trouble"] == "0"
