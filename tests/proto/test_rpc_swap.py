"""device_swap and bdev_swap of the real binary: every disk gets another back-end while it is used."""

import os
import shutil

import pytest

from conftest import wait_for
from rpcclient import RpcError
from test_rpc_limits import KINDS, MIB, SERVED, Load, Server, needs_bench, serve  # noqa: F401

SIZE = 8 * MIB


def image(room, name, size=SIZE):
    path = os.path.join(room, name)
    with open(path, "wb") as f:
        f.truncate(size)
    return path


@needs_bench
@pytest.mark.parametrize("kind", SERVED)
@pytest.mark.parametrize("back", ["file", "ram", "null"])
def test_a_disk_of_the_command_line_gets_others_under_load(serve, room, kind, back):  # noqa: F811
    what = {"file": "file=" + image(room, "first"), "ram": f"ram={SIZE}", "null": f"null={SIZE}"}
    device, args = KINDS[kind]
    server = serve(device.replace("null=1G", what[back]))
    unit = {"scsi": {"unit": "0/0"}, "nvme": {"unit": "1"}}.get(kind, {})
    load = Load(f"{room}/d", *args, seconds=4)
    server.progress("d")
    for i in range(8):
        if i % 2:
            new = {"new_bdev": server("bdev_malloc_create", num_blocks=SIZE // 512,
                                      block_size=512)}
        else:
            new = {"filename": image(room, f"f{i}")}
        assert server("device_swap", name="d", **unit, **new) is True
        assert server("bdev_get_bdevs") == []
        server.progress("d")
    assert [f for f in server.daemon.files() if f.startswith(room) and "/f" in f] == []
    end = load.end()
    assert end["errors"] == 0 and end["ios"] > 0


@needs_bench
def test_limits_and_an_exchange_go_together(serve, room):  # noqa: F811
    server = serve(f"blk,ram={SIZE},rw-iops=400")
    with Load(f"{room}/d"):
        wait_for("requests that wait", lambda: server.waiting("d") > 0)
        server("device_swap", name="d", filename=image(room, "f"))
        server.keeps("d", ops=400)
        server.limit("d", rw_ios_per_sec=0)
        server("device_swap", name="d", filename=image(room, "g"))
        server.limit("d", rw_ios_per_sec=200)
        server.progress("d", 100)  # those that were under way do not count
        server.keeps("d", ops=200)


@needs_bench
@pytest.mark.parametrize("kind", SERVED)
def test_the_data_is_what_the_copy_has(serve, room, kind):  # noqa: F811
    device, args = KINDS[kind]
    first, copy = image(room, "first"), os.path.join(room, "copy")
    server = serve(device.split(",target=1")[0].replace("null=1G", "file=" + first))
    one = ["--queues", "1", "--verify", "--count", "256", *args]
    assert Load(f"{room}/d", *one, rw="write").end()["errors"] == 0
    shutil.copyfile(first, copy)
    with open(first, "rb") as f:
        assert any(f.read(MIB))
    with open(first, "r+b") as f:  # what is read from here on is not of the copy
        f.write(bytes(SIZE))
    assert server("device_swap", name="d", filename=copy) is True
    assert first not in server.daemon.files() and copy in server.daemon.files()
    assert Load(f"{room}/d", *one, rw="read").end()["errors"] == 0


@needs_bench
def test_a_larger_one_makes_the_disk_larger(serve, room):  # noqa: F811
    server = serve(f"blk,ram={SIZE}")
    with Load(f"{room}/d"):
        server.progress("d")
        server("device_swap", name="d", filename=image(room, "f", 2 * SIZE))
        assert server("device_get_devices", name="d")[0]["disks"][0]["size_bytes"] == 2 * SIZE
        with open(os.path.join(room, "f"), "r+b") as f:
            f.truncate(3 * SIZE)
        server("device_resize", name="d")
        assert server("device_get_devices", name="d")[0]["disks"][0]["size_bytes"] == 3 * SIZE


@needs_bench
@pytest.mark.parametrize("way", ["bdev_swap", "device_swap"])
def test_a_bdev_on_another_is_exchanged_and_lets_that_go(start, room, way):
    line = ["--state", f"{room}/state"]
    server = Server(start, room, *line)
    image(room, "f")
    for i, (kind, more) in enumerate([
            ("passthru", {"name": "P0"}), ("error", {}),
            ("delay", {"name": "P2", "avg_read_latency": 1, "p99_read_latency": 1,
                       "avg_write_latency": 1, "p99_write_latency": 1})]):
        base = server("bdev_malloc_create", name=f"B{i}", num_blocks=SIZE // 512, block_size=512)
        key = "base_name" if kind == "error" else "base_bdev_name"
        server(f"bdev_{kind}_create", **{key: base}, **more)
        name = "EE_B1" if kind == "error" else f"P{i}"
        server("vhost_create_blk_controller", ctrlr=f"c{i}", dev_name=name)
        server("bdev_set_qos_limit", name=name, rw_ios_per_sec=100000)
        with Load(f"{room}/c{i}"):
            server.progress(f"c{i}")
            if kind == "error":
                server("bdev_error_inject_error", name=name, io_type="read",
                       error_type="pending", num=3)
                server.progress(f"c{i}", 20)
            new = {"filename": image(room, f"f{i}")}
            if way == "bdev_swap":
                server(way, name=name, **new)
            else:
                server(way, name=f"c{i}", **new)
            server.progress(f"c{i}")
        assert server("bdev_get_bdevs", name=name)[0]["product_name"] == "AIO disk"
        assert server("bdev_get_bdevs", name=base)[0]["claimed"] is False
        assert server("bdev_malloc_delete", name=base) is True
    before = server("bdev_get_bdevs")
    assert [b["name"] for b in before] == ["P0", "EE_B1", "P2"]
    server.killed()
    server = Server(start, room, *line)
    assert server("bdev_get_bdevs") == before


@pytest.mark.parametrize("params, words", [
    ({"name": "x", "filename": "f"}, ["name", "'x'"]),
    ({"name": "d", "unit": "0/0"}, ["new_bdev", "filename"]),
    ({"name": "d", "filename": "f"}, ["unit", "2 disks"]),
    ({"name": "d", "unit": "7", "filename": "f"}, ["unit", "7"]),
    ({"name": "d", "unit": "0/0", "new_bdev": "tiny"}, ["less than"]),
    ({"name": "d", "unit": "0/0", "new_bdev": "N4k"}, ["block size"]),
    ({"name": "d", "unit": "0/0", "new_bdev": "used"}, ["used"]),
    ({"name": "d", "unit": "0/0", "filename": "/no/such"}, ["/no/such"]),
    ({"name": "c", "new_bdev": "used"}, ["another bdev"]),
])
def test_what_cannot_be_is_refused_and_changes_nothing(serve, room, params, words):  # noqa: F811
    server = serve(KINDS["scsi"][0])
    for name, block, size in (("tiny", 512, MIB), ("N4k", 4096, 2 << 30), ("used", 512, MIB)):
        server("bdev_null_create", name=name, num_blocks=size // block, block_size=block)
    server("vhost_create_blk_controller", ctrlr="c", dev_name="used")
    before = server("bdev_get_bdevs"), server("device_get_devices")
    with pytest.raises(RpcError) as e:
        server("device_swap", **params)
    assert all(w in e.value.message for w in words), e.value.message
    assert (server("bdev_get_bdevs"), server("device_get_devices")) == before
