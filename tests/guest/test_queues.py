"""Four queues, two processors, PCI: data checked by fio, discard, flush."""

import pytest

from guest import MIB, Q35, Qemu, Server, allocated, sparse

JOB = """
say queues $(ls /sys/block/vda/mq | wc -l)
say cache "$(cat /sys/block/vda/queue/write_cache)"

verify() {
	name=$1
	shift
	check "$name" fio --name=verify --filename=/dev/vda --direct=1 --ioengine=libaio \\
		--rw=randwrite --verify=crc32c --do_verify=1 --verify_fatal=1 "$@"
}
verify "mixed sizes" --size=48M --iodepth=32 --bsrange=512-128k
verify "small blocks" --size=2M --iodepth=64 --bs=512
verify "both processors" --numjobs=2 --size=16M --offset_increment=16M --iodepth=16 --bs=4k
verify "vectors" --size=8M --ioengine=pvsync --bs=64k

flushes() { awk '{ print $16 }' /sys/block/vda/stat; }
before=$(flushes)
check "flush" dd if=/dev/zero of=/dev/vda bs=4k count=1 conv=fsync
say flushes $(($(flushes) - before))

say "discard limit" $(cat /sys/block/vda/queue/discard_max_bytes)
noise /tmp/noise 33554432
dd if=/tmp/noise of=/dev/vda bs=1M seek=128 conv=fsync
await written
check "discard" blkdiscard -o 134217728 -l 33554432 /dev/vda
await discarded
check "zero out" blkdiscard -z -o 134217728 -l 1048576 /dev/vda
forget
say "bytes left" $(dd if=/dev/vda bs=1M skip=128 count=1 | tr -d '\\0' | wc -c)
"""


@pytest.fixture(scope="module")
def boot(room):
    disk = sparse(room + "/disk.img", 256 * MIB)
    with Server(room, disk, num_queues=4) as server:
        with Qemu(room, server, JOB, machine=Q35, cpus=2, num_queues=4, with_fio=True) as guest:
            guest.question("written", 120)
            guest.results["allocated when written"] = allocated(disk)
            guest.answer("written")
            guest.question("discarded")
            guest.results["allocated when discarded"] = allocated(disk)
            guest.answer("discarded")
            return guest.finish()


def test_a_guest_of_two_processors_uses_as_many_of_four_queues(boot):
    # virtio_blk takes no more queues than there are processors.
    assert boot["queues"] == "2"


@pytest.mark.parametrize("job", ["mixed sizes", "small blocks", "both processors", "vectors"])
def test_fio_reads_back_what_it_wrote(boot, job):
    boot.ok(job)


@pytest.mark.vhostd_only
def test_a_flush_reaches_the_disk_and_completes(boot):
    assert boot["cache"] == "write back"
    boot.ok("flush")
    assert int(boot["flushes"]) >= 1


def test_discard_gives_the_image_s_blocks_back(boot):
    boot.ok("discard")
    assert int(boot["discard limit"]) > 0
    freed = boot["allocated when written"] - boot["allocated when discarded"]
    assert freed >= 31 * MIB


def test_blocks_that_are_zeroed_out_read_as_zeroes(boot):
    boot.ok("zero out")
    assert boot["bytes left"] == "0"
