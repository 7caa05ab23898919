"""nvme devices on the command line, in the configuration file, and when it is read again at SIGHUP."""

import os
import signal
import socket
import struct

import pytest

from conftest import TIMEOUT_S, wait_for
from nvmevfu import Controller
from test_scsi_config import hup, write

USAGE = 2
RUNTIME = 1
NVME_GET_CAP = 82  # vhost-user-nvme
NAMESPACE_CHANGED = (2, 0, 4)
ANA_CHANGED = (2, 3, 12)


def nvme(*namespaces, **keys):
    return {"type": "nvme", "socket": "@s", "namespaces": list(namespaces),
            **{key.replace("_", "-"): value for key, value in keys.items()}}


@pytest.mark.parametrize("device, words", [
    ("ns=0:ram=1M", ["nsid", "1..1024", "0"]),
    ("ns=1025:ram=1M", ["nsid", "1..1024", "1025"]),
    ("ns=", ["ns", "NSID"]),
    ("ns=3:colour=red", ["ns 3", "colour"]),
    ("ns=3", ["ns 3", "file=", "null=", "ram=", "got 0"]),
    ("ns=3:ram=1M,ns=3:ram=1M", ["ns 3", "twice"]),
    ("ns=3:ram=1M:nguid=12", ["ns 3", "nguid", "32 hex", "12"]),
    ("ns=3:ram=1M:block-size=1000", ["ns 3", "block-size", "1000"]),
    ("transport=tcp,ns=1:ram=1M", ["transport", "vhost-user", "vfio-user", "tcp"]),
    ("transport=vhost-user,doorbells=mapped,ns=1:ram=1M", ["doorbells", "transport=vfio-user"]),
    ("generation=18.04,ns=1:ram=1M", ["generation", "transport=vhost-user"]),
    ("num-queues=257,ns=1:ram=1M", ["num-queues", "1..256", "257"]),
    ("serial=" + "x" * 21, ["serial", "20", "21"]),
    ("ns-pool=/x", ["ns-pool", "ns-pool-size"]),
    ("ram=1M", ["ram", "nvme device"]),
])
def test_a_bad_command_line_ends_with_2_and_leaves_no_socket(refuse, room, device, words):
    said = refuse(USAGE, "--device", f"nvme,socket={room}/s,{device}")
    for word in ["--device 1", *words]:
        assert word in said, said
    assert os.listdir(room) == []


@pytest.mark.parametrize("device, words", [
    (nvme({"ram": "1M"}), ["namespaces[0]", "nsid", "1..1024"]),
    (nvme({"nsid": 1, "ram": "1M"}, {"nsid": 0, "ram": "1M"}), ["namespaces[1]", "1..1024", "0"]),
    (nvme({"nsid": 1, "colour": 1}), ["namespaces[0]", "colour", "nvme namespace"]),
    (nvme(7), ["namespaces[0]", "object"]),
    ({"type": "nvme", "socket": "@s", "namespaces": {}}, ["namespaces", "array"]),
    (nvme(targets=[]), ["targets"]),
])
def test_a_bad_configuration_file_ends_with_2_and_leaves_no_socket(refuse, room, device, words):
    said = refuse(USAGE, "-c", write(room, {"devices": [device]}))
    for word in ["c.json:1: devices[0]", *words]:
        assert word in said, said
    assert os.listdir(room) == ["c.json"]


def test_no_socket_before_every_namespace_is_open(refuse, room, image):
    said = refuse(RUNTIME, "--device", f"nvme,socket={room}/s,ns=1:file={image()},"
                  f"ns=7:file={room}/absent")
    assert "ns 7" in said and "absent" in said
    assert os.listdir(room) == ["disk"]


def shown(path):
    with Controller(path) as c:
        c.enable()
        return {nsid: c.size(nsid) for nsid in c.namespaces()}


@pytest.mark.parametrize("doorbells", ["trapped", "mapped"])
def test_command_line_and_file_give_the_same_namespaces(start, room, image, doorbells):
    os.mkdir(f"{room}/a:b,c")
    path = image("a:b,c/d")
    escaped = path.replace(":", "\\:").replace(",", "\\,")
    d = start("--device", f"nvme,socket={room}/s,doorbells={doorbells},ns=1:ram=1M,ns=1024:file={escaped}")
    d.wait_listening(f"{room}/s")
    assert shown(f"{room}/s") == {1: 2048, 1024: 16384}
    assert d.end() == 0, d.said()
    d = start("-c", write(room, {"devices": [nvme({"nsid": 1, "ram": "1M"}, {"nsid": 1024, "file": path},
                                                  doorbells=doorbells)]}))
    d.wait_listening(f"{room}/s")
    assert shown(f"{room}/s") == {1: 2048, 1024: 16384}
    assert d.end() == 0, d.said()
    assert os.listdir(f"{room}/a:b,c") == ["d"], "a state file nobody asked for"


def test_what_is_told_of_the_subsystem_is_what_the_controller_shows(start, room):
    path = f"{room}/s"
    d = start("--device", f"nvme,socket={path},serial=ROSEBUD,model=A Disk,nqn=nqn.2026-01.io.example:x,"
              "pci-vendor=0x1234,pci-device=0x5678,num-queues=3,queue-size=100,"
              "ns=1:ram=1M:uuid=6ba7b810-9dad-11d1-80b4-00c04fd430c8:eui64=0011223344556677:"
              "nguid=00112233445566778899aabbccddeeff")
    d.wait_listening(path)
    with Controller(path) as c:
        assert c.config(0, "H") == 0x1234 and c.config(2, "H") == 0x5678
        assert c.read(0, "Q") & 0xffff == 99
        c.enable()
        ctrl = c.identify(1)
        assert ctrl[4:24].rstrip() == b"ROSEBUD"
        assert ctrl[24:64].rstrip() == b"A Disk"
        assert ctrl[768:1024].rstrip(b"\0") == b"nqn.2026-01.io.example:x"
        ns = c.identify(0, 1)
        assert ns[104:120].hex() == "00112233445566778899aabbccddeeff"
        assert ns[120:128].hex() == "0011223344556677"
        assert "6ba7b8109dad11d180b400c04fd430c8" in c.identify(3, 1).hex()
    assert d.end() == 0, d.said()


def test_names_that_nobody_gave_are_the_same_after_a_restart(start, room, image):
    path, names = f"{room}/s", []
    for _ in range(2):
        d = start("--device", f"nvme,socket={path},ns=1:file={image()},ns=2:ram=1M")
        d.wait_listening(path)
        with Controller(path) as c:
            c.enable()
            ctrl = c.identify(1)
            names.append((ctrl[4:24], ctrl[768:1024], c.identify(3, 1), c.identify(3, 2)))
        assert d.end() == 0, d.said()
    assert names[0] == names[1]
    assert names[0][2] != names[0][3]


def test_devices_of_one_subsystem_show_the_same_namespaces(start, room, image):
    d = start("--device", f"nvme,socket={room}/s,subsystem=m,ns=1:file={image()}",
              "--device", f"nvme,socket={room}/t,subsystem=m,ns=2:ram=2M",
              "--device", f"nvme,socket={room}/u,ns=1:ram=3M")
    for name in "stu":
        d.wait_listening(f"{room}/{name}")
    with Controller(f"{room}/s") as a, Controller(f"{room}/t") as b, Controller(f"{room}/u") as c:
        for one in (a, b, c):
            one.enable()
        assert a.namespaces() == b.namespaces() == [1, 2]
        assert c.namespaces() == [1]
        ids = [one.identify(1) for one in (a, b, c)]
        assert ids[0][768:1024] == ids[1][768:1024] != ids[2][768:1024]
        assert ids[0][78:80] != ids[1][78:80], "two controllers of one identifier"
    assert d.end() == 0, d.said()


def test_each_connection_is_a_controller_of_its_own(start, room):
    path = f"{room}/s"
    d = start("--device", f"nvme,socket={path},connections=2,ns=1:ram=1M")
    d.wait_listening(path)
    with Controller(path) as a, Controller(path) as b:
        a.enable()
        b.enable()
        assert a.identify(1)[78:80] != b.identify(1)[78:80]
    for _ in range(20):
        assert shown(path) == {1: 2048}
    assert d.end() == 0, d.said()


def test_sighup_adds_and_removes_namespaces_and_the_guest_is_told(start, room, image):
    path, disk = f"{room}/s", image()
    keep = {"nsid": 1, "ram": "1M"}
    d = start("-c", write(room, {"devices": [nvme(keep, {"nsid": 2, "file": disk})]}))
    d.wait_listening(path)
    with Controller(path) as c:
        c.enable()
        assert c.namespaces() == [1, 2]
        c.listen()
        write(room, {"devices": [nvme(keep, {"nsid": 3, "ram": "2M"}, {"nsid": 2, "file": disk})]})
        hup(d, "nvme0: ns 3: attached")
        assert c.event() == NAMESPACE_CHANGED
        assert struct.unpack_from("<2I", c.log(4)) == (3, 0)
        assert c.size(3) == 4096
        c.listen()
        write(room, {"devices": [nvme(keep)]})
        hup(d, "nvme0: ns 3: detached")
        assert d.said().count("nvme0: ns 2: detached") == 1
        assert c.event() == NAMESPACE_CHANGED
        assert c.namespaces() == [1]
        assert "ns 1" not in d.said()
    wait_for("the image to be closed", lambda: disk not in d.files())
    assert d.end() == 0, d.said()


def test_one_sighup_moves_an_image_to_another_namespace(start, room, image):
    path, disk = f"{room}/s", image()
    d = start("-c", write(room, {"devices": [nvme({"nsid": 1, "file": disk})]}))
    d.wait_listening(path)
    with Controller(path) as c:
        c.enable()
        write(room, {"devices": [nvme({"nsid": 2, "file": disk, "read-only": True})]})
        hup(d, "nvme0: ns 2: attached")
        assert "nvme0: ns 1: detached" in d.said()
        assert c.namespaces() == [2]
    assert "changed" not in d.said() and "restart" not in d.said()
    assert d.end() == 0, d.said()


def test_sighup_changes_the_access_state_of_one_path(start, room):
    def both(ana):
        return {"devices": [nvme({"nsid": 1, "ram": "1M"}, subsystem="m"),
                            {**nvme(subsystem="m", ana=ana), "socket": "@t"}]}
    d = start("-c", write(room, both("optimized")))
    for name in "st":
        d.wait_listening(f"{room}/{name}")
    with Controller(f"{room}/s") as a, Controller(f"{room}/t") as b:
        for one in (a, b):
            one.enable()
            one.listen()
        write(room, both("inaccessible"))
        hup(d, "nvme1: ana: inaccessible")
        assert b.event() == ANA_CHANGED
        assert [one.ana() for one in (a, b)] == [1, 3]
        assert a.events == []
    assert "restart" not in d.said()
    with Controller(f"{room}/t") as b:
        b.enable()
        assert b.ana() == 3
    assert d.end() == 0, d.said()


@pytest.mark.parametrize("value, words", [
    ("{", ["c.json:1"]),
    ({"devices": [nvme({"nsid": 1, "ram": "1M"}, {"nsid": 2})]}, ["ns 2", "got 0"]),
    ({"devices": [nvme({"nsid": 3, "ram": "1M"}, {"nsid": 2, "file": "@absent"})]},
     ["nvme0", "ns 2", "absent"]),
])
def test_a_broken_file_at_sighup_changes_nothing(start, room, value, words):
    path = f"{room}/s"
    d = start("-c", write(room, {"devices": [nvme({"nsid": 1, "ram": "1M"})]}))
    d.wait_listening(path)
    write(room, value)
    hup(d, "nothing was changed")
    assert all(w in d.said() for w in words), d.said()
    assert shown(path) == {1: 2048}
    assert "attached" not in d.said() and "detached" not in d.said()
    assert d.end() == 0, d.said()


def test_what_else_differs_at_sighup_needs_a_restart(start, room):
    path = f"{room}/s"
    d = start("-c", write(room, {"devices": [nvme({"nsid": 1, "ram": "1M"})]}))
    d.wait_listening(path)
    write(room, {"devices": [nvme({"nsid": 1, "ram": "2M"}, num_queues=2, serial="new")]})
    d.process.send_signal(signal.SIGHUP)
    for line in ("nvme0: num-queues: '2' needs a restart, it stays '64'",
                 "nvme0: serial: 'new' needs a restart, it stays ''",
                 "nvme0: ns 1: ram: '2097152' needs a restart, it stays '1048576'"):
        wait_for(line, lambda line=line: line in d.said())
    assert shown(path) == {1: 2048}
    assert d.end() == 0, d.said()


def test_sighup_looks_at_the_sizes_of_namespaces(start, room, image):
    path, disk = f"{room}/s", image()
    d = start("--device", f"nvme,socket={path},ns=3:file={disk}")
    d.wait_listening(path)
    with Controller(path) as c:
        c.enable()
        c.listen()
        os.truncate(disk, 16 << 20)
        d.process.send_signal(signal.SIGHUP)
        assert c.event() == NAMESPACE_CHANGED
        assert c.size(3) == 32768
    os.truncate(disk, (16 << 20) + 100)
    hup(d, "rescan: nvme0: ns 3: ")
    assert d.end() == 0, d.said()


def test_sigterm_while_namespaces_leave_ends_with_0(start, room, image):
    path, disk = f"{room}/s", image()
    for _ in range(3):
        d = start("-c", write(room, {"devices": [nvme({"nsid": 1, "file": disk}, {"nsid": 2, "ram": "1M"})]}))
        d.wait_listening(path)
        with Controller(path) as c:
            c.enable()
            write(room, {"devices": [nvme()]})
            d.process.send_signal(signal.SIGHUP)
            assert d.end() == 0, d.said()


@pytest.mark.parametrize("generation", ["18.07", "18.04"])
def test_vhost_user_and_vfio_user_share_a_subsystem(start, room, image, generation):
    d = start("--device", f"nvme,socket={room}/s,subsystem=m,ns=1:file={image()}",
              "--device", f"nvme,socket={room}/v,subsystem=m,transport=vhost-user,generation={generation}")
    d.wait_listening(f"{room}/v")
    with socket.socket(socket.AF_UNIX) as v:
        v.settimeout(TIMEOUT_S)
        v.connect(f"{room}/v")
        v.sendall(struct.pack("<3I", NVME_GET_CAP, 1, 0))
        request, flags, size, cap = struct.unpack("<3IQ", v.recv(20, socket.MSG_WAITALL))
        assert (request, flags, size, cap & 0xffff) == (NVME_GET_CAP, 5, 8, 1023)
    assert shown(f"{room}/s") == {1: 16384}
    assert d.end() == 0, d.said()
    assert not os.path.exists(f"{room}/v")


def test_a_socket_that_is_taken_ends_with_1_and_releases_the_namespaces(start, refuse, room, image):
    d = start("--device", f"nvme,socket={room}/s,ns=1:ram=1M")
    d.wait_listening(f"{room}/s")
    said = refuse(RUNTIME, "--device", f"nvme,socket={room}/t,ns=1:ram=1M", "--device",
                  f"nvme,socket={room}/s,subsystem=m,ns=1:file={image()},ns=2:ram=1M")
    assert f"{room}/s" in said and "--device 2" in said
    assert shown(f"{room}/s") == {1: 2048}
    assert d.end() == 0, d.said()


def test_a_subsystem_without_namespaces_is_served(start, room):
    path = f"{room}/s"
    d = start("-c", write(room, {"devices": [nvme()]}))
    d.wait_listening(path)
    assert shown(path) == {}
    assert d.end() == 0, d.said()
