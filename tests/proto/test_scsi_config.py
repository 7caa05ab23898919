"""scsi devices on the command line, in the configuration file, and when it is read again at SIGHUP."""

import json
import os
import signal
import socket
import subprocess

import pytest

from conftest import TIMEOUT_S, VHOSTD, wait_for
from test_process import ask, ask_path

USAGE = 2
RUNTIME = 1
BENCH = os.path.join(os.path.dirname(VHOSTD), "vhostd-bench")


@pytest.mark.parametrize("device, words", [
    ("target=256:ram=1M", ["target", "0..255", "256"]),
    ("target=0/16384:ram=1M", ["lun", "0..16383", "16384"]),
    ("target=x:ram=1M", ["target", "number", "x"]),
    ("target=", ["target", "N[/LUN]"]),
    ("target=3/1:colour=red", ["target 3/1", "colour"]),
    ("target=3", ["target 3", "file=", "null=", "ram=", "got 0"]),
    ("target=3:ram=1M:null=1M", ["target 3", "got 2"]),
    ("target=3:ram=1M,target=3:ram=1M", ["target 3", "twice"]),
    ("target=3:ram=1M:serial=" + "x" * 65, ["target 3", "serial", "64", "65"]),
    ("target=3:ram=1M:wwn=12", ["target 3", "wwn", "16 hex", "12"]),
    ("target=3:ram=1M:rotation-rpm=5", ["target 3", "rotation-rpm", "1025", "5"]),
    ("target=3:ram=1M:block-size=1000", ["target 3", "block-size", "1000"]),
    ("target=3:ram=1M:serial=a,target=4:ram=1M:serial=a", ["target 4", "serial", "target 3"]),
    ("target=3:ram=1M:share=a,target=4:ram=2M:share=a", ["target 4", "ram", "target 3"]),
    ("ram=1M", ["ram", "scsi device"]),
    ("num-queues=254,target=0:ram=1M", ["num-queues", "1..253", "254"]),
    ("initiator=a b,target=0:ram=1M", ["initiator", "0x20"]),
])
def test_a_bad_command_line_ends_with_2_and_leaves_no_socket(refuse, room, device, words):
    said = refuse(USAGE, "--device", f"scsi,socket={room}/s,{device}")
    for word in ["--device 1", *words]:
        assert word in said, said
    assert os.listdir(room) == []


def write(room, value):
    """Writes the configuration file in one step; @ is the room."""
    path, text = os.path.join(room, "c.json"), value if isinstance(value, str) else json.dumps(value)
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write(text.replace("@", room + "/"))
    os.rename(path + ".new", path)
    return path


def scsi(*targets, **keys):
    return {"type": "scsi", "socket": "@s", "targets": list(targets), **keys}


@pytest.mark.parametrize("device, words", [
    (scsi({"ram": "1M"}), ["targets[0]", "target", "0..255"]),
    (scsi({"target": 0, "ram": "1M"}, {"target": 256, "ram": "1M"}), ["targets[1]", "0..255", "256"]),
    (scsi({"target": 0, "colour": 1}), ["targets[0]", "colour", "scsi unit"]),
    (scsi({"target": 0, "ram": [1]}), ["targets[0]", "ram"]),
    (scsi(7), ["targets[0]", "object"]),
    (scsi({"target": 9, "lun": 2}), ["target 9/2", "got 0"]),
    ({"type": "scsi", "socket": "@s", "targets": {}}, ["targets", "array"]),
    (scsi(target="0:ram=1M"), ["target", "scsi device"]),
    ({"type": "blk", "socket": "@s", "ram": "1M", "targets": []}, ["targets"]),
])
def test_a_bad_configuration_file_ends_with_2_and_leaves_no_socket(refuse, room, device, words):
    said = refuse(USAGE, "-c", write(room, {"devices": [device]}))
    for word in ["c.json:1: devices[0]", *words]:
        assert word in said, said
    assert os.listdir(room) == ["c.json"]


def has(path, target):
    """Is there a unit at this target? The driver's TEST UNIT READY meets a bad target otherwise.

    It first measures the machine, which takes long when others use it, too."""
    r = subprocess.run([BENCH, "--socket", path, f"--scsi={target}", "--count", "1"],
                       capture_output=True, text=True, timeout=6 * TIMEOUT_S, check=False)
    assert r.returncode == 0 or "command 0x" in r.stderr, r.stderr
    return "response 3" not in r.stderr


def test_no_socket_before_every_unit_is_open(refuse, room, image):
    said = refuse(RUNTIME, "--device", f"scsi,socket={room}/s,target=0:file={image()},"
                  f"target=7/1:file={room}/absent")
    assert "target 7/1" in said and "absent" in said
    assert os.listdir(room) == ["disk"]


def test_command_line_and_file_give_the_same_units(start, room, image):
    os.mkdir(f"{room}/a:b,c")
    path = image("a:b,c/d")
    escaped = path.replace(":", "\\:").replace(",", "\\,")
    d = start("--device", f"scsi,socket={room}/s,target=1:ram=1M,target=255:file={escaped}")
    d.wait_listening(f"{room}/s")
    assert [t for t in (0, 1, 255) if has(f"{room}/s", t)] == [1, 255]
    assert d.end() == 0, d.said()
    d = start("-c", write(room, {"devices": [scsi({"target": 1, "ram": "1M"},
                                                  {"target": 255, "file": path})]}))
    d.wait_listening(f"{room}/s")
    assert [t for t in (0, 1, 255) if has(f"{room}/s", t)] == [1, 255]
    assert d.end() == 0, d.said()
    assert os.listdir(f"{room}/a:b,c") == ["d"], "a state file nobody asked for"


def test_one_image_in_two_devices_is_opened_once(start, room, image):
    path = image()
    d = start("--device", f"scsi,socket={room}/s,target=0:file={path}",
              "--device", f"scsi,socket={room}/t,target=5:file={path},target=6:share=m:ram=1M",
              "--device", f"scsi,socket={room}/u,target=7:share=m")
    for name in "stu":
        d.wait_listening(f"{room}/{name}")
    assert has(f"{room}/s", 0) and has(f"{room}/t", 5) and has(f"{room}/t", 6) and has(f"{room}/u", 7)
    assert d.files().count(path) == 1
    assert d.end() == 0, d.said()


def test_each_connection_is_an_initiator_of_its_own(start, room):
    path = f"{room}/s"
    d = start("--device", f"scsi,socket={path},connections=2,target=0:ram=1M")
    d.wait_listening(path)
    with socket.socket(socket.AF_UNIX) as a, socket.socket(socket.AF_UNIX) as b:
        a.connect(path)
        b.connect(path)
        ask(a)
        ask(b)
    for _ in range(20):
        ask_path(path)
    assert "refused" not in d.said()
    assert d.end() == 0, d.said()


def hup(d, line):
    """SIGHUP, then waits for one more line with this text."""
    before = d.said().count(line)
    d.process.send_signal(signal.SIGHUP)
    wait_for(line, lambda: d.said().count(line) > before or d.process.poll() is not None)
    assert d.process.poll() is None, d.said()


def test_sighup_adds_and_removes_units(start, room, image):
    path, disk = f"{room}/s", image()
    keep = {"target": 0, "ram": "1M"}
    d = start("-c", write(room, {"devices": [scsi(keep, {"target": 1, "file": disk})]}))
    d.wait_listening(path)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        ask(s)
        write(room, {"devices": [scsi(keep, {"target": 2, "file": disk})]})
        hup(d, "scsi0: target 2: attached")
        assert d.said().count("scsi0: target 1: detached") == 1
        assert "target 0" not in d.said()
        ask(s)
    assert [t for t in range(3) if has(path, t)] == [0, 2]
    write(room, {"devices": [scsi()]})
    hup(d, "scsi0: target 2: detached")
    assert not has(path, 0) and not has(path, 2)
    wait_for("the image to be closed", lambda: disk not in d.files())
    write(room, {"devices": [scsi({"target": 0, "lun": 0, "file": disk, "read-only": True})]})
    hup(d, "scsi0: target 0: attached")
    assert has(path, 0)
    assert "restart" not in d.said()
    assert d.end() == 0, d.said()


@pytest.mark.parametrize("value, words", [
    ("{", ["c.json:1"]),
    ({"devices": [scsi({"target": 0, "ram": "1M"}, {"target": 1})]}, ["target 1", "got 0"]),
    ({"devices": [scsi({"target": 2, "ram": "1M"}, {"target": 1, "file": "@absent"})]},
     ["scsi0", "target 1", "absent"]),
])
def test_a_broken_file_at_sighup_changes_nothing(start, room, value, words):
    path = f"{room}/s"
    d = start("-c", write(room, {"devices": [scsi({"target": 0, "ram": "1M"})]}))
    d.wait_listening(path)
    write(room, value)
    hup(d, "nothing was changed")
    assert all(w in d.said() for w in words), d.said()
    assert has(path, 0) and not has(path, 1)
    assert "attached" not in d.said() and "detached" not in d.said()
    write(room, {"devices": [scsi({"target": 0, "ram": "1M"}, {"target": 1, "ram": "1M"})]})
    hup(d, "target 1: attached")
    assert d.end() == 0, d.said()


def test_what_else_differs_at_sighup_needs_a_restart(start, room):
    blk = {"type": "blk", "socket": "@b", "ram": "1M"}
    d = start("-c", write(room, {"devices": [scsi({"target": 0, "ram": "1M"}), blk]}))
    d.wait_listening(f"{room}/s")
    hup_line = "log-level: needs a restart"
    write(room, {"log-level": "info", "devices": [
        {**blk, "socket": "@new"},
        scsi({"target": 0, "ram": "2M"}, **{"num-queues": 2})]})
    d.process.send_signal(signal.SIGHUP)
    for line in (hup_line, "blk1: is no longer configured: needs a restart",
                 "devices[0]: a new device needs a restart",
                 "scsi0: num-queues: '2' needs a restart, it stays '64'",
                 "scsi0: target 0: ram: '2097152' needs a restart, it stays '1048576'"):
        wait_for(line, lambda line=line: line in d.said())
    assert has(f"{room}/s", 0)
    assert not os.path.exists(f"{room}/new")
    assert d.end() == 0, d.said()


def test_units_of_the_command_line_stay_at_sighup(start, room, image):
    path, disk = f"{room}/s", image()
    d = start("--device", f"scsi,socket={path},target=0:file={disk}",
              "-c", write(room, {"devices": [{**scsi(), "socket": "@t"}]}))
    d.wait_listening(path)
    write(room, {"devices": [{**scsi({"target": 9, "file": "@disk"}), "socket": "@t"}]})
    hup(d, "scsi1: target 9: attached")
    assert has(path, 0) and has(f"{room}/t", 9)
    assert "detached" not in d.said() and "restart" not in d.said()
    assert d.end() == 0, d.said()


def test_sighup_looks_at_the_sizes_of_units_too(start, room, image):
    path, disk = f"{room}/s", image()
    d = start("--device", f"scsi,socket={path},target=3:file={disk}")
    d.wait_listening(path)
    os.truncate(disk, (8 << 20) + 100)
    hup(d, "rescan: scsi0: target 3: ")
    assert d.end() == 0, d.said()


def test_sighup_with_an_inherited_socket_reports_nothing(start, room, image):
    s = socket.socket(socket.AF_UNIX)
    s.bind(f"{room}/b")
    s.listen()
    d = start("--fd", str(s.fileno()), "--blk-file", image(), "-c",
              write(room, {"devices": [scsi()]}), pass_fds=[s.fileno()])
    s.close()
    d.wait_listening(f"{room}/s")
    write(room, {"devices": [scsi({"target": 0, "ram": "1M"})]})
    hup(d, "target 0: attached")
    assert "restart" not in d.said() and "changed" not in d.said(), d.said()
    ask_path(f"{room}/b")
    assert d.end() == 0, d.said()


def test_sigterm_while_units_leave_under_io_ends_with_0(start, room, image):
    path, disk = f"{room}/s", image()
    for _ in range(3):
        d = start("-c", write(room, {"devices": [scsi({"target": 0, "file": disk},
                                                      {"target": 1, "ram": "1M"})]}))
        d.wait_listening(path)
        with subprocess.Popen([BENCH, "--socket", path, "--scsi=0", "--seconds", "60"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as bench:
            try:
                # a channel of the front-end's queue has the image in the loop's file table
                wait_for("the front-end's memory",
                         lambda: "memfd" in open(f"/proc/{d.process.pid}/maps", encoding="utf-8").read())
                write(room, {"devices": [scsi()]})
                d.process.send_signal(signal.SIGHUP)
                assert d.end() == 0, d.said()
            finally:
                bench.kill()
