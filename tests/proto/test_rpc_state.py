"""What the management socket makes survives: --state, files of calls, --check-config, full disks."""

import json
import os
import random
import re
import resource
import signal
import subprocess
import threading
import time

import pytest

from conftest import TIMEOUT_S, VHOSTD, connects, wait_for
from rpcclient import Rpc, RpcError, methods

USAGE = 2
RUNTIME = 1
ENOSPC = 28
ROUNDS = int(os.environ.get("STATE_ROUNDS", "200"))
SEED = int(os.environ.get("STATE_SEED", "1"))
CONTROLLERS = int(os.environ.get("STATE_CONTROLLERS", "60"))


@pytest.fixture
def serve(room, start):
    """serve(*args, state="state"): a daemon whose sockets are in the room."""
    def run(*args, state="state", **popen):
        path = os.path.join(room, "rpc")
        saved = ["--state", os.path.join(room, state)] if state else []
        d = start("--rpc-socket", path, "-S", room, *saved, *args, cwd=room, **popen)
        d.wait_listening(path)
        return d
    return run


@pytest.fixture
def rpc(room):
    """rpc(method, **params): one call, on a connection of its own."""
    def call(method, **params):
        with Rpc(os.path.join(room, "rpc")) as client:
            return client.call(method, **params)
    return call


@pytest.fixture
def config(rpc):
    """config(): what framework_get_config tells of all parts."""
    def get():
        return {s["subsystem"]: rpc("framework_get_config", name=s["subsystem"])
                for s in rpc("framework_get_subsystems")}
    return get


def on_disk(room, name="state"):
    """The calls in the state file, in order."""
    with open(os.path.join(room, name), encoding="utf-8") as f:
        return [c for s in json.load(f)["subsystems"] for c in s["config"]]


def write(room, value, name="c.json"):
    path = os.path.join(room, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(value if isinstance(value, str) else json.dumps(value, indent=1))
    return path


def calls(section, *rows):
    """A file of calls with one section; a row is (method, params)."""
    return {"subsystems": [{"subsystem": section,
                            "config": [{"method": m, "params": p} for m, p in rows]}]}


def null(name="N0", **more):
    return ("bdev_null_create", {"name": name, "block_size": 512, "num_blocks": 2048, **more})


# Everything there is to make: (method, params); "@" is the room.
EVERYTHING = [
    null("Null0"), null("Null1"), null("Null2"), null("Null3"), null("Null4"), null("Null5"),
    null("Null6"), null("Null7"), null("Null8"), null("Null9"),
    ("bdev_malloc_create", {"name": "Malloc0", "block_size": 4096, "num_blocks": 256}),
    ("bdev_aio_create", {"name": "Aio0", "filename": "@/disk", "block_size": 512}),
    ("bdev_uring_create", {"name": "Uring0", "filename": "@/disk2"}),
    ("bdev_passthru_create", {"name": "Pass0", "base_bdev_name": "Null0"}),
    ("bdev_delay_create", {"name": "Delay0", "base_bdev_name": "Null1", "avg_read_latency": 1,
                           "p99_read_latency": 2, "avg_write_latency": 3,
                           "p99_write_latency": 4}),
    ("bdev_error_create", {"base_name": "Null2"}),
    ("bdev_split_create", {"base_bdev": "Malloc0", "split_count": 2}),
    ("bdev_passthru_create", {"name": "OnPart", "base_bdev_name": "Malloc0p0"}),
    ("bdev_set_qos_limit", {"name": "Null3", "rw_ios_per_sec": 20000}),
    ("bdev_set_incomplete", {"name": "OnPart", "incomplete": True, "reason": "copy of Null0"}),
    ("vhost_create_blk_controller", {"ctrlr": "vhost.0", "dev_name": "Null3"}),
    ("vhost_create_blk_controller", {"ctrlr": "vhost.1", "dev_name": "Null9",
                                     "readonly": True, "packed_ring": False,
                                     "cpumask": "0x1"}),
    ("vhost_create_blk_controller", {"ctrlr": "vhost.2", "dev_name": "Aio0"}),
    ("device_set_qos_limit", {"name": "vhost.1", "r_ios_per_sec": 7, "w_mbytes_per_sec": 3}),
    ("vhost_controller_set_coalescing", {"ctrlr": "vhost.0", "delay_base_us": 32,
                                         "iops_threshold": 60000}),
    ("vhost_create_scsi_controller", {"ctrlr": "scsi.0"}),
    ("vhost_scsi_controller_add_target", {"ctrlr": "scsi.0", "scsi_target_num": 2,
                                          "bdev_name": "Null4"}),
    ("vhost_create_nvme_controller", {"ctrlr": "nvme.0", "io_queues": 4}),
    ("vhost_nvme_controller_add_ns", {"ctrlr": "nvme.0", "bdev_name": "Null5"}),
    ("nvmf_create_transport", {"trtype": "VFIOUSER"}),
    ("nvmf_create_subsystem", {"nqn": "nqn.2019-07.io.spdk:cnode0", "allow_any_host": True,
                               "serial_number": "SPDK0"}),
    ("nvmf_subsystem_add_ns", {"nqn": "nqn.2019-07.io.spdk:cnode0",
                               "namespace": {"bdev_name": "Null6"}}),
    ("nvmf_subsystem_add_host", {"nqn": "nqn.2019-07.io.spdk:cnode0", "host": "nqn.host"}),
    ("nvmf_subsystem_add_listener", {"nqn": "nqn.2019-07.io.spdk:cnode0",
                                     "listen_address": {"trtype": "VFIOUSER",
                                                        "traddr": "@/vfu"},
                                     "ana_state": "non_optimized"}),
    ("nvmf_subsystem_listener_set_ana_state", {"nqn": "nqn.2019-07.io.spdk:cnode0",
                                               "listen_address": {"trtype": "VFIOUSER",
                                                                  "traddr": "@/vfu"},
                                               "ana_state": "inaccessible"}),
    ("vfu_tgt_set_base_path", {"path": "@"}),
    ("vfu_virtio_create_blk_endpoint", {"name": "vfu.blk", "bdev_name": "Null7"}),
    ("vfu_virtio_create_scsi_endpoint", {"name": "vfu.scsi"}),
    ("vfu_virtio_scsi_add_target", {"name": "vfu.scsi", "scsi_target_num": 0,
                                    "bdev_name": "Null8"}),
]


def in_room(room, value):
    return json.loads(json.dumps(value).replace("@", room))


@pytest.fixture
def everything(room, rpc, image):
    """Makes all of it; what is not in this build is left out."""
    def make():
        image("disk")
        image("disk2")
        os.makedirs(os.path.join(room, "vfu"), exist_ok=True)
        there = set(rpc("rpc_get_methods"))
        for method, params in in_room(room, EVERYTHING):
            if method in there:
                rpc(method, **params)
        return there
    return make


def end(d, room, signo=signal.SIGTERM):
    """Ends it, and waits until the kernel, too, has done with a killed one's sockets."""
    d.end(signo)
    wait_for("the end of its socket", lambda: not connects(os.path.join(room, "rpc")))


def all_sockets(room):
    return sorted(os.path.relpath(os.path.join(folder, f), room)
                  for folder, _, files in os.walk(room) for f in files
                  if os.path.exists(os.path.join(folder, f))
                  and os.stat(os.path.join(folder, f)).st_mode & 0o170000 == 0o140000)


# ---- a restart ----

@pytest.mark.parametrize("signo", [signal.SIGTERM, signal.SIGKILL])
def test_everything_is_there_again_after_a_restart(serve, room, rpc, config, everything, signo):
    d = serve()
    everything()
    before, sockets, bdevs = config(), all_sockets(room), rpc("bdev_get_bdevs")
    controllers = rpc("vhost_get_controllers")
    end(d, room, signo)
    serve()
    assert config() == before
    assert all_sockets(room) == sockets
    assert [b["uuid"] for b in rpc("bdev_get_bdevs")] == [b["uuid"] for b in bdevs]
    assert rpc("vhost_get_controllers") == controllers
    assert [c for part in before.values() for c in part] == on_disk(room)


def test_with_wait_for_rpc_it_is_restored_at_framework_start_init(serve, room, rpc, config):
    d = serve()
    rpc(null()[0], **null()[1])
    rpc("vhost_create_blk_controller", ctrlr="vm1", dev_name="N0")
    before = config()
    d.end()
    serve("--wait-for-rpc")
    assert not connects(os.path.join(room, "vm1"))
    assert config()["bdev"] != before["bdev"]
    rpc("framework_start_init")
    assert config() == before and connects(os.path.join(room, "vm1"))


def test_what_was_deleted_stays_away(serve, room, rpc, config):
    d = serve()
    rpc(null()[0], **null()[1])
    rpc("vhost_create_blk_controller", ctrlr="vm1", dev_name="N0")
    rpc("vhost_delete_controller", ctrlr="vm1")
    d.end()
    d = serve()
    assert [b["name"] for b in rpc("bdev_get_bdevs")] == ["N0"]
    assert rpc("vhost_get_controllers") == [] and not connects(os.path.join(room, "vm1"))
    rpc("bdev_null_delete", name="N0")
    d.end()
    serve()
    assert rpc("bdev_get_bdevs") == []


def test_what_is_written_can_be_read_with_c_and_checked(serve, room, rpc, config, everything,
                                                        refuse):
    d = serve()
    everything()
    before = config()
    d.end()
    assert "no fault found" in refuse(0, "--check-config", os.path.join(room, "state"), cwd=room)
    serve("-c", os.path.join(room, "state"), state=None)
    assert config() == before


def test_sighup_leaves_what_the_socket_made(serve, room, rpc):
    d = serve("--device", "blk,name=a,socket=a.sock,ram=1M")
    rpc(null()[0], **null()[1])
    rpc("vhost_create_blk_controller", ctrlr="vm1", dev_name="N0")
    d.process.send_signal(signal.SIGHUP)
    assert rpc("vhost_get_controllers", name="vm1")
    assert connects(os.path.join(room, "vm1")) and connects(os.path.join(room, "a.sock"))
    d.end()
    serve("--device", "blk,name=a,socket=a.sock,ram=1M")
    assert rpc("vhost_get_controllers", name="vm1")


def test_sighup_tells_that_changed_calls_of_a_file_are_not_run(serve, room, rpc):
    path = write(room, calls("bdev", null("A")))
    d = serve("-c", path, state=None)
    d.process.send_signal(signal.SIGHUP)
    assert rpc("spdk_get_version") and "calls have changed" not in d.said()
    write(room, calls("bdev", null("A"), null("B")))
    d.process.send_signal(signal.SIGHUP)
    wait_for("a line about it", lambda: "c.json: its calls have changed" in d.said())
    assert [b["name"] for b in rpc("bdev_get_bdevs")] == ["A"]


def test_two_daemons_cannot_have_one_file(serve, room, refuse):
    serve()
    said = refuse(RUNTIME, "--state", os.path.join(room, "state"), "--no-rpc", cwd=room)
    assert "another process has it" in said


def test_a_name_that_is_made_is_none_of_what_was_restored(serve, rpc):
    d = serve()
    made = [rpc("bdev_malloc_create", num_blocks=8, block_size=512) for _ in range(3)]
    rpc("bdev_malloc_delete", name="Malloc1")
    d.end()
    serve()
    made = [rpc("bdev_malloc_create", num_blocks=8, block_size=512) for _ in range(2)]
    assert made == ["Malloc1", "Malloc3"]


# ---- the command line and the state together ----

def test_what_the_command_line_makes_is_not_saved(serve, room, rpc):
    path = write(room, calls("bdev", null("FromFile")))
    serve("--device", "blk,name=a,socket=a.sock,ram=1M", "-c", path)
    rpc("bdev_null_create", name="FromRpc", block_size=512, num_blocks=8)
    assert [c["params"]["name"] for c in on_disk(room) if "name" in c["params"]] == ["FromRpc"]


def test_a_disk_of_the_command_line_may_be_a_bdev_of_the_state(serve, room, rpc):
    d = serve()
    rpc(null()[0], **null()[1])
    d.end()
    d = serve("--device", "blk,name=a,socket=a.sock,bdev=N0")
    assert connects(os.path.join(room, "a.sock"))


@pytest.mark.parametrize("args", [["--device", "blk,name=vm1,socket=x.sock,ram=1M"],
                                  ["-c", "c.json"]])
def test_a_name_of_both_is_an_error_that_names_both(serve, room, rpc, refuse, args):
    write(room, calls("vhost_blk", ("vhost_create_blk_controller",
                                    {"ctrlr": "vm1", "dev_name": "N0"})))
    d = serve()
    rpc(null()[0], **null()[1])
    rpc("vhost_create_blk_controller", ctrlr="vm1", dev_name="N0")
    d.end()
    with open(os.path.join(room, "state"), encoding="utf-8") as f:
        before = f.read()
    said = refuse(RUNTIME, "--state", "state", "--no-rpc", *args, cwd=room)
    for word in ["state:", "vm1", "c.json:" if args[0] == "-c" else "--device 1"]:
        assert word in said, said
    assert not [s for s in all_sockets(room) if s != "rpc"]
    with open(os.path.join(room, "state"), encoding="utf-8") as f:
        assert f.read() == before


# ---- files of calls ----

# As SPDK's save_config writes it: parts that mean nothing here, and options of what is not there.
SPDK_FILE = {"subsystems": [
    {"subsystem": "keyring", "config": []},
    {"subsystem": "iobuf", "config": [{"method": "iobuf_set_options", "params": {
        "small_pool_count": 8192, "large_pool_count": 1024, "small_bufsize": 8192,
        "large_bufsize": 135168, "enable_numa": False}}]},
    {"subsystem": "sock", "config": [{"method": "sock_set_default_impl",
                                      "params": {"impl_name": "posix"}}]},
    {"subsystem": "vmd", "config": []},
    {"subsystem": "accel", "config": [{"method": "accel_set_options", "params": {
        "small_cache_size": 128}}]},
    {"subsystem": "bdev", "config": [
        {"method": "bdev_set_options", "params": {
            "bdev_io_pool_size": 65535, "bdev_io_cache_size": 256, "bdev_auto_examine": True,
            "iobuf_small_cache_size": 128, "iobuf_large_cache_size": 16}},
        {"method": "bdev_raid_set_options", "params": {
            "process_window_size_kb": 1024, "process_max_bandwidth_mb_sec": 0}},
        {"method": "bdev_nvme_set_options", "params": {"action_on_timeout": "none"}},
        {"method": "bdev_nvme_set_hotplug", "params": {"period_us": 100000, "enable": False}},
        {"batch": [
            {"method": "bdev_malloc_create", "params": {
                "name": "Malloc0", "num_blocks": 131072, "block_size": 512,
                "physical_block_size": 512, "uuid": "8d7e6a35-d1a0-4ba5-a4ce-9ae0bbad4cbf",
                "optimal_io_boundary": 0, "md_size": 0, "dif_type": 0,
                "dif_is_head_of_md": False, "dif_pi_format": 0}},
            {"method": "bdev_null_create", "params": {
                "name": "Null0", "num_blocks": 2048, "block_size": 512,
                "physical_block_size": 512, "md_size": 0, "dif_type": 0,
                "dif_is_head_of_md": False, "dif_pi_format": 0,
                "uuid": "1d7e6a35-d1a0-4ba5-a4ce-9ae0bbad4cbf"}}]},
        {"method": "bdev_wait_for_examine"},
        {"method": "framework_wait_init"}, {"method": "framework_start_init"}]},
    {"subsystem": "vhost_blk", "config": [
        {"method": "vhost_create_blk_controller", "params": {
            "ctrlr": "vhost.0", "dev_name": "Malloc0", "cpumask": "1", "readonly": False,
            "transport": "vhost_user_blk"}},
        {"method": "vhost_controller_set_coalescing", "params": {
            "ctrlr": "vhost.0", "delay_base_us": 32, "iops_threshold": 60000}},
        {"method": "vhost_create_blk_controller", "params": {
            "ctrlr": "vhost.1", "dev_name": "Null0", "cpumask": "1", "readonly": True,
            "transport": "vhost_user_blk"}}]},
    {"subsystem": "nbd", "config": []},
    {"subsystem": "scsi", "config": None},
    {"subsystem": "vhost_scsi", "config": []},
]}


def test_spdks_save_config_is_run_before_any_socket_is_there(serve, room, rpc, refuse):
    path = write(room, SPDK_FILE)
    assert "no fault found" in refuse(0, "--check-config", path, cwd=room)
    d = serve("-c", path, state=None)
    assert [c["ctrlr"] for c in rpc("vhost_get_controllers")] == ["vhost.0", "vhost.1"]
    assert rpc("bdev_get_bdevs", name="Malloc0")[0]["uuid"] == \
        "8d7e6a35-d1a0-4ba5-a4ce-9ae0bbad4cbf"
    assert re.search(r"c\.json:\d+: subsystem 'accel': there is none here", d.said())
    assert "bdev_raid_set_options" in d.said()


BROKEN = [
    ({"subsystems": {}}, ["c.json:2", "subsystems", "array"]),
    ({"subsystems": [], "x": 1}, ["c.json:3", "x", "unknown key"]),
    ({"subsystems": [{"subsystem": "bdev", "config": [1]}]}, ["c.json:6", "config[0]", "object"]),
    (calls("bdev", ("bdev_no_such_thing", {})), ["bdev_no_such_thing", "no such method"]),
    (calls("bdev", null(), null("N1", colour=1)), ["c.json:20", "bdev_null_create", "colour"]),
    (calls("bdev", ("bdev_null_create", {"name": "N", "block_size": 512})),
     ["bdev_null_create", "num_blocks"]),
    (calls("bdev", null(), null()), ["bdev_null_create", "N0"]),
    (calls("bdev", ("bdev_aio_create", {"name": "A", "filename": "nowhere"})),
     ["bdev_aio_create", "nowhere"]),
    ('{"subsystems": [\n{"subsystem": "bdev", "config": [}', ["c.json:2"]),
]


@pytest.mark.parametrize("value, words", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_file_is_named_by_check_and_start_and_leaves_nothing(refuse, room, value, words):
    path = write(room, value)
    said = refuse(USAGE, "--check-config", path, cwd=room)
    for word in words:
        assert word in said, said
    r = subprocess.run([VHOSTD, "-c", path, "--rpc-socket", "rpc", "-S", "."], cwd=room, text=True,
                       capture_output=True, timeout=TIMEOUT_S, check=False)
    assert r.returncode in (USAGE, RUNTIME), r.stderr
    assert re.search(r"c\.json:\d+", r.stderr), r.stderr
    assert os.listdir(room) == ["c.json"]


def test_a_file_may_come_through_a_pipe(serve, room, rpc):
    out, into = os.pipe()
    os.write(into, json.dumps(calls("bdev", null())).encode())
    os.close(into)
    serve("-c", f"/dev/fd/{out}", state=None, pass_fds=[out])
    os.close(out)
    assert [b["name"] for b in rpc("bdev_get_bdevs")] == ["N0"]


def test_a_call_that_fails_in_the_middle_leaves_nothing(refuse, room):
    path = write(room, {"subsystems": [
        calls("bdev", null())["subsystems"][0],
        calls("vhost_blk", ("vhost_create_blk_controller", {"ctrlr": "ok", "dev_name": "N0"}),
              ("vhost_create_blk_controller", {"ctrlr": "no", "dev_name": "N9"}))["subsystems"][0],
    ]})
    said = refuse(RUNTIME, "-c", path, "--rpc-socket", "rpc", "-S", ".", cwd=room)
    assert "vhost_create_blk_controller" in said and "N9" in said and "c.json:" in said
    assert os.listdir(room) == ["c.json"]


def test_errors_can_be_gone_on_without(serve, room, rpc):
    path = write(room, calls("bdev", null("A"), ("bdev_no_such_thing", {}), null("B")))
    d = serve("-c", path, "--json-ignore-init-errors", state=None)
    assert [b["name"] for b in rpc("bdev_get_bdevs")] == ["A", "B"]
    assert "bdev_no_such_thing" in d.said()


def test_what_could_not_be_restored_stays_in_the_file(serve, room, rpc, image):
    d = serve()
    image("disk")
    rpc("bdev_aio_create", name="Gone", filename=os.path.join(room, "disk"), block_size=512)
    rpc(null()[0], **null()[1])
    d.end()
    os.unlink(os.path.join(room, "disk"))
    d = serve("--json-ignore-init-errors")
    assert "Gone" not in [b["name"] for b in rpc("bdev_get_bdevs")]
    rpc("bdev_null_create", name="More", block_size=512, num_blocks=8)
    d.end()
    image("disk")
    serve()
    assert sorted(b["name"] for b in rpc("bdev_get_bdevs")) == ["Gone", "More", "N0"]


# ---- --check-config of our own form ----

@pytest.mark.parametrize("devices, words", [
    ([{"type": "blk", "socket": "s", "ram": "1M"}], None),
    ([{"type": "blk", "socket": "s", "file": "nowhere"}], ["c.json:3", "devices[0]", "nowhere"]),
    ([{"type": "blk", "socket": "no/s", "ram": "1M"}], ["devices[0]", "socket", "no folder no"]),
    ([{"type": "blk", "socket": "s", "ram": "1M"}, {"type": "blk", "socket": "s", "ram": "1M"}],
     ["devices[1]", "devices[0]", "socket"]),
    ([{"type": "blk", "socket": "s", "ram": "1M", "num-queues": 0}],
     ["c.json:7", "num-queues", "1..256"]),
    ([{"type": "blk", "socket": "s", "ram": "1M", "null": "1M"}], ["c.json:3", "devices[0]"]),
])
def test_our_own_form_is_checked_without_a_socket(refuse, room, devices, words):
    path = write(room, {"devices": devices})
    said = refuse(USAGE if words else 0, "--check-config", path, cwd=room)
    for word in words or ["1 devices", "no fault"]:
        assert word in said, said
    assert os.listdir(room) == ["c.json"]


# ---- changes and crashes ----

def test_every_change_that_was_answered_survives_kill_9(room, start):
    """A stream of changes from two clients; the oracle is what was answered."""
    rng = random.Random(SEED)
    path, state = os.path.join(room, "rpc"), os.path.join(room, "state")
    sure, maybe = set(), {}  # what must be there; name -> asked for without an answer
    for turn in range(ROUNDS):
        d = start("--rpc-socket", path, "-S", room, "--state", state, "--cores", "1", cwd=room)
        d.wait_listening(path)
        with Rpc(path) as rpc:
            there = {b["name"] for b in rpc.call("bdev_get_bdevs")}
            vhost = {c["ctrlr"] for c in rpc.call("vhost_get_controllers")}
        known = {n for n in there if n.startswith("N")} | vhost
        assert sure - set(maybe) <= known, (turn, SEED, sure - known)
        assert known <= sure | set(maybe), (turn, SEED, known - sure)
        assert all("N" + c[1:] in there for c in vhost), "a controller without its disk"
        sure, maybe = known, {}
        stop = threading.Timer(rng.uniform(0.001, 0.03), d.process.kill)

        def work(part, rng=random.Random(rng.random())):
            try:
                with Rpc(path) as rpc:
                    for _ in range(100):
                        change(rpc, part, rng)
            except (EOFError, OSError):
                pass

        def change(rpc, part, rng):
            n = f"{part}{rng.randrange(6)}"
            disk, ctrlr = "N" + n, "C" + n
            if ctrlr in sure:
                name, call, makes = ctrlr, ("vhost_delete_controller", {"ctrlr": ctrlr}), False
            elif disk in sure and rng.random() < 0.5:
                name, makes = ctrlr, True
                call = ("vhost_create_blk_controller", {"ctrlr": ctrlr, "dev_name": disk})
            elif disk in sure:
                name, call, makes = disk, ("bdev_null_delete", {"name": disk}), False
            else:
                name, call, makes = disk, null(disk), True
            maybe[name] = makes
            rpc.call(call[0], **call[1])
            del maybe[name]
            (sure.add if makes else sure.discard)(name)

        workers = [threading.Thread(target=work, args=(p,)) for p in "ab"]
        for w in workers:
            w.start()
        stop.start()
        for w in workers:
            w.join()
        stop.cancel()
        end(d, room, signal.SIGKILL)


def test_every_method_that_is_saved_is_refused_without_room_and_no_other_is(serve, room):
    """All that `vhostd --help-rpc` lists: what changes the state cannot slip past the check."""
    serve(env={**os.environ, "VHOSTD_FAULT": f"state-spare={ENOSPC}"})
    all_methods = [m for m in methods().values() if not m.startup]
    assert sum(m.saves for m in all_methods) > 40
    with Rpc(os.path.join(room, "rpc")) as client:
        for m in all_methods:
            try:
                client.call(m.name, no_such_parameter=1)
                said = ""
            except RpcError as e:
                said = e.message
            assert ("nothing was changed" in said) == m.saves, (m.name, said)
            assert ("no_such_parameter" in said or "requires no parameters" in said) != m.saves, \
                (m.name, said)


def test_many_changes_share_a_writing(serve, room, rpc):
    serve()
    with Rpc(os.path.join(room, "rpc")) as client:
        client.send(b"".join(json.dumps({"jsonrpc": "2.0", "id": i, "method": null()[0],
                                         "params": null(f"N{i}")[1]}).encode()
                             for i in range(60)))
        assert all("result" in client.answer() for _ in range(60))
    assert [c["params"]["name"] for c in on_disk(room) if "name" in c["params"]] == \
        [f"N{i}" for i in range(60)]


def test_every_change_that_was_answered_survives_sigterm(serve, room):
    for turn in range(5):
        d = serve(state=f"state{turn}")
        with Rpc(os.path.join(room, "rpc")) as client:
            client.send(b"".join(json.dumps({"jsonrpc": "2.0", "id": i, "method": null()[0],
                                             "params": null(f"N{i}")[1]}).encode()
                                 for i in range(200)))
            first = client.answer()
            d.process.send_signal(signal.SIGTERM)
            answers = [first]
            try:
                while True:
                    answers.append(client.answer())
            except (EOFError, OSError):
                pass
        assert d.process.wait(TIMEOUT_S) == 0
        made = {a["result"] for a in answers if "result" in a}
        assert made <= {c["params"].get("name") for c in on_disk(room, f"state{turn}")}


# ---- a disk that is full ----

def test_no_room_refuses_the_change_and_keeps_the_old_state(serve, room, rpc):
    d = serve()
    rpc(null()[0], **null()[1])
    d.end()
    before = on_disk(room)
    d = serve(env={**os.environ, "VHOSTD_FAULT": f"state-spare={ENOSPC}"})
    with pytest.raises(RpcError, match="nothing was changed") as e:
        rpc("bdev_null_create", name="N1", block_size=512, num_blocks=8)
    assert "No space left" in e.value.message and e.value.code == -32603
    with pytest.raises(RpcError, match="No space left"):
        rpc("bdev_null_delete", name="N0")
    assert [b["name"] for b in rpc("bdev_get_bdevs")] == ["N0"]
    assert on_disk(room) == before
    rpc("log_set_level", level="INFO")  # what is not saved is not refused
    d.end()
    assert on_disk(room) == before


# Those of EVERYTHING that cannot be undone: settings, and a namespace whose number was not given.
NOT_UNDONE = ["bdev_set_qos_limit", "device_set_qos_limit", "bdev_set_incomplete",
              "vhost_controller_set_coalescing",
              "nvmf_create_transport", "vfu_tgt_set_base_path", "vhost_nvme_controller_add_ns",
              "nvmf_subsystem_listener_set_ana_state"]


@pytest.mark.parametrize("nth", range(1, len(EVERYTHING) + 1))
def test_a_change_that_cannot_be_written_is_undone_or_told_to_be_in_force(serve, room, rpc, config,
                                                                         image, nth):
    serve(env={**os.environ, "VHOSTD_FAULT": f"state-fsync:{nth}"})
    image("disk")
    image("disk2")
    os.makedirs(os.path.join(room, "vfu"))
    all_calls = in_room(room, EVERYTHING)
    for method, params in all_calls[:nth - 1]:
        rpc(method, **params)
    method, params = all_calls[nth - 1]
    before, sockets = config(), all_sockets(room)
    with pytest.raises(RpcError, match="cannot be written: Input/output error") as e:
        rpc(method, **params)
    if method in NOT_UNDONE:
        assert "is in force, but would be lost" in e.value.message and config() != before
    else:
        assert "the change was undone" in e.value.message
        assert config() == before and all_sockets(room) == sockets
        rpc(method, **params)
    rpc("bdev_null_create", name="After", block_size=512, num_blocks=8)
    assert [c for part in config().values() for c in part] == on_disk(room)


def test_changes_that_share_a_failed_writing_are_undone_from_the_last_to_the_first(serve, room, rpc,
                                                                                  config):
    """What comes while the first change is written shares the second writing, which fails."""
    serve(env={**os.environ, "VHOSTD_FAULT": "state-fsync:2"})
    some = [null("First")]
    for i in range(10):
        some += [null(f"N{i}"),
                 ("bdev_passthru_create", {"name": f"P{i}", "base_bdev_name": f"N{i}"}),
                 ("vhost_create_blk_controller", {"ctrlr": f"vm{i}", "dev_name": f"P{i}"})]
    with Rpc(os.path.join(room, "rpc")) as client:
        client.send(b"".join(json.dumps({"jsonrpc": "2.0", "id": i, "method": m, "params": p})
                             .encode() for i, (m, p) in enumerate(some)))
        answers = sorted((client.answer() for _ in some), key=lambda a: a["id"])
    undone = [i for i, a in enumerate(answers) if "undone" in a.get("error", {}).get("message", "")]
    assert len(undone) > 1 and undone[0] == 1, answers
    there = {b["name"] for b in rpc("bdev_get_bdevs")} | {
        c["ctrlr"] for c in rpc("vhost_get_controllers")}
    names = [p.get("ctrlr") or p["name"] for _, p in some]
    assert there == {names[i] for i, a in enumerate(answers) if "result" in a}
    assert [c for part in config().values() for c in part] == on_disk(room)
    for i, answer in enumerate(answers):
        if "error" in answer:
            rpc(some[i][0], **some[i][1])
    assert len(on_disk(room)) == len(some)


def test_after_a_deletion_that_could_not_be_written_nothing_is_changed_until_it_can(serve, room,
                                                                                   rpc):
    d = serve()
    for n in ("N0", "N1"):
        rpc(null(n)[0], **null(n)[1])
    before = on_disk(room)
    d.end()
    d = serve(env={**os.environ, "VHOSTD_FAULT": "state-fsync"})
    with pytest.raises(RpcError, match="in force, but would be lost"):
        rpc("bdev_null_delete", name="N0")
    for _ in range(2):
        with pytest.raises(RpcError, match="nothing was changed"):
            rpc("bdev_null_delete", name="N1")
        with pytest.raises(RpcError, match="nothing was changed"):
            rpc("bdev_null_create", name="N2", block_size=512, num_blocks=8)
    assert [b["name"] for b in rpc("bdev_get_bdevs")] == ["N1"] and on_disk(room) == before
    assert d.end() == 0


def test_a_change_before_the_start_is_saved_too(serve, room, rpc):
    d = serve("--wait-for-rpc")
    rpc("bdev_set_options", bdev_auto_examine=True)
    rpc("vfu_tgt_set_base_path", path=room)
    rpc("framework_start_init")
    wait_for("the state", lambda: os.path.exists(os.path.join(room, "state")))
    d.end(signal.SIGKILL)
    assert [c["method"] for c in on_disk(room)] == ["bdev_set_options", "vfu_tgt_set_base_path"]


# ---- a folder or a file system that cannot be written ----

def cannot_change(rpc, error):
    """Neither something that makes nor something that deletes; N0 is there."""
    for method, params in [null("N1"), ("bdev_null_delete", {"name": "N0"}),
                           ("vfu_tgt_set_base_path", {"path": "/"})]:
        with pytest.raises(RpcError, match="nothing was changed") as e:
            rpc(method, **params)
        assert error in e.value.message and "state" in e.value.message
    assert [b["name"] for b in rpc("bdev_get_bdevs")] == ["N0"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_folder_that_cannot_be_written_any_more_refuses_changes(serve, room, rpc):
    os.chmod(room, 0o777)
    folder = os.path.join(room, "kept")
    os.mkdir(folder)
    os.chown(folder, 12345, 12345)
    serve(state="kept/state", user=12345, group=12345, extra_groups=[])
    rpc(null()[0], **null()[1])
    before = on_disk(room, "kept/state")
    os.chmod(folder, 0o555)
    cannot_change(rpc, "Permission denied")
    os.chmod(folder, 0o755)
    assert on_disk(room, "kept/state") == before
    rpc("bdev_null_delete", name="N0")
    assert on_disk(room, "kept/state") == []


def test_a_folder_that_has_gone_refuses_changes(serve, room, rpc):
    folder = os.path.join(room, "kept")
    os.mkdir(folder)
    serve(state="kept/state")
    rpc(null()[0], **null()[1])
    os.rename(folder, folder + "2")
    cannot_change(rpc, "No such file or directory")
    os.rename(folder + "2", folder)
    rpc("bdev_null_delete", name="N0")
    assert on_disk(room, "kept/state") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_a_file_system_that_became_read_only_refuses_changes(serve, room, rpc):
    folder = os.path.join(room, "kept")
    os.mkdir(folder)
    d = serve(state="kept/state")
    rpc(null()[0], **null()[1])
    before = on_disk(room, "kept/state")
    # a mount over it: the daemon has a file open there, so what is there cannot become read-only
    if subprocess.run(["mount", "--bind", folder, folder], check=False).returncode:
        pytest.skip("may not mount")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        cannot_change(rpc, "Read-only file system")
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    assert on_disk(room, "kept/state") == before
    rpc("bdev_null_delete", name="N0")
    assert on_disk(room, "kept/state") == []
    d.end()


def test_a_limit_of_the_size_of_files_refuses_changes(serve, room, rpc):
    limit = 20000
    d = serve(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    made = []
    with pytest.raises(RpcError, match="nothing was changed") as e:
        for i in range(1000):
            rpc(null()[0], **null(f"N{i}")[1])
            made.append(f"N{i}")
    assert "File too large" in e.value.message and made
    assert [b["name"] for b in rpc("bdev_get_bdevs")] == made
    assert [c["params"]["name"] for c in on_disk(room)] == made
    assert d.end() == 0


# ---- its cost ----

def test_many_controllers_keep_nobody_waiting_while_they_are_saved(serve, room):
    """STATE_CONTROLLERS=1000 and a release build: the figures of docs/internals/mgmt.md."""
    serve()
    waits, over = [], threading.Event()

    def ask():
        with Rpc(os.path.join(room, "rpc")) as client:
            while not over.is_set():
                begin = time.monotonic()
                client.call("vhost_get_controllers", name="vm0")
                waits.append(time.monotonic() - begin)
                time.sleep(0.002)
    with Rpc(os.path.join(room, "rpc")) as client:
        def change(i, method, params):
            begin = time.monotonic()
            client.call(method, **params)
            took[i] = took.get(i, 0) + time.monotonic() - begin
        took = {}
        client.call(null("D")[0], **null("D")[1])
        client.call("vhost_create_blk_controller", ctrlr="vm0", dev_name="D")
        other = threading.Thread(target=ask)
        other.start()
        for i in range(CONTROLLERS):
            change("create", "vhost_create_blk_controller", {"ctrlr": f"v{i}", "dev_name": "D"})
        assert len(on_disk(room)) == CONTROLLERS + 2
        for i in range(CONTROLLERS):
            change("delete", "vhost_delete_controller", {"ctrlr": f"v{i}"})
        over.set()
        other.join()
    assert len(on_disk(room)) == 2
    waits.sort()
    print(f"\n{CONTROLLERS} controllers: create {took['create']:.2f} s, "
          f"delete {took['delete']:.2f} s; meanwhile vhost_get_controllers: p50 "
          f"{waits[len(waits) // 2] * 1e3:.2f} ms, p99 {waits[len(waits) * 99 // 100] * 1e3:.2f} ms")
    assert took["create"] < 0.02 * CONTROLLERS and took["delete"] < 0.02 * CONTROLLERS


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
def test_a_full_file_system_keeps_the_old_state(serve, room, rpc):
    small = os.path.join(room, "small")
    os.mkdir(small)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "small", small],
                      check=False).returncode:
        pytest.skip("may not mount a tmpfs")
    try:
        d = serve(state="small/state")
        rpc(null()[0], **null()[1])
        made, fill = ["N0"], os.path.join(small, "fill")
        try:
            with open(fill, "wb") as f:
                while True:
                    f.write(bytes(4096))
                    f.flush()
        except OSError:
            pass
        for i in range(1, 2000):
            try:
                rpc("bdev_null_create", name=f"N{i}", block_size=512, num_blocks=8)
                made.append(f"N{i}")
            except RpcError as e:
                assert "nothing was changed" in e.message and "small/state" in e.message
                break
        assert len(made) < 2000
        assert [b["name"] for b in rpc("bdev_get_bdevs")] == made
        assert [c["params"]["name"] for c in on_disk(room, "small/state")
                if "name" in c["params"]] == made
        os.unlink(fill)
        rpc("bdev_null_create", name="Again", block_size=512, num_blocks=8)
        d.end()
        d = serve(state="small/state")
        assert [b["name"] for b in rpc("bdev_get_bdevs")] == made + ["Again"]
        d.end()
    finally:
        subprocess.run(["umount", "-l", small], check=False)
