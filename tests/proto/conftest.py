"""Fixtures of the process tests: the binary under test, short folders, daemons that never outlive a test."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

HERE = os.path.dirname(os.path.abspath(__file__))
VHOSTD = os.path.abspath(os.environ.get("VHOSTD", os.path.join(HERE, "../../build-check/vhostd")))
SGVU = os.path.join(os.path.dirname(VHOSTD), "tests/tools/sgvu.so")
GATE = os.path.join(os.path.dirname(VHOSTD), "tests/tools/iscsi-gate")
TIMEOUT_S = 20
SID_TOOLS_TIMEOUT_S = 300
REPORTS = ("AddressSanitizer", "LeakSanitizer", "runtime error:", "ThreadSanitizer", "ASSERT")


def wait_for(what, condition, seconds=TIMEOUT_S):
    """Polls until the condition holds; names what was waited for when it does not."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.005)


def connects(path):
    """Does somebody listen there?"""
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(path)
            return True
        except OSError:
            return False


def sgvu_env(places, preload="LD_PRELOAD", **options):
    """The environment in which places, {N: (socket, target, lun)}, are /dev/sgN (see sgvu.c)."""
    assert os.path.exists(SGVU), "no " + SGVU
    env = {**os.environ, preload: SGVU}
    for number, (path, target, lun) in places.items():
        env[f"SGVU_{number}"] = f"{path},{target},{lun}"
    env.update((f"SGVU_{name.upper()}", str(value)) for name, value in options.items())
    return env


class Daemon:
    """A running vhostd; its stderr is in .said() after the end."""

    def __init__(self, args, log, **popen):
        self.log = log
        with open(log, "ab") as err:
            self.process = subprocess.Popen([VHOSTD, *args], stderr=err, stdout=err, **popen)

    def said(self):
        with open(self.log, encoding="utf-8", errors="replace") as f:
            return f.read()

    def files(self):
        """What its descriptors are."""
        folder, names = f"/proc/{self.process.pid}/fd", []
        for fd in os.listdir(folder):
            try:
                names.append(os.readlink(f"{folder}/{fd}"))
            except FileNotFoundError:
                pass  # closed meanwhile
        return names

    def wait_listening(self, path):
        def up():
            assert self.process.poll() is None, "vhostd ended: " + self.said()
            return connects(path)
        wait_for("a listener at " + path, up)

    def end(self, signo=signal.SIGTERM):
        self.process.send_signal(signo)
        return self.process.wait(TIMEOUT_S)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.fixture
def room():
    """A short-named folder: the path of a socket has a limit."""
    folder = tempfile.mkdtemp(prefix="vhostd-")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def start(room):
    """start(*args) runs vhostd until the test ends; no sanitizer may have reported then."""
    daemons = []

    def start_one(*args, **popen):
        d = Daemon(args, os.path.join(room, f"log{len(daemons)}"), **popen)
        daemons.append(d)
        return d

    yield start_one
    for d in daemons:
        d.kill()
        assert not any(r in d.said() for r in REPORTS), d.said()


@pytest.fixture
def refuse():
    """refuse(status, *args): vhostd ends by itself with that status; returns what it said."""
    def run(status, *args, **kwargs):
        r = subprocess.run([VHOSTD, *args], capture_output=True, text=True, timeout=TIMEOUT_S,
                           check=False, **kwargs)
        assert r.returncode == status, f"exit {r.returncode}: {r.stderr}"
        assert not any(x in r.stderr for x in REPORTS), r.stderr
        if status:
            assert r.stderr.startswith("vhostd: ") and r.stderr.count("\n") == 1, r.stderr
        return r.stderr if status else r.stdout
    return run


@pytest.fixture
def image(room):
    """image(name, size): a sparse file."""
    def make(name="disk", size=8 << 20):
        path = os.path.join(room, name)
        with open(path, "wb") as f:
            f.truncate(size)
        return path
    return make


def pytest_report_header():
    return "server: " + VHOSTD
