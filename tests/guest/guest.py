"""The real-guest rig: a vhost-user server, and real kernels that use its disks.

    with Server(room, disk) as server, Qemu(room, server, "check sees test -b /dev/vda") as guest:
        results = guest.finish(30)
        results.ok("sees")

A guest boots the kernel and initramfs of scripts/guest-image and runs a job, a piece of shell that
reports on marked console lines (see tests/guest/init). Everything that can wait has a time limit,
and every process is in a group of its own that is killed with its owner, so a failed test leaves
nothing running. Does not need pytest: scripts/demo uses it too.
"""

import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
VHOSTD = os.path.abspath(os.environ.get("VHOSTD") or os.path.join(ROOT, "build", "vhostd"))
UML = "/usr/bin/linux.uml"
MIB = 1 << 20
# Everything is slower under a sanitizer, or beside seven other builds: one knob for all limits.
PATIENCE = float(os.environ.get("VHOSTD_PATIENCE", "1"))

MICROVM = "microvm"
Q35 = "q35"

MODULES = {"blk": "virtio_blk", "scsi": "virtio_scsi,sd_mod,sg", "nvme": "nvme"}
DEVICE_NUMBERS = {"blk": 2, "scsi": 8}  # virtio 1.3, 5

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None)


def stand_in():
    """True when the server under test is not vhostd but the peer the rig was proven against."""
    return os.path.basename(VHOSTD) == "qemu-storage-daemon"


def _die_with_parent():
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def start(argv, **how):
    """Popen in its own process group, which dies when this process does."""
    return subprocess.Popen(argv, start_new_session=True, preexec_fn=_die_with_parent, **how)


def kill_group(process):
    """End the process and all it started; harmless when it is gone."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def wait_until(is_true, seconds, what):
    deadline = time.monotonic() + seconds * PATIENCE
    while not is_true():
        if time.monotonic() > deadline:
            raise AssertionError("no %s after %g s" % (what, seconds * PATIENCE))
        time.sleep(0.01)


def tail(path, lines=40):
    with open(path, errors="replace") as stream:
        return "".join("    " + line for line in stream.readlines()[-lines:])


def is_listening(path):
    """True when a socket listens there. Asks the kernel: a trial connection could disturb."""
    with open("/proc/net/unix") as table:
        for line in table:
            fields = line.split()
            if len(fields) >= 8 and fields[7] == path and int(fields[3], 16) & 0x10000:
                return True
    return False


class Successor:
    """The process that a server was handed over to: a child of ours then, in the old one's group."""

    def __init__(self, child, group):
        self.child = child
        self.pid = group
        self.returncode = None

    def poll(self):
        if self.returncode is None:
            pid, status = os.waitpid(self.child, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout=None):
        deadline = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if deadline and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("the new process", timeout)
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number):
        os.kill(self.child, number)


class Server:
    """One vhostd with one disk. Options are those of --device, '_' for '-'.

    wrapper: a command line that the server's goes behind, to give it a world of its own.
    """

    kind = "blk"

    def __init__(self, room, disk, wrapper=(), **options):
        self.socket = os.path.join(str(room), "disk.sock")
        self.sockets = [self.socket]
        self.log = os.path.join(str(room), "server.log")
        self.disk = str(disk)
        self.rpc = os.path.join(str(room), "rpc.sock")
        self.wrapper = list(wrapper)
        self.options = options
        self.process = None

    def over_vfio_user(self):
        return self.options.get("transport", "vhost-user") == "vfio-user"

    def command(self):
        if not stand_in():
            device = {"socket": self.socket, "file": self.disk, **self.options}
            return [VHOSTD, "--device", "blk," + ",".join(
                "%s=%s" % (key.replace("_", "-"), value) for key, value in device.items())]
        read_only = self.options.get("read_only", "off")
        export = {"type": "vhost-user-blk", "id": "e", "node-name": "f", "addr.type": "unix",
                  "addr.path": self.socket, "num-queues": self.options.get("num_queues", 1),
                  "logical-block-size": self.options.get("block_size", 512),
                  "writable": "off" if read_only == "on" else "on"}
        node = {"node-name": "f", "filename": self.disk, "discard": "unmap",
                "read-only": read_only}
        return [VHOSTD, "--blockdev", "file," + ",".join("%s=%s" % pair for pair in node.items()),
                "--export", ",".join("%s=%s" % pair for pair in export.items())]

    def start(self):
        with open(self.log, "a") as log:
            self.process = start(self.wrapper + self.command(), stdin=subprocess.DEVNULL,
                                 stdout=log, stderr=log)
        try:
            wait_until(lambda: not self.alive() or is_listening(self.socket), 20, "socket")
            assert self.alive(), "the server ended:\n" + tail(self.log)
        except AssertionError:
            kill_group(self.process)
            raise
        return self

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        """SIGTERM, as its manager would; it has to drain and exit 0."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(20 * PATIENCE)
        except subprocess.TimeoutExpired:
            status = "none, it still runs"
        kill_group(self.process)
        assert status == 0, "after SIGTERM, exit status %s:\n%s" % (status, tail(self.log))

    def kill(self):
        """What kill -9, the OOM killer or a crash do to it."""
        kill_group(self.process)

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def call(self, method, **params):
        """The result of a call of the management socket (option rpc), or an AssertionError."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60 * PATIENCE)
            client.connect(self.rpc)
            client.sendall(json.dumps({"jsonrpc": "2.0", "id": 1, "method": method,
                                       "params": params}).encode())
            text = b""
            while True:
                text += client.recv(65536)
                try:
                    answer = json.loads(text)
                    break
                except ValueError:
                    assert text, "no answer to " + method
        assert "result" in answer, "%s: %s" % (method, answer)
        return answer["result"]

    def hand_over(self):
        """To a new process of the same binary, which is this server's from then on."""
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
        result = self.call("framework_hand_over")
        old, self.process = self.process, Successor(result["pid"], self.process.pid)
        assert old.wait(20 * PATIENCE) == 0, tail(self.log)
        assert self.alive(), "the new process ended:\n" + tail(self.log)
        return result

    def __enter__(self):
        return self.start()

    def __exit__(self, failed, *_):
        if failed or not self.alive():
            dead = not self.alive()
            kill_group(self.process)
            assert failed or not dead, "the server died:\n" + tail(self.log)
        else:
            self.stop()


class ScsiServer(Server):
    """One vhostd with one SCSI device.

    units: {(target, LUN): options}, e.g. {(0, 0): {"file": path, "serial": "ROSEBUD"}}. They and
    the device's options are in a JSON file, which vhostd reads again on reload().
    """

    kind = "scsi"

    def __init__(self, room, units, **options):
        super().__init__(room, None, **options)
        self.config = os.path.join(str(room), "config.json")
        self.units = dict(units)

    def command(self):
        device = {"type": "scsi", "socket": self.socket, **self.options}
        device = {key.replace("_", "-"): value for key, value in device.items()}
        device["targets"] = [{"target": target, "lun": lun, **unit}
                             for (target, lun), unit in self.units.items()]
        with open(self.config, "w") as stream:
            json.dump({"devices": [device]}, stream)
        return [VHOSTD, "-c", self.config]

    def plug(self, target, lun, **unit):
        """Shows one more logical unit to running guests."""
        self.units[target, lun] = unit
        self.command()
        self.reload()

    def unplug(self, target, lun):
        del self.units[target, lun]
        self.command()
        self.reload()


class NvmeServer(Server):
    """One vhostd with one NVMe subsystem, over vfio-user.

    namespaces: {NSID: options}. controllers: how many devices the subsystem has, each with a socket
    of its own (self.sockets); options are those of all of them. All is in a JSON file, which vhostd
    reads again on reload(); change namespaces, or ana[controller], before.
    """

    kind = "nvme"

    def __init__(self, room, namespaces, controllers=1, cores=None, **options):
        super().__init__(room, None, **options)
        self.config = os.path.join(str(room), "config.json")
        self.namespaces = dict(namespaces)
        self.cores = cores
        self.sockets = [self.socket] + ["%s.%d" % (self.socket, i) for i in range(1, controllers)]
        self.ana = ["optimized"] * controllers

    def over_vfio_user(self):
        return True

    def command(self):
        options = {key.replace("_", "-"): value for key, value in self.options.items()}
        devices = [{"type": "nvme", "socket": path, "subsystem": "rig", "ana": ana, **options}
                   for path, ana in zip(self.sockets, self.ana)]
        devices[0]["namespaces"] = [{"nsid": nsid, **namespace}
                                    for nsid, namespace in self.namespaces.items()]
        with open(self.config, "w") as stream:
            json.dump({"devices": devices, **({"cores": self.cores} if self.cores else {})}, stream)
        return [VHOSTD, "-c", self.config, "--rpc-socket", self.rpc]

    def reload(self):
        self.command()
        super().reload()


class Results(dict):
    """What the guest reported: name to "ok", "failed STATUS" or a value."""

    def __init__(self, log):
        super().__init__()
        self.log = log

    def __missing__(self, name):
        raise AssertionError("the guest did not get to '%s'; %s ends:\n%s"
                             % (name, self.log, tail(self.log)))

    def ok(self, *names):
        for name in names:
            assert self[name] == "ok", "'%s' %s in the guest; %s ends:\n%s" % (
                name, self[name], self.log, tail(self.log))


class Guest:
    """A running guest: its console, read by a thread into a log and into results."""

    def __init__(self, room, job, image, modules):
        self.room = str(room)
        self.log = os.path.join(self.room, "console.log")
        self.results = Results(self.log)
        self.questions = set()
        self.on_line = None
        self.process = None
        self.kernel = None
        self.modules = modules
        if image:
            self.kernel = os.path.join(image, "vmlinux")
            self.initrd = self._with_job(image, job)

    def _with_job(self, image, job):
        """The image's initramfs with /job behind it: the kernel unpacks one after the other."""
        folder = os.path.join(self.room, "job.d")
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, "job"), "w") as stream:
            stream.write(job)
        name = b"job\0"
        content = job.encode()
        head = b"070701" + b"".join(b"%08X" % field for field in (
            1, 0o100755, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)) + name
        end = b"070701" + b"%08X" * 13 % (0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 11, 0) + b"TRAILER!!!\0"
        path = os.path.join(self.room, "initrd")
        shutil.copyfile(os.path.join(image, "initramfs"), path)
        with open(path, "ab") as stream:
            for part in (head, content, end):
                stream.write(part + b"\0" * (-len(part) % 4))
        return path

    def command(self):
        raise NotImplementedError

    def start(self):
        self.process = start(self.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, cwd=self.room)
        self.changed = threading.Condition()
        self.ended = False
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def _read(self):
        with open(self.log, "w") as log:
            for raw in self.process.stdout:
                line = raw.decode(errors="replace").rstrip("\r\n")
                log.write(line + "\n")
                log.flush()
                if self.on_line:
                    self.on_line(line)
                with self.changed:
                    self._take(line)
                    self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def _take(self, line):
        # Not only at the start of a line: a kernel message may have been printed before it.
        match = re.search(r"@@ (.*?) (?:(ok|failed \d+)|= (.*)|(\?))$", line)
        if match is None:
            return
        name, outcome, value, question = match.groups()
        if question:
            self.questions.add(name)
        else:
            self.results[name] = outcome or value

    def _wait(self, is_true, seconds, what):
        with self.changed:
            self.changed.wait_for(lambda: self.ended or is_true(), seconds * PATIENCE)
            assert is_true(), "%s: not within %g s, or the guest ended; %s ends:\n%s" % (
                what, seconds * PATIENCE, self.log, tail(self.log))

    def result(self, name, seconds=30):
        """Wait until the guest has reported name."""
        self._wait(lambda: name in self.results, seconds, "result '%s'" % name)
        return self.results[name]

    def result_or_end(self, name, seconds=30):
        """Wait until the guest has reported name, or is no more."""
        self._wait(lambda: self.ended or name in self.results, seconds, "result '%s'" % name)

    def count(self, name, at_least, seconds=30):
        """Wait until a value that the guest reports again and again has got that far."""
        self._wait(lambda: int(self.results.get(name, 0)) >= at_least, seconds,
                   "'%s' of %d" % (name, at_least))

    def question(self, name, seconds=30):
        """Wait until the guest stands at `await name`."""
        self._wait(lambda: name in self.questions, seconds, "question '%s'" % name)

    def answer(self, name, seconds=30, text=""):
        """Let the guest go on from `await name`, which has text in $answer then."""
        self.question(name, seconds)
        self.questions.discard(name)
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def finish(self, seconds=60):
        """Wait until the guest has powered off; its results."""
        self._wait(lambda: self.ended, seconds, "power-off")
        self.process.wait(10)
        self.results.ok("end")
        return self.results

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        kill_group(self.process)


def image(with_fio=True, kernel=None):
    """scripts/guest-image, which builds or finds: the folder with kernel and initramfs."""
    argv = [os.path.join(ROOT, "scripts", "guest-image")]
    if not with_fio:
        argv.append("--without-fio")
    if kernel:
        argv += ["--kernel", kernel]
    return subprocess.run(argv, stdout=subprocess.PIPE, check=True, text=True).stdout.strip()


def _tsc_parameter():
    """The host's TSC rate, if the kernel tells: saves the guest a calibration."""
    done = subprocess.run(["dmesg"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    match = re.search(r"tsc: Detected (\d+)\.(\d{3}) MHz processor", done.stdout)
    return " tsc_early_khz=%s%s" % match.groups() if match else ""


class Qemu(Guest):
    """A Debian kernel under QEMU's own CPU emulation (TCG): needs no /dev/kvm.

    job: None leaves it to the firmware what to boot.
    machine: MICROVM (virtio-mmio, starts fastest) or Q35 (virtio-pci).
    sid: the folder of scripts/sid-tools, to have the QEMU of there.
    kernel: that of scripts/sid-tools kernel, to have the kernel of there.
    sockets: those of an NvmeServer's controllers that this guest has.
    reboot: the guest's reboots do not end it.
    parameters: more of the kernel's.
    memory: QEMU's object for it.
    device: more properties of the vhost-user device, '_' for '-' where it has that.
    """

    def __init__(self, room, server, job, machine=MICROVM, cpus=1, reconnect=False,
                 with_fio=False, sid=None, kernel=None, sockets=None, reboot=False, parameters="",
                 memory="memory-backend-memfd,share=on", **device):
        transport = "virtio_mmio" if machine == MICROVM else "virtio_pci"
        super().__init__(room, job, image(with_fio, kernel) if job else None,
                         transport + "," + MODULES[server.kind])
        self.server = server
        self.machine = machine
        self.cpus = cpus
        self.reconnect = reconnect
        self.sid = sid
        self.sockets = sockets
        self.reboot = reboot
        self.parameters = parameters
        self.memory = memory
        self.device = device

    def software(self):
        if not self.kernel:
            # Writing to that port is how a boot sector ends QEMU.
            return ["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]
        return ["-kernel", self.kernel, "-initrd", self.initrd,
                "-append", "console=ttyS0 quiet no_timer_check mitigations=off panic=-1 audit=0"
                " random.trust_cpu=on cryptomgr.notests ipv6.disable=1 rig.modules="
                + self.modules + _tsc_parameter() + " " + self.parameters]

    def command(self):
        return [os.path.join(self.sid or "", "qemu-system-x86_64"), "-nodefaults",
                "-no-user-config", *([] if self.reboot else ["-no-reboot"]), "-display", "none",
                "-serial", "stdio", "-cpu", "Nehalem", "-accel", "tcg,thread=multi", *self.board(),
                "-smp", str(self.cpus), "-m", "384M",
                "-object", self.memory + ",id=mem,size=384M",
                "-machine", "memory-backend=mem", *self.disks(), *self.software()]

    def board(self):
        return {MICROVM: ["-M", "microvm,rtc=on", "-global", "virtio-mmio.force-legacy=false"],
                 Q35: ["-M", "q35,smm=off,hpet=off,sata=off,usb=off,vmport=off"]}[self.machine]

    def disks(self):
        kind = self.server.kind
        if self.server.over_vfio_user():
            # vfio-user-pci takes its socket in this form only.
            return [word for path in self.sockets or self.server.sockets
                    for word in ("-device", json.dumps({"driver": "vfio-user-pci", "socket":
                                                        {"type": "unix", "path": path},
                                                        **self.device}))]
        disk = "vhost-user-" + kind + ("-pci" if self.machine == Q35 else "")
        for key, value in {"num_queues": 1, **self.device}.items():
            # QEMU's vhost-user-scsi spells them with '_'.
            disk += ",%s=%s" % (key.replace("_", "-") if kind == "blk" else key, value)
        chardev = "socket,id=c0,path=" + self.server.socket
        if self.reconnect:
            chardev += ",reconnect-ms=100" if self.sid else ",reconnect=1"
        return ["-chardev", chardev, "-device", disk + ",chardev=c0"]


class Uml(Guest):
    """User Mode Linux: another kernel, with a vhost-user front-end of its own inside."""

    def __init__(self, room, server, job):
        super().__init__(room, job, image(with_fio=False), MODULES[server.kind])
        self.server = server

    def command(self):
        device = "%s:%d" % (self.server.socket, DEVICE_NUMBERS[self.server.kind])
        return [UML, "mem=256M", "initrd=" + self.initrd, "con=null", "con0=fd:0,fd:1", "quiet",
                "virtio_uml.device=" + device, "rig.modules=" + self.modules]


def sid_tools(*what):
    """scripts/sid-tools, which fetches or finds: (its folder or None, what it said)."""
    done = subprocess.run([os.path.join(ROOT, "scripts", "sid-tools"), *what],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
    return (done.stdout.strip() if done.returncode == 0 else None), done.stderr.strip()


def sparse(path, size):
    """A new image of that size that takes no room; its path."""
    with open(path, "wb") as stream:
        stream.truncate(size)
    return str(path)


def allocated(path):
    """Bytes of the file system that the image really takes."""
    return os.stat(path).st_blocks * 512


def tool(*argv, **how):
    """Run a host tool; its output and errors, or an AssertionError with them."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                          env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
                          **how)
    assert done.returncode == 0, "%s: status %d\n%s" % (
        " ".join(argv), done.returncode, done.stdout.decode(errors="replace"))
    return done.stdout


if __name__ == "__main__":
    sys.exit("a module; run: /usr/bin/python3 -m pytest tests/guest")
