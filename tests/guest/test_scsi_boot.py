"""SeaBIOS boots from a logical unit: firmware with a virtio-scsi driver of its own."""

import os

import pytest

from guest import MIB, Q35, Qemu, ScsiServer, sparse, tool

pytestmark = pytest.mark.vhostd_only

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bootsector.S")


@pytest.fixture(scope="module")
def boot_sector(room):
    names = room + "/boot.o", room + "/boot"
    tool("as", "--32", "-o", names[0], SOURCE)
    tool("ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", "-o", names[1], names[0])
    with open(names[1], "rb") as stream:
        return stream.read()


def bootable(path, sector, text):
    with open(sparse(path, 16 * MIB), "r+b") as disk:
        assert len(sector) == 512
        disk.write(sector + text + b"\0")
    return path


# The unit to boot from is not the first that the firmware finds.
@pytest.mark.parametrize("target", [0, 3])
def test_seabios_boots_from_the_target_that_it_is_told_to(room, boot_sector, target):
    units = {(t, 0): {"file": bootable("%s/disk%d" % (room, t), boot_sector, b"target %d" % t)}
             for t in (0, 1, 3)}
    with ScsiServer(room, units) as server:
        with Qemu(room, server, None, machine=Q35, boot_tpgt=target, bootindex=1) as guest:
            results = guest.finish(30)
    results.ok("booted")
    assert results["block"] == "target %d" % target
