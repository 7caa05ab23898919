"""The daemon is handed over to a new process, again and again, while a guest's fio writes and verifies

on its NVMe disk over vfio-user: no error, no reset, nothing wrong.
"""

import os

import pytest

from guest import MIB, Q35, NvmeServer, Qemu, sparse

pytestmark = pytest.mark.vhostd_only

HAND_OVERS = 3

JOB = """
check "disk" eventually 60 nvme_disks 1
disk=$(nvme_disk 1)
(while sleep 0.1; do echo "@@ writes = $(cat /sys/block/nvme*c*n*/stat | awk '{ print $5 }')"; done) &
check "verify" fio --name=verify --filename=$disk --direct=1 --ioengine=libaio --iodepth=32 --numjobs=2 \\
	--offset_increment=24M --rw=randwrite --bs=4k --size=24M --verify=crc32c --do_verify=1 --verify_fatal=1 \\
	--loops=2
kill %1
say "trouble" $(dmesg | grep -c -i "nvme.*\\(timeout\\|abort\\|reset\\|error\\)")
check "reset" sh -c 'echo 1 >/sys/class/nvme/nvme0/reset_controller'
check "disk after reset" eventually 30 nvme_disks 1
check "read" dd if=$disk of=/dev/null bs=1M count=8 iflag=direct
"""


@pytest.mark.parametrize("doorbells", ["trapped", "mapped"])
def test_a_guest_s_fio_notices_no_hand_over(room, sid, doorbells):
    folder = os.path.join(room, doorbells)
    os.mkdir(folder)
    how = {"machine": Q35, "cpus": 2, "with_fio": True, "sid": sid}
    with NvmeServer(folder, {1: {"file": sparse(folder + "/disk.img", 64 * MIB)}}, cores=2,
                    doorbells=doorbells) as server:
        with Qemu(folder, server, JOB, **how) as guest:
            for i in range(HAND_OVERS):
                guest.count("writes", 1000 * (i + 1), 120)
                print(server.hand_over())
            results = guest.finish(240)
    results.ok("disk", "verify", "reset", "disk after reset", "read")
    assert results["trouble"] == "0"
