"""device_set_qos_limit of the real binary: limits of a controller over all its disks and queues."""

import json
import os
import signal
import subprocess
import time

import pytest

from conftest import VHOSTD, connects, wait_for
from rpcclient import Rpc, RpcError

BENCH = os.path.join(os.path.dirname(VHOSTD), "vhostd-bench")
MIB = 1 << 20
needs_bench = pytest.mark.skipif(not os.path.exists(BENCH), reason="no vhostd-bench")


class Server:
    """A daemon and a client of it."""

    def __init__(self, start, room, *args):
        self.room = room
        path = os.path.join(room, "rpc")
        self.daemon = start("-r", path, "-S", room, "--cores", "2", *args)
        self.daemon.wait_listening(path)
        self.rpc = Rpc(path)

    def __call__(self, method, **params):
        return self.rpc.call(method, **params)

    def killed(self):
        """It is gone without an end, and its socket answers nobody any more."""
        self.daemon.kill()
        wait_for("the end of its socket", lambda: not connects(os.path.join(self.room, "rpc")))

    def limit(self, name, **limits):
        assert self("device_set_qos_limit", name=name, **limits) is True

    def limits(self, name):
        told = self("device_get_devices", name=name)[0]["assigned_rate_limits"]
        return {k: v for k, v in told.items() if v}

    def waiting(self, name):
        return self("device_get_devices", name=name)[0]["waiting_for_limits"]

    def done(self, name, op=None):
        """Operations and bytes that its disks have done, and when that was."""
        told = self("device_get_stats", name=name)
        ops = [o for d in told["devices"][0]["disks"] for k, o in d["operations"].items()
               if op in (None, k)]
        return sum(o["ops"] for o in ops), sum(o["bytes"] for o in ops), told["time_ns"]

    def rate(self, name, seconds=1.5, op=None):
        """Operations and bytes a second, in the time to come."""
        ops, size, at = self.done(name, op)
        time.sleep(seconds)
        ops2, size2, then = self.done(name, op)
        took = (then - at) / 1e9
        return (ops2 - ops) / took, (size2 - size) / took

    def keeps(self, name, op=None, ops=None, size=None):
        """Never more than the limit, and as much as that: a machine that is busy with other things
        may stand still for a while, which is not made up for."""
        for _ in range(8):
            rates = self.rate(name, op=op)
            rate, limit = (rates[0], ops) if ops else (rates[1], size)
            assert rate <= 1.05 * limit, rate
            if rate >= 0.95 * limit:
                return
        pytest.fail(f"{rate} a second, expected {limit}")

    def progress(self, name, count=200):
        at = self.done(name)[0]
        wait_for(f"{count} requests", lambda: self.done(name)[0] >= at + count)


class Load:
    """vhostd-bench on a device until it is ended."""

    def __init__(self, path, *args, rw="randrw", size=4096, seconds=60):
        wait_for("the disk", lambda: connects(path))
        self.process = subprocess.Popen(
            [BENCH, "--load", "--socket", path, "--queues", "2", "--qd", "16", "--rw", rw, "--bs",
             str(size), "--span", str(MIB), "--seconds", str(seconds), "--json", *args],
            stdout=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.kill()
        self.process.communicate()

    def end(self):
        out, _ = self.process.communicate(timeout=120)
        return json.loads(out)["server"]


# What there is on the command line: type and parameters, and how the client speaks to it.
KINDS = {
    "blk": ("blk,null=1G", []),
    "blk over vfio-user": ("blk,null=1G,transport=vfio-user", None),
    "scsi": ("scsi,target=0:null=1G,target=1:null=1G", ["--scsi"]),
    "nvme": ("nvme,ns=1:null=1G", ["--nvme"]),
    "nvme over vhost-user": ("nvme,ns=1:null=1G,transport=vhost-user", ["--nvme-vhost"]),
}
SERVED = [k for k, (_, args) in KINDS.items() if args is not None]


@pytest.fixture
def serve(start, room):
    """serve(device, *more): a server with a device d of the command line, at room/d."""
    def run(device, *more):
        kind, _, rest = device.partition(",")
        return Server(start, room, "--device", f"{kind},name=d,socket={room}/d,{rest}", *more)
    return run


@needs_bench
@pytest.mark.parametrize("kind", SERVED)
def test_operations_and_bytes_a_second_are_within_5_percent(serve, room, kind):
    device, args = KINDS[kind]
    server = serve(device)
    server.limit("d", rw_ios_per_sec=1000)
    with Load(f"{room}/d", *args, size=16384):
        server.progress("d")
        server.keeps("d", ops=1000)
        server.limit("d", rw_ios_per_sec=0, rw_mbytes_per_sec=8)
        server.progress("d", 600)
        server.keeps("d", size=8 * MIB)
        server.limit("d", rw_mbytes_per_sec=0, r_ios_per_sec=600, w_mbytes_per_sec=4)
        server.progress("d", 600)
        server.keeps("d", op="read", ops=600)


@needs_bench
@pytest.mark.parametrize("kind", SERVED)
def test_limits_come_change_and_go_under_load(serve, room, kind):
    device, args = KINDS[kind]
    server = serve(device)
    load = Load(f"{room}/d", *args, seconds=4)
    server.progress("d", 2000)
    for limit in (500, 100000, 0, 50000, 700, 0):
        server.limit("d", rw_ios_per_sec=limit)
        assert server.limits("d").get("rw_ios_per_sec", 0) == limit
        server.progress("d", 100)
        if limit and limit < 1000:
            wait_for("waiting requests", lambda: server.waiting("d") > 0)
    server.progress("d", 2000)
    assert server.waiting("d") == 0
    end = load.end()
    assert end["errors"] == 0 and end["ios"] > 0


@needs_bench
def test_a_burst_is_what_an_idle_device_saves_up(serve, room):
    server = serve("blk,null=1G,rw-iops=100,rw-iops-burst=1000")
    assert server.limits("d") == {"rw_ios_per_sec": 100, "rw_ios_burst": 1000}
    with Load(f"{room}/d", "--warmup", "0"):
        server.progress("d", 1000)
        server.keeps("d", ops=100)


@needs_bench
def test_all_units_and_queues_of_a_device_have_one_budget(serve, room):
    server = serve("scsi,target=0:null=1G,target=1:null=1G,connections=2")
    server.limit("d", rw_ios_per_sec=1000)
    with Load(f"{room}/d", "--scsi=0"), Load(f"{room}/d", "--scsi=1"):
        server.progress("d", 500)
        server.keeps("d", ops=1000)
        disks = server("device_get_stats", name="d")["devices"][0]["disks"]
        assert all(d["operations"] for d in disks)


@needs_bench
def test_two_controllers_of_one_bdev_are_limited_apart(start, room):
    server = Server(start, room)
    server("bdev_null_create", name="N", num_blocks=1 << 20, block_size=512)
    for name in "ab":
        server("vhost_create_blk_controller", ctrlr=name, dev_name="N")
    server.limit("a", rw_ios_per_sec=1000)
    with Load(f"{room}/a"):
        server.progress("a", 300)
        server.keeps("a", ops=1000)
        with Load(f"{room}/b"):
            at = server.done("b")[0]
            wait_for("b, which has no limit", lambda: server.done("b")[0] > at + 10000)
    server.limit("b", rw_ios_per_sec=500)
    with Load(f"{room}/a"), Load(f"{room}/b"):
        server.progress("b", 300)
        server.keeps("b", ops=1500)  # both, since it is one bdev
    assert server.limits("a") == {"rw_ios_per_sec": 1000}
    assert server.limits("b") == {"rw_ios_per_sec": 500}


@needs_bench
@pytest.mark.parametrize("kind", SERVED)
def test_a_front_end_that_goes_does_not_wait_and_pays(serve, room, kind):
    device, args = KINDS[kind]
    server = serve(device)
    server.limit("d", rw_ios_per_sec=2)
    with Load(f"{room}/d", *args):
        wait_for("requests that wait", lambda: server.waiting("d") >= 16)
        before = time.monotonic()
    wait_for("the end of the session",
             lambda: not server("device_get_devices", name="d")[0]["sessions"])
    assert time.monotonic() - before < 5
    assert server.waiting("d") == 0
    with Load(f"{room}/d", *args):  # what went too early is waited for now
        wait_for("requests that wait", lambda: server.waiting("d") > 0)
        at = server.done("d")[0]
        time.sleep(1)
        assert server.done("d")[0] <= at + 3
        server.limit("d", rw_ios_per_sec=0)
        server.progress("d")


@needs_bench
@pytest.mark.parametrize("kind, args", [("blk", []), ("scsi", ["--scsi"])])
def test_a_controller_is_drained_and_removed_while_requests_wait(start, room, kind, args):
    server = Server(start, room)
    server("bdev_malloc_create", name="M", num_blocks=4096, block_size=512)
    if kind == "blk":
        server("vhost_create_blk_controller", ctrlr="c", dev_name="M")
    else:
        server("vhost_create_scsi_controller", ctrlr="c")
        server("vhost_scsi_controller_add_target", ctrlr="c", scsi_target_num=0, bdev_name="M")
    server.limit("c", rw_ios_per_sec=2)
    with Load(f"{room}/c", *args):
        wait_for("requests that wait", lambda: server.waiting("c") >= 16)
        assert server("device_drain", name="c", timeout_ms=5000) is True
        assert server.waiting("c") == 0
        server("device_resume", name="c")
        wait_for("requests that wait", lambda: server.waiting("c") >= 16)
        server("bdev_swap", name="M", new_bdev=server(
            "bdev_malloc_create", name="New", num_blocks=4096, block_size=512))
        assert server("vhost_delete_controller", ctrlr="c") is True
    assert server("device_get_devices") == []
    assert server.daemon.process.poll() is None


@needs_bench
@pytest.mark.parametrize("kind", ["nvme", "nvme over vhost-user"])
def test_queues_of_nvme_are_drained_while_their_commands_wait(serve, room, kind):
    device, args = KINDS[kind]
    server = serve(device + ",rw-iops=2")
    with Load(f"{room}/d", *args):
        for _ in range(2):
            wait_for("requests that wait", lambda: server.waiting("d") >= 16)
            assert server("device_drain", name="d", timeout_ms=5000) is True
            assert server.waiting("d") == 0
            server("device_resume", name="d")


@needs_bench
def test_a_target_is_removed_while_its_requests_wait(start, room):
    server = Server(start, room)
    server("bdev_malloc_create", name="M", num_blocks=4096, block_size=512)
    server("vhost_create_scsi_controller", ctrlr="c")
    server("vhost_scsi_controller_add_target", ctrlr="c", scsi_target_num=0, bdev_name="M")
    server.limit("c", rw_ios_per_sec=20)
    with Load(f"{room}/c", "--scsi"):
        wait_for("requests that wait", lambda: server.waiting("c") >= 8)
        assert server("vhost_scsi_controller_remove_target", ctrlr="c", scsi_target_num=0) is True
        assert server.waiting("c") == 0
        assert server("bdev_malloc_delete", name="M") is True


@needs_bench
def test_a_listener_is_limited_and_its_subsystem_is_not(start, room):
    server, nqn = Server(start, room), "nqn.2026-01.io.spdk:c"
    os.mkdir(f"{room}/n")
    server("nvmf_create_transport", trtype="VFIOUSER")
    server("nvmf_create_subsystem", nqn=nqn, allow_any_host=True)
    server("bdev_null_create", name="N", num_blocks=1 << 20, block_size=512)
    server("nvmf_subsystem_add_ns", nqn=nqn, namespace={"bdev_name": "N"})
    server("nvmf_subsystem_add_listener", nqn=nqn,
           listen_address={"trtype": "VFIOUSER", "traddr": f"{room}/n"})
    with pytest.raises(RpcError) as e:
        server.limit(nqn, rw_ios_per_sec=5)
    assert "listener" in e.value.message
    names = [d["name"] for d in server("device_get_devices") if d["name"] != nqn]
    assert len(names) == 1
    server.limit(names[0], rw_ios_per_sec=1000)
    with Load(f"{room}/n/cntrl", "--nvme"):
        server.progress(nqn, 300)
        server.keeps(nqn, ops=1000)


@pytest.mark.parametrize("params, words", [
    ({"name": "x", "rw_ios_per_sec": 1}, ["name", "'x'"]),
    ({"name": "d"}, ["no limit"]),
    ({"name": "d", "r_ios_burst": 5}, ["r_ios_burst", "r_ios_per_sec"]),
    ({"name": "d", "rw_mbytes_per_sec": (1 << 20) + 1}, ["rw_mbytes_per_sec", "1048576"]),
    ({"name": "d", "iops": 1}, ["iops"]),
])
def test_what_is_no_limit_is_refused_and_named(serve, params, words):
    server = serve("blk,null=1G,w-iops=7")
    with pytest.raises(RpcError) as e:
        server("device_set_qos_limit", **params)
    assert all(w in e.value.message for w in words), e.value.message
    assert server.limits("d") == {"w_ios_per_sec": 7}


@pytest.mark.parametrize("text, words", [
    ("rw-iops-burst=5", ["rw-iops-burst", "rw-iops"]),
    ("w-bytes=2T", ["w-bytes", "1099511627776"]),
    ("r-iops=many", ["r-iops", "many"]),
])
def test_the_command_line_refuses_what_is_no_limit(refuse, room, text, words):
    said = refuse(2, "--device", f"blk,socket={room}/d,null=1G,{text}")
    assert all(w in said for w in words), said


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_kind_of_device_has_limits_of_the_command_line(serve, kind):
    server = serve(KINDS[kind][0] + ",rw-iops=2000,r-bytes=64M,r-bytes-burst=128M")
    assert server.limits("d") == {"rw_ios_per_sec": 2000, "r_mbytes_per_sec": 64,
                                  "r_mbytes_burst": 128}
    server.limit("d", rw_ios_per_sec=0, r_mbytes_per_sec=0)
    assert server.limits("d") == {}


def test_sighup_takes_limits_over(start, room):
    path = os.path.join(room, "c.json")

    def write(**limits):
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"devices": [{"type": "blk", "name": "d", "socket": f"{room}/d",
                                    "null": "1G", **limits}]}, f)
    write(**{"rw-iops": 100})
    server = Server(start, room, "--config", path)
    assert server.limits("d") == {"rw_ios_per_sec": 100}
    write(**{"r-iops": 50, "r-iops-burst": 10})
    server.daemon.process.send_signal(signal.SIGHUP)
    wait_for("the new limits",
             lambda: server.limits("d") == {"r_ios_per_sec": 50, "r_ios_burst": 10})
    assert "needs a restart" not in server.daemon.said()


def test_limits_are_of_the_state_and_go_with_their_device(start, room):
    line = ["--state", f"{room}/state"]
    shown = ["--device", f"blk,name=d,socket={room}/d,null=1G,rw-iops=100,w-iops=9", *line]
    server = Server(start, room, *shown)
    server("bdev_null_create", name="N", num_blocks=2048, block_size=512)
    server("vhost_create_blk_controller", ctrlr="c", dev_name="N")
    server.limit("c", r_ios_per_sec=70, r_ios_burst=3)
    server.limit("d", rw_ios_per_sec=0, w_mbytes_per_sec=5)
    config = server("framework_get_config", name="device")
    assert config == [
        {"method": "device_set_qos_limit",
         "params": {"name": "d", "rw_ios_per_sec": 0, "w_mbytes_per_sec": 5}},
        {"method": "device_set_qos_limit",
         "params": {"name": "c", "r_ios_per_sec": 70, "r_ios_burst": 3}}]
    server.killed()
    server = Server(start, room, *shown)
    assert server("framework_get_config", name="device") == config
    assert server.limits("d") == {"w_ios_per_sec": 9, "w_mbytes_per_sec": 5}
    assert server.limits("c") == {"r_ios_per_sec": 70, "r_ios_burst": 3}
    server.killed()
    server = Server(start, room, *line)  # without the device of the command line
    assert "limits of 'd' are forgotten" in server.daemon.said()
    assert server.limits("c") == {"r_ios_per_sec": 70, "r_ios_burst": 3}
    server("vhost_delete_controller", ctrlr="c")
    assert server("framework_get_config", name="device") == []
