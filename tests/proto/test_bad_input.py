"""Bad command lines, configurations and images: the error names the thing, the value and the limit."""

import json
import os
import socket
import subprocess
import time

import pytest

from conftest import TIMEOUT_S, VHOSTD

USAGE = 2
RUNTIME = 1


@pytest.mark.parametrize("args, words", [
    ([], ["--device"]),
    (["--frobnicate"], ["--frobnicate", "--help"]),
    (["stray"], ["stray"]),
    (["--device"], ["--device", "value"]),
    (["--device", "tape,socket=@s,null=1M"], ["type", "blk", "scsi", "tape"]),
    (["--device", "blk,socket=@s"], ["file=", "null=", "ram=", "0"]),
    (["--device", "blk,socket=@s,null=1M,ram=1M"], ["got 2"]),
    (["--device", "blk,null=1M"], ["socket"]),
    (["--device", "blk,socket=@s,null=1M,colour=red"], ["colour"]),
    (["--device", "blk,socket=@s,null=banana"], ["null", "banana"]),
    (["--device", "blk,socket=@s,null=1M,num-queues=0"], ["num-queues", "1..256", "0"]),
    (["--device", "blk,socket=@s,null=1M,num-queues=257"], ["num-queues", "1..256", "257"]),
    (["--device", "blk,socket=@s,null=1M,queue-size=65536"], ["queue-size", "32768", "65536"]),
    (["--device", "blk,socket=@s,null=1M,queue-size=-1"], ["queue-size", "-1"]),
    (["--device", "blk,socket=@s,null=1M,block-size=1000"], ["block-size", "1000"]),
    (["--device", "blk,socket=@s,null=1M,read-only=perhaps"], ["read-only", "perhaps"]),
    (["--device", "blk,socket=@s,null=1M,socket-mode=9"], ["socket-mode", "0777", "9"]),
    (["--device", "blk,socket=@s,null=1M,serial=" + "x" * 21], ["serial", "20", "21"]),
    (["--device", "blk,socket=@s,null=1M,direct=on"], ["direct"]),
    (["--device", "blk,socket=@s,null=1M,name=x", "--device", "blk,socket=@t,null=1M,name=x"],
     ["name", "x"]),
    (["--device", "blk,socket=@s,null=1M", "--device", "blk,socket=@s,null=1M"], ["socket"]),
    (["--device", "blk,socket=@s,null=1M", "--cores", "0"], ["cores", "0"]),
    (["--device", "blk,socket=@s,null=1M", "--cores", "9999"], ["cores", "9999"]),
    (["--device", "blk,socket=@s,null=1M", "--log-level", "loud"], ["log-level", "loud"]),
    (["--socket-path", "@s"], ["--blk-file"]),
    (["--fd", "99", "--blk-file", "@disk"], ["--fd", "99"]),
    (["--fd", "x", "--blk-file", "@disk"], ["--fd", "x"]),
    (["--socket-path", "@s", "--fd", "0", "--blk-file", "@disk"], ["--fd"]),
    (["-c", "@absent.json"], ["absent.json"]),
])
def test_a_bad_command_line_ends_with_2_and_leaves_no_socket(refuse, room, args, words):
    said = refuse(USAGE, *[a.replace("@", room + "/") for a in args])
    for word in words:
        assert word in said, said
    assert not os.path.exists(os.path.join(room, "s"))


def config(room, value):
    path = os.path.join(room, "c.json")
    with open(path, "w", encoding="utf-8") as f:
        f.write(value if isinstance(value, str) else json.dumps(value))
    return path


@pytest.mark.parametrize("value, words", [
    ("{", ["c.json:1"]),
    ("[]", ["object"]),
    ({"colour": 1}, ["colour", "devices"]),
    ({"devices": {}}, ["devices", "array"]),
    ({"devices": [1]}, ["devices[0]", "object"]),
    ({"devices": [{"type": "blk", "socket": "@s", "null": "1M"}, {"type": "tape"}]},
     ["devices[1]", "tape"]),
    ({"devices": [{"type": "blk", "socket": "@s", "null": "1M", "num-queues": 1000}]},
     ["devices[0]", "num-queues", "1..256", "1000"]),
    ({"devices": [{"type": "blk", "socket": "@s", "null": "1M", "serial": [1]}]},
     ["devices[0]", "serial"]),
    ({"cores": True}, ["cores"]),
    ({"log-level": "loud"}, ["log-level", "loud"]),
])
def test_a_bad_configuration_file_ends_with_2(refuse, room, value, words):
    said = refuse(USAGE, "-c", config(room, value if isinstance(value, str) else json.loads(
        json.dumps(value).replace("@", room + "/"))))
    for word in words:
        assert word in said, said
    assert not os.path.exists(os.path.join(room, "s"))


def test_a_good_configuration_file_serves(start, room, image):
    a, b = (os.path.join(room, x) for x in "ab")
    d = start("-c", config(room, {
        "cores": 1, "log-level": "info",
        "devices": [{"type": "blk", "socket": a, "file": image(), "num-queues": 2, "read-only": True},
                    {"type": "blk", "socket": b, "ram": "4M", "name": "scratch"}]}))
    d.wait_listening(a)
    d.wait_listening(b)
    assert d.end() == 0


def device(room, path, more=""):
    return "--device", f"blk,socket={room}/s,file={path}{more}"


def refuse_image(refuse, room, path, more=""):
    said = refuse(RUNTIME, *device(room, path, more))
    assert not os.path.exists(os.path.join(room, "s"))
    return said


def test_a_missing_image_is_named(refuse, room):
    said = refuse_image(refuse, room, f"{room}/absent.img")
    assert "absent.img" in said and "No such file" in said


def test_a_folder_is_no_image(refuse, room):
    assert room in refuse_image(refuse, room, room)


def test_an_image_of_half_a_block_is_refused(refuse, room, image):
    said = refuse_image(refuse, room, image(size=(1 << 20) + 100))
    assert "1048676" in said and "512" in said
    said = refuse_image(refuse, room, image(size=(1 << 20) + 512), ",block-size=4096")
    assert "1049088" in said and "4096" in said


def test_an_empty_image_is_refused(refuse, room, image):
    assert "disk" in refuse_image(refuse, room, image(size=0))


def test_a_file_that_may_not_be_written_needs_read_only(room):
    """A read-only bind mount, in a mount namespace of its own: root, too, may not write there."""
    folder = os.path.join(room, "ro")
    os.mkdir(folder)
    with open(os.path.join(folder, "disk"), "wb") as f:
        f.truncate(1 << 20)
    mount = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-Urm"]
    script = f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder} || exit 99; "
    run = subprocess.run([*mount, "sh", "-c", script + 'exec "$@"', "x", VHOSTD,
                          *device(room, f"{folder}/disk")],
                         capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if run.returncode == 99 or "unshare" in run.stderr:
        pytest.skip("may not make a mount namespace: " + run.stderr)
    assert run.returncode == RUNTIME
    assert f"{folder}/disk" in run.stderr and "read-only" in run.stderr.lower()
    assert not os.path.exists(f"{room}/s")


def test_a_file_that_may_only_be_read_serves_with_read_only(start, room, image):
    path = image()
    os.chmod(path, 0o400)
    d = start(*device(room, path, ",read-only=on"))
    d.wait_listening(f"{room}/s")


def test_a_locked_image_says_who_holds_it(refuse, start, room, image):
    path = image()
    d = start("--device", f"blk,socket={room}/first,file={path}")
    d.wait_listening(f"{room}/first")
    begin = time.monotonic()
    said = refuse_image(refuse, room, path)
    assert path in said and "locked" in said and str(d.process.pid) in said
    assert time.monotonic() - begin < 3
    assert "locked" in refuse_image(refuse, room, path, ",read-only=on")


def test_two_readers_share_an_image(start, room, image):
    path = image()
    for name in "ab":
        d = start("--device", f"blk,socket={room}/{name},file={path},read-only=on")
        d.wait_listening(f"{room}/{name}")


def test_two_devices_of_one_process_exclude_each_other(refuse, room, image):
    path = image()
    said = refuse(RUNTIME, "--device", f"blk,socket={room}/a,file={path}", "--device",
                  f"blk,socket={room}/b,file={path}")
    assert "locked" in said
    assert not os.path.exists(f"{room}/a") and not os.path.exists(f"{room}/b")


def test_a_killed_daemon_leaves_no_lock(start, room, image):
    path = image()
    for _ in range(3):
        d = start("--device", f"blk,socket={room}/s,file={path}")
        d.wait_listening(f"{room}/s")
        d.kill()


def test_a_socket_in_use_is_not_taken_away(refuse, start, room):
    path = f"{room}/s"
    d = start("--device", f"blk,socket={path},null=1M")
    d.wait_listening(path)
    said = refuse(RUNTIME, "--device", f"blk,socket={path},null=1M")
    assert path in said
    d.wait_listening(path)
    assert d.end() == 0


def test_a_file_in_the_place_of_the_socket_is_not_removed(refuse, room, image):
    path = image("s")
    said = refuse(RUNTIME, "--device", f"blk,socket={path},null=1M")
    assert path in said
    assert os.path.getsize(path) == 8 << 20


def test_a_socket_path_too_long_names_the_limit(refuse, room):
    said = refuse(RUNTIME, "--device", f"blk,socket={room}/{'x' * 120},null=1M")
    assert "10" in said and "x" * 20 in said


def test_a_folder_that_does_not_exist_is_named(refuse, room):
    assert f"{room}/no/s" in refuse(RUNTIME, "--device", f"blk,socket={room}/no/s,null=1M")


def test_a_bad_activation_count_is_refused(refuse, room):
    r = subprocess.run(["bash", "-c", "LISTEN_PID=$$ LISTEN_FDS=x exec \"$@\"", "x",
                        VHOSTD, "--device", f"blk,socket={room}/s,null=1M"],
                       capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert r.returncode == USAGE and "LISTEN_FDS" in r.stderr


def test_an_open_descriptor_that_is_no_socket_is_refused(refuse, room, image):
    with open(image(), "rb") as f:
        said = refuse(USAGE, "--fd", str(f.fileno()), "--blk-file", f.name, pass_fds=[f.fileno()])
    assert "socket" in said and "--fd" in said
