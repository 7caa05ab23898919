"""An NVMe disk for a guest whose memory QEMU cannot share: everything goes by messages.

QEMU 11 serves the server's DMA_READ and DMA_WRITE then; see src/nvme/ring_remote.c.
"""

import os

import pytest

from guest import MIB, Q35, NvmeServer, Qemu, sparse

pytestmark = pytest.mark.vhostd_only

JOB = """
check "namespace" eventually 60 nvme_disks 1
disk=$(nvme_disk 1)
say sectors $(cat /sys/block/${disk#/dev/}/size)
noise /tmp/noise 4194304
check "write" dd if=/tmp/noise of=$disk bs=64k oflag=direct
forget
check "read" cmp -n 4194304 /tmp/noise $disk
check "make ext4" mkfs.ext4 -q $disk
check "mount" mount -t ext4 $disk /mnt
noise /mnt/file 3000000
sha256sum /mnt/file >/tmp/sum
check "unmount" umount /mnt
forget
mount -t ext4 $disk /mnt
check "again" sha256sum -c /tmp/sum
umount /mnt
check "reset" nvme_reset
check "namespace after reset" eventually 10 nvme_disks 1
forget
check "check" e2fsck -fn $disk
"""


@pytest.mark.parametrize("doorbells", ["trapped", "mapped"])
def test_a_guest_whose_memory_has_no_descriptor_uses_its_disk(room, sid, doorbells):
    folder = os.path.join(room, doorbells)
    os.mkdir(folder)
    namespaces = {1: {"file": sparse(folder + "/disk.img", 64 * MIB)}}
    with NvmeServer(folder, namespaces, cores=1, doorbells=doorbells) as server:
        with Qemu(folder, server, JOB.replace("nvme_reset", "sh -c 'echo 1 "
                                              ">/sys/class/nvme/nvme0/reset_controller'"),
                  machine=Q35, sid=sid, memory="memory-backend-ram") as guest:
            results = guest.finish(180)
    assert results["sectors"] == "131072"
    results.ok("namespace", "write", "read", "make ext4", "mount", "unmount", "again", "reset",
               "namespace after reset", "check")
