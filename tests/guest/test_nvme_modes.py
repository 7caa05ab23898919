"""Ways in which Linux drives a controller that are not its usual one."""

import os

import pytest

from guest import MIB, Q35, NvmeServer, Qemu, sparse

pytestmark = pytest.mark.vhostd_only

JOB = """
check "disk" eventually 30 nvme_disks 1
disk=$(nvme_disk 1)
say interrupts $(grep nvme /proc/interrupts | grep -o 'MSI\\|IO-APIC' | sort -u)
say queues $(cat /sys/class/nvme/nvme0/queue_count)
verify() {
	name=$1
	shift
	check "$name" fio --name=verify --filename=$disk --direct=1 --rw=randwrite --size=2M \\
		--bsrange=512-128k --verify=crc32c --do_verify=1 --verify_fatal=1 "$@"
}
verify "fio" --ioengine=libaio --iodepth=32
verify "polled" --ioengine=pvsync2 --hipri
dd if=/dev/urandom of=$disk bs=4M count=2 oflag=direct
echo 1 >/sys/class/nvme/nvme0/reset_controller
verify "fio after a reset" --ioengine=libaio --iodepth=32
"""

MODES = {
    "the interrupt pin": ("pci=nomsi", {}),
    "the interrupt pin, mapped doorbells": ("pci=nomsi", {"doorbells": "mapped"}),
    "SGLs, polled queues": ("nvme.sgl_threshold=1 nvme.poll_queues=1", {}),
    "PRPs, queues of two entries, one vector, large blocks": ("nvme.sgl_threshold=0 nvme.io_queue_depth=2",
                                                  {"queue_size": 2, "block_size": 4096, "vectors": 1}),
    "one queue pair of many entries": ("nvme.io_queue_depth=4095",
                                       {"queue_size": 32768, "num_queues": 1}),
}


@pytest.mark.parametrize("mode", MODES)
def test_linux_uses(mode, room, sid):
    parameters, options = MODES[mode]
    options = dict(options)
    folder = os.path.join(room, str(list(MODES).index(mode)))
    os.mkdir(folder)
    namespace = {"file": sparse(folder + "/disk.img", 64 * MIB)}
    job = JOB
    if "block_size" in options:
        namespace["block-size"] = options.pop("block_size")
        job = JOB.replace("bsrange=512", "bsrange=4k")
    with NvmeServer(folder, {1: namespace}, cores=2, **options) as server:
        with Qemu(folder, server, job, machine=Q35, cpus=2, with_fio=True, sid=sid,
                  parameters=parameters) as guest:
            results = guest.finish(90)
    results.ok("disk", "fio", "polled", "fio after a reset")
    if "nomsi" in parameters:
        assert results["interrupts"] == "IO-APIC"
