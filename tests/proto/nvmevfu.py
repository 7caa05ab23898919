"""A small vfio-user client with an NVMe driver behind it: registers, an admin queue, no I/O.

    with Controller(path) as c:
        c.enable()
        assert c.namespaces() == [1]

It polls: no interrupts. Written from the vfio-user and NVMe specifications.
"""

import array
import mmap
import os
import socket
import struct
import time

TIMEOUT_S = 20
VERSION, DMA_MAP, REGION_READ, REGION_WRITE = 1, 2, 9, 10
REPLY, ERROR = 1, 0x20
CAP, VS, CC, CSTS, AQA, ASQ, ACQ, DOORBELLS = 0, 8, 0x14, 0x1c, 0x24, 0x28, 0x30, 0x1000
ASYNC_EVENT, IDENTIFY, GET_LOG, SET_FEATURES = 0x0c, 0x06, 0x02, 0x09
ENTRIES = 16
SQ_AT, CQ_AT, DATA_AT, MEMORY = 0, 0x1000, 0x2000, 0x10000


class Refused(Exception):
    """The server's answer was an error."""


class Controller:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT_S)
        self.socket.connect(path)
        self.sent = 0
        memory = os.memfd_create("guest")
        os.ftruncate(memory, MEMORY)
        self.memory = mmap.mmap(memory, MEMORY)
        self.tail = self.head = self.cid = 0
        self.phase = 1
        self.events = []
        try:
            self.ask(VERSION, struct.pack("<HH", 0, 0) +
                     b'{"capabilities": {"max_msg_fds": 8, "max_data_xfer_size": 1048576}}\0')
            self.ask(DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, 0, MEMORY), memory)
        finally:
            os.close(memory)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def _take(self, count):
        parts = b""
        while len(parts) < count:
            part = self.socket.recv(count - len(parts))
            if not part:
                raise ConnectionError("the server hung up")
            parts += part
        return parts

    def ask(self, command, payload, fd=None):
        self.sent = (self.sent + 1) % 0x10000
        rights = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        self.socket.sendmsg([struct.pack("<HHIII", self.sent, command, 16 + len(payload), 0, 0) +
                             payload], rights)
        number, answered, size, flags, error = struct.unpack("<HHIII", self._take(16))
        reply = self._take(size - 16)
        assert (number, answered, flags & 0xf) == (self.sent, command, REPLY)
        if flags & ERROR:
            raise Refused(os.strerror(error))
        return reply

    # ---- registers ----

    def read(self, offset, form):
        size = struct.calcsize(form)
        reply = self.ask(REGION_READ, struct.pack("<QII", offset, 0, size))
        return struct.unpack("<" + form, reply[16:])[0]

    def write(self, offset, form, value):
        self.ask(REGION_WRITE, struct.pack("<QII", offset, 0, struct.calcsize(form)) +
                 struct.pack("<" + form, value))

    def config(self, offset, form):
        reply = self.ask(REGION_READ, struct.pack("<QII", offset, 7, struct.calcsize(form)))
        return struct.unpack("<" + form, reply[16:])[0]

    def enable(self):
        self.write(AQA, "I", (ENTRIES - 1) << 16 | (ENTRIES - 1))
        self.write(ASQ, "Q", SQ_AT)
        self.write(ACQ, "Q", CQ_AT)
        self.write(CC, "I", 4 << 20 | 6 << 16 | 1)
        self._until(lambda: self.read(CSTS, "I") & 1, "ready")

    def _until(self, true, what):
        end = time.monotonic() + TIMEOUT_S
        while not true():
            assert time.monotonic() < end, "not " + what
            time.sleep(0.002)

    # ---- the admin queue ----

    def submit(self, opcode, nsid=0, cdw10=0, cdw11=0):
        self.cid += 1
        sqe = struct.pack("<BBHIQQQQ6I", opcode, 0, self.cid, nsid, 0, 0, DATA_AT, 0,
                          cdw10, cdw11, 0, 0, 0, 0)
        self.memory[SQ_AT + self.tail * 64:SQ_AT + self.tail * 64 + 64] = sqe
        self.tail = (self.tail + 1) % ENTRIES
        self.write(DOORBELLS, "I", self.tail)
        return self.cid

    def _completion(self):
        """(cid, dw0, status) or None."""
        at = CQ_AT + self.head * 16
        dw0, _, _, _, cid, status = struct.unpack("<IIHHHH", self.memory[at:at + 16])
        if status & 1 != self.phase:
            return None
        self.head = (self.head + 1) % ENTRIES
        self.phase ^= self.head == 0
        self.write(DOORBELLS + 4, "I", self.head)
        return cid, dw0, status >> 1 & 0x7ff

    def _completed(self, cid):
        end = time.monotonic() + TIMEOUT_S
        while True:
            found = self._completion()
            if found and found[0] == cid:
                return found[1:]
            if found:
                self.events.append(found[1])
            else:
                assert time.monotonic() < end, "no completion"
                time.sleep(0.002)

    def admin(self, opcode, **words):
        """The data that the command gave."""
        self.memory[DATA_AT:DATA_AT + 4096] = bytes(4096)
        _, status = self._completed(self.submit(opcode, **words))
        if status:
            raise Refused("status 0x%x" % status)
        return self.memory[DATA_AT:DATA_AT + 4096]

    def identify(self, cns, nsid=0):
        return self.admin(IDENTIFY, nsid=nsid, cdw10=cns)

    def namespaces(self):
        numbers = struct.unpack("<1024I", self.identify(2))
        return [n for n in numbers if n]

    def size(self, nsid):
        """Blocks of the namespace."""
        return struct.unpack_from("<Q", self.identify(0, nsid))[0]

    def listen(self):
        """One asynchronous event may come from now on: namespaces and access states."""
        self.admin(SET_FEATURES, cdw10=0x0b, cdw11=1 << 8 | 1 << 11)
        self.submit(ASYNC_EVENT)

    def event(self):
        """Waits for it; its type, information and log page."""
        def come():
            found = self._completion()
            if found:
                self.events.append(found[1])
            return self.events
        self._until(come, "told of an event")
        dw0 = self.events.pop(0)
        return dw0 & 7, dw0 >> 8 & 0xff, dw0 >> 16 & 0xff

    def log(self, page, size=4096):
        return self.admin(GET_LOG, nsid=0xffffffff, cdw10=(size // 4 - 1) << 16 | page)

    def ana(self):
        """The access state of the only group (base 5.14.1.12)."""
        page = self.log(12)
        assert struct.unpack_from("<H", page, 8)[0] == 1
        return page[16 + 16] & 0xf
