"""libblkio, by way of a newer QEMU's qemu-io: a front-end with no guest at all."""

import os
import subprocess

import pytest

from guest import MIB, PATIENCE, Server, allocated, sparse


@pytest.fixture(scope="module")
def qemu_io(sid):
    """Runs qemu-io commands on a server's disk; its output."""
    def run(server, *commands):
        argv = [os.path.join(sid, "qemu-io"), "--image-opts",
                "driver=virtio-blk-vhost-user,path=%s,cache.direct=on" % server.socket]
        for command in commands:
            argv += ["-c", command]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=60 * PATIENCE)
        assert done.returncode == 0 and "failed" not in done.stdout, done.stdout
        return done.stdout

    return run


@pytest.fixture(scope="module")
def disk(room):
    return sparse(room + "/disk.img", 64 * MIB)


@pytest.fixture(scope="module")
def server(room, disk):
    with Server(room, disk) as running:
        yield running


def test_libblkio_sees_a_disk_of_the_image_s_size(qemu_io, server):
    assert "64 MiB" in qemu_io(server, "length")


def test_patterns_written_through_libblkio_are_in_the_image_and_read_back(qemu_io, server, disk):
    qemu_io(server, "write -P 0x5a 1M 64k", "write -P 0xa5 512 512", "flush",
            "read -P 0x5a 1M 64k", "read -P 0xa5 512 512", "read -P 0 1024 512")
    with open(disk, "rb") as image:
        image.seek(512)
        assert image.read(512) == b"\xa5" * 512
        image.seek(MIB)
        assert image.read(65536) == b"\x5a" * 65536


def test_vectored_and_concurrent_requests_keep_their_places(qemu_io, server):
    qemu_io(server, "writev -P 1 2M 4k 8k 512 60k",
            *("aio_write -P %d %dk 16k" % (n, 4096 + 16 * n) for n in range(1, 33)), "aio_flush",
            "readv -P 1 2M 512 72k", *("read -P %d %dk 16k" % (n, 4096 + 16 * n)
                                           for n in range(1, 33)))


def test_discard_and_write_zeroes_through_libblkio_free_blocks_and_read_as_zeroes(
        qemu_io, server, disk):
    qemu_io(server, "write -P 7 16M 8M", "flush")
    before = allocated(disk)
    qemu_io(server, "discard 16M 4M", "write -z 20M 2M", "write -z -u 22M 2M", "flush",
            "read -P 0 16M 8M")
    assert before - allocated(disk) >= 5 * MIB


def test_the_next_connection_after_one_has_closed_works_like_the_first(qemu_io, server):
    for round_number in range(10):
        qemu_io(server, "write -P %d 32M 4k" % (round_number + 1),
                "read -P %d 32M 4k" % (round_number + 1))
