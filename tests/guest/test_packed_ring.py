"""The packed ring instead of the split one, on both transports."""

import pytest

from guest import MICROVM, MIB, Q35, Qemu, Server, sparse

pytestmark = pytest.mark.vhostd_only

# The features file has bit 0 first; 34 is VIRTIO_F_RING_PACKED (virtio 1.3, 6).
JOB = """
say packed $(cut -c35 /sys/bus/virtio/devices/virtio0/features)
check "verify" fio --name=verify --filename=/dev/vda --direct=1 --ioengine=libaio --iodepth=32 \\
	--rw=randwrite --bsrange=512-128k --size=32M --verify=crc32c --do_verify=1 --verify_fatal=1
check "make" mkfs.ext4 -q /dev/vda
check "mount" mount /dev/vda /mnt
noise /mnt/file 8000000
sha256sum /mnt/file >/tmp/sum
umount /mnt
forget
mount /dev/vda /mnt
check "file again" sha256sum -c /tmp/sum
umount /mnt
"""


@pytest.mark.parametrize("machine", [MICROVM, Q35])
def test_a_guest_keeps_its_files_over_a_packed_ring(room, machine):
    disk = sparse(room + "/disk.img", 64 * MIB)
    with Server(room, disk) as server:
        with Qemu(room, server, JOB, machine=machine, packed="on", with_fio=True) as guest:
            results = guest.finish()
    assert results["packed"] == "1"
    results.ok("verify", "make", "mount", "file again")
