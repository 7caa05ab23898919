"""Starting and stopping the servers that the bench compares, and asking /proc about them."""

import json
import os
import resource
import signal
import subprocess
import time

QSD = "qemu-storage-daemon"


def raise_nofile():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def size_bytes(text):
    units = {"K": 10, "M": 20, "G": 30}
    if text[-1] in units:
        return int(text[:-1]) << units[text[-1]]
    return int(text)


def vhostd_argv(binary, sock, disk, queues=4, spin_us=None, cores=1):
    """disk is a pair such as ("null", "1G"), ("ram", "256M") or ("file", PATH)."""
    device = f"blk,socket={sock},{disk[0]}={disk[1]},num-queues={queues}"
    if spin_us is not None:
        device += f",spin-us={spin_us}"
    return [binary, "--cores", str(cores), "--device", device]


def vhostd_bdev_argv(binary, sock, disk, cores=1):
    """The null disk as a bdev of the management socket, with one queue: it has its handle before it."""
    folder, name = os.path.split(sock)
    rows = [("bdev", "bdev_null_create", {"name": "Null0", "block_size": 512,
                                          "num_blocks": size_bytes(disk[1]) // 512}),
            ("vhost_blk", "vhost_create_blk_controller", {"ctrlr": name, "dev_name": "Null0"})]
    config = os.path.join(folder, "config.json")
    with open(config, "w") as f:
        json.dump({"subsystems": [{"subsystem": s, "config": [{"method": m, "params": p}]}
                                  for s, m, p in rows]}, f)
    return [binary, "--cores", str(cores), "-c", config, "--socket-dir", folder,
            "-r", os.path.join(folder, "rpc.sock")]


def vhostd_scsi_argv(binary, sock, disk, queues=4, cores=1, targets=1):
    """The same disk as LUN 0 of so many targets."""
    device = f"scsi,socket={sock},num-queues={queues}"
    for target in range(targets):
        device += f",target={target}:{disk[0]}={disk[1]}"
    return [binary, "--cores", str(cores), "--device", device]


def vhostd_nvme_argv(binary, sock, disk, queues=4, cores=1, transport="vfio-user", mapped=True):
    """The same disk as namespace 1; mapped: the client writes doorbells to a page of BAR 0."""
    device = f"nvme,socket={sock},transport={transport},num-queues={queues},queue-size=2048"
    if transport == "vfio-user":
        device += f",doorbells={'mapped' if mapped else 'trapped'}"
    device += f",ns=1:{disk[0]}={disk[1]}"
    return [binary, "--cores", str(cores), "--device", device]


def qsd_argv(sock, disk, queues=4):
    """The peer; ram is a tmpfs file there only when the caller gives one."""
    kind, what = disk
    if kind == "file":
        node = f"driver=file,node-name=n,filename={what},aio=io_uring,cache.direct=on"
    else:
        node = f"driver=null-co,node-name=n,size={size_bytes(what)},read-zeroes=off"
    export = ("type=vhost-user-blk,id=e,addr.type=unix,node-name=n,writable=on,"
              f"addr.path={sock},num-queues={queues}")
    return [QSD, "--blockdev", node, "--export", export]


class Server:
    """One running server; `with` stops it, by signal and then by force."""

    def __init__(self, argv, sock, cpus=None, env=None, limit_s=60):
        self.argv, self.sock = argv, sock

        def prepare():
            raise_nofile()
            if cpus:
                os.sched_setaffinity(0, cpus)

        if os.path.exists(sock):
            os.unlink(sock)
        start = time.monotonic()
        self.proc = subprocess.Popen(argv, preexec_fn=prepare, env=env,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not listening(sock):
            if self.proc.poll() is not None:
                raise RuntimeError(f"{argv[0]} ended: {self.proc.stderr.read().decode()[-500:]}")
            if time.monotonic() - start > limit_s:
                self.stop()
                raise RuntimeError(f"{argv[0]}: nothing listens on {sock} after {limit_s} s")
            time.sleep(0.0005)
        self.start_ms = (time.monotonic() - start) * 1000
        self.pid = self.proc.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self, limit_s=10):
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
            try:
                self.proc.wait(limit_s)
            except subprocess.TimeoutExpired:
                self.proc.kill()
                self.proc.wait()
        self.proc.stderr.close()

    def rss_mib(self):
        for line in open(f"/proc/{self.pid}/status"):
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return None

    def cpu_s(self):
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            try:
                with open(f"/proc/{self.pid}/task/{task}/schedstat") as f:
                    total += int(f.read().split()[0])
            except FileNotFoundError:
                continue
        return total / 1e9


def listening(path):
    """True once a socket listens there; looks only, a connection would be a front-end."""
    with open("/proc/net/unix") as table:
        for line in table:
            # Num RefCount Protocol Flags Type St Inode Path; flag 0x10000: listening
            words = line.split()
            if len(words) > 7 and words[7] == path and int(words[3], 16) & 0x10000:
                return True
    return False
