"""One guest with two controllers of one subsystem: Linux's native multipath, and ANA."""

import pytest

from guest import MIB, Q35, NvmeServer, Qemu, sparse

pytestmark = pytest.mark.vhostd_only

JOB = """
check "disk" eventually 30 nvme_disks 1
disk=$(nvme_disk 1)
two_paths() { [ $(ls -d /sys/block/nvme*c*n* | wc -l) = 2 ]; }
check "two paths" eventually 10 two_paths
nvme list-subsys
say controllers $(nvme list-subsys | grep -c ' live')
say subsystems $(nvme list-subsys | grep -c '^nvme-subsys')
say disks $(ls /sys/block | grep -c '^nvme[0-9]*n')
states() { cat /sys/block/nvme*c*n*/ana_state | sort | tr '\\n' ' '; }
say "states" "$(states)"
# io PATH: requests that this path served
served() { cat /sys/block/nvme*c$1n*/stat | awk '{ print $1 + $5 }'; }

busy() {
	fio --name=busy --filename=$disk --direct=1 --ioengine=libaio --iodepth=8 --bs=4k \\
		--rw=randwrite --size=8M --verify=crc32c --do_verify=1 --verify_fatal=1 \\
		--time_based --runtime=$1
}
busy 8 >/tmp/busy 2>&1 &
busy=$!
is() { [ "$(states)" = "$1 " ]; }
await changed
check "changed" eventually 10 is "inaccessible optimized"
before=$(served 0)
sleep 1
say "served by the inaccessible path" $(($(served 0) - before))
before=$(served 1)
sleep 1
say "served by the other path" $(($(served 1) - before))
await "changed back"
check "changed back" eventually 10 is "non-optimized optimized"
check "busy over changes" wait $busy

# One path is reset, the other goes on.
busy 3 >/tmp/busy 2>&1 &
busy=$!
for i in 1 2 3 4 5 6; do
	echo 1 >/sys/class/nvme/nvme1/reset_controller
	usleep 300000
done
check "busy over resets" wait $busy
check "still two paths" eventually 10 two_paths
"""


@pytest.fixture(scope="module", params=["linux 6.1", "recent linux"])
def told(request, room, sid):
    kernel = request.getfixturevalue("sid_kernel") if request.param == "recent linux" else None
    namespaces = {1: {"file": sparse(room + "/disk.img", 64 * MIB)}}
    with NvmeServer(room, namespaces, controllers=2, cores=2) as server:
        with Qemu(room, server, JOB, machine=Q35, cpus=2, with_fio=True, sid=sid, kernel=kernel,
                  parameters="nvme_core.multipath=Y") as guest:
            guest.question("changed", 60)
            server.ana[0] = "inaccessible"
            server.reload()
            guest.answer("changed")
            guest.question("changed back", 30)
            server.ana[0] = "non-optimized"
            server.reload()
            guest.answer("changed back")
            return guest.finish(60)


def test_two_controllers_are_two_paths_to_one_disk(told):
    told.ok("disk", "two paths")
    assert (told["controllers"], told["subsystems"], told["disks"]) == ("2", "1", "1")
    assert told["states"].split() == ["optimized", "optimized"]


def test_a_path_that_becomes_inaccessible_is_left_for_the_other(told):
    told.ok("changed", "changed back", "busy over changes")
    assert int(told["served by the inaccessible path"]) == 0
    assert int(told["served by the other path"]) > 0


def test_a_path_that_is_reset_loses_no_io(told):
    told.ok("busy over resets", "still two paths")
