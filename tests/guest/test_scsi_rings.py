"""SCSI over packed rings, and a server that is killed and started again under I/O."""

import pytest

from guest import MICROVM, MIB, Q35, Qemu, ScsiServer, sparse

pytestmark = pytest.mark.vhostd_only

# The features file has bit 0 first; 34 is VIRTIO_F_RING_PACKED (virtio 1.3, 6).
JOB = """
check "disk" eventually 20 scsi_disks 0,0
disk=$(scsi_disk 0 0)
say packed $(cut -c35 /sys/bus/virtio/devices/virtio0/features)
# progress: completed writes, so that the host kills in the middle of them
(while sleep 0.1; do
	echo "@@ writes = $(awk '{ print $5 }' /sys/block/${disk#/dev/}/stat)"
done) &
check "verify" fio --name=verify --filename=$disk --direct=1 --ioengine=libaio --iodepth=16 \\
	--rw=randwrite --bsrange=4k-64k --size=48M --verify=crc32c --do_verify=1 --verify_fatal=1
kill %1
"""


@pytest.fixture
def units(room):
    return {(0, 0): {"file": sparse(room + "/disk.img", 64 * MIB)}}


@pytest.mark.parametrize("machine", [MICROVM, Q35])
def test_a_guest_s_data_is_right_over_a_packed_ring(room, units, machine):
    with ScsiServer(room, units) as server:
        with Qemu(room, server, JOB, machine=machine, packed="on", with_fio=True) as guest:
            results = guest.finish()
    assert results["packed"] == "1"
    results.ok("disk", "verify")


# QEMU's vhost-user-scsi reconnects since 8.2, so Debian 12's does not.
@pytest.mark.parametrize("packed", ["off", "on"], ids=["split", "packed"])
def test_fio_finishes_without_error_when_the_server_is_killed_and_started_again(
        room, units, sid, packed):
    with ScsiServer(room, units) as server:
        with Qemu(room, server, JOB, machine=Q35, reconnect=True, packed=packed, with_fio=True,
                  sid=sid) as guest:
            for writes in (200, 800):
                guest.count("writes", writes)
                server.kill()
                server.start()
            results = guest.finish(120)
    results.ok("disk", "verify")
