"""vhostd is killed under I/O and started again; the guest goes on as if nothing had been."""

import pytest

from guest import MIB, Q35, Qemu, Server, sparse

JOB = """
# progress: completed writes, so that the host kills in the middle of them
(while sleep 0.1; do echo "@@ writes = $(awk '{ print $5 }' /sys/block/vda/stat)"; done) &
check "verify" fio --name=verify --filename=/dev/vda --direct=1 --ioengine=libaio --iodepth=16 \\
	--rw=randwrite --bs=4k --size=48M --verify=crc32c --do_verify=1 --verify_fatal=1
kill %1
"""


@pytest.mark.vhostd_only
@pytest.mark.parametrize("packed", ["off", "on"], ids=["split", "packed"])
def test_fio_finishes_without_error_when_the_server_is_killed_and_started_again(room, packed):
    disk = sparse(room + "/disk.img", 64 * MIB)
    with Server(room, disk) as server:
        with Qemu(room, server, JOB, machine=Q35, reconnect=True, packed=packed,
                  with_fio=True) as guest:
            for writes in (500, 4000):
                guest.count("writes", writes)
                server.kill()
                server.start()
            results = guest.finish(120)
    results.ok("verify")
