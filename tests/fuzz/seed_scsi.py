#!/usr/bin/python3
"""Writes a seed for each row of src/scsi/cdb.def into tests/fuzz/corpus/fuzz_scsi (or a folder).

A seed is a whole input of fuzz_scsi: unit attentions taken, what the command builds on (a
registration, a token, a copy), the command with plausible fields and parameter data.
"""

import os
import re
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROW = re.compile(r"CDB\((\w+), (0x[0-9a-f]+), (CDB_NO_SA|0x[0-9a-f]+), (\d+), ([^,]+), (\w+),\s*"
                 r'"([^"]*)"\)', re.S)
NEXUS_B, UNIT_1, NO_WAIT, PIECES, OTHER = 1, 2, 4, 16, 128
KEY_A, KEY_B = 0xaaaa, 0xbbbb


def step(cdb, out=b"", out_bytes=None, in_bytes=0, how=0, tag=0):
    return struct.pack("<BBBBHH", how, len(cdb), tag, len(out),
                       len(out) if out_bytes is None else out_bytes, in_bytes) + cdb + out


def other(kind, arg=0, how=0, tag=0):
    return step(bytes([kind, arg]), how=how | OTHER, tag=tag)


READY = b"".join(step(bytes(6), how=n | u) for n in (0, NEXUS_B) for u in (0, UNIT_1))


def cdb_of(opcode, sa, length, fields):
    c = bytearray(length)
    c[0] = opcode
    if sa is not None:
        c[1] = sa
    for at, value in fields.items():
        c[at:at + len(value)] = value
    return bytes(c)


def be(value, size):
    return value.to_bytes(size, "big")


def pr_list(key, sa_key, aptpl=0):
    return be(key, 8) + be(sa_key, 8) + bytes([0, 0, 0, 0, aptpl, 0, 0, 0])


def pr_out(sa, key, sa_key, kind=0, how=0, aptpl=0):
    return step(cdb_of(0x5f, sa, 10, {2: bytes([kind]), 5: be(24, 4)}),
                pr_list(key, sa_key, aptpl), how=how)


REGISTERED = (pr_out(0, 0, KEY_A) + pr_out(0, 0, KEY_B, how=NEXUS_B))


def naa_target(naa):
    return bytes([0xe4, 0, 0, 0, 1, 3, 0, 8]) + naa + bytes(12) + bytes([0, 0, 2, 0])


def copy_list(lid4):
    targets = naa_target(be(0x3 << 60, 8)) * 2
    segment = bytes([0x02, 0]) + be(24, 2) + be(0, 2) + be(1, 2) + be(0, 2) + be(4, 2) + \
        be(0, 8) + be(16, 8)
    if lid4:
        head = bytes([1, 0]) + be(0x20, 2) + bytes(12) + be(1, 4)
        head = head.ljust(42, b"\0") + be(len(targets), 2) + be(len(segment), 2) + be(0, 2)
    else:
        head = bytes([1, 0]) + be(len(targets), 2) + bytes(4) + be(len(segment), 4) + be(0, 4)
    return head + targets + segment


TOKEN_RANGE = be(0x1e, 2) + bytes([0, 0]) + be(60, 4) + bytes(6) + be(16, 2) + be(0, 8) + \
    be(8, 4) + bytes(4)
USE_TOKEN = be(0x226, 2) + bytes([0, 0]) + bytes(4)


def around(name, opcode, sa, length):
    """(steps before, fields of the CDB, data-out, data-in bytes, steps after)"""
    lba_len = {10: {8: b"\1"}, 12: {9: b"\1"}, 16: {13: b"\1"}, 6: {4: b"\1"}}[length]
    if opcode in (0x08, 0x28, 0x88, 0xa8):
        return b"", lba_len, b"", 512, b""
    if name.startswith("COMPARE"):
        return b"", {13: b"\1"}, bytes(64), 0, b""
    if name.startswith(("WRITE_USING", "POPULATE")):
        data = USE_TOKEN if name.startswith("WRITE") else TOKEN_RANGE
        return b"", {6: be(1, 4), 10: be(len(data), 4)}, data, 0, b""
    if opcode in (0x0a, 0x2a, 0x8a, 0xaa, 0x2e, 0x8e, 0xae, 0x8b, 0x9c, 0x41, 0x93):
        return b"", lba_len, b"\x5a" * 64, 0, b""
    if opcode in (0x2f, 0x8f, 0xaf):
        return b"", {**lba_len, 1: b"\2"}, bytes(16), 0, b""
    if name == "UNMAP":
        data = be(22, 2) + be(16, 2) + bytes(4) + be(0, 8) + be(8, 4) + bytes(4)
        return b"", {7: be(len(data), 2)}, data, 0, b""
    if name.startswith("MODE_SELECT"):
        head = bytes(4) if length == 6 else bytes(8)
        data = head + bytes([0x08, 0x12, 0x04]) + bytes(17)
        at = {4: bytes([len(data)])} if length == 6 else {7: be(len(data), 2)}
        return b"", {1: b"\x10", **at}, data, 0, b""
    if name.startswith("SANITIZE_OVERWRITE"):
        return b"", {7: be(8, 2)}, bytes([1, 0, 0, 4, 1, 2, 3, 4]), 0, b""
    if opcode == 0x5e:
        return REGISTERED + pr_out(1, KEY_A, 0, 5), {7: be(255, 2)}, b"", 255, b""
    if opcode == 0x5f:
        move = pr_list(KEY_A, KEY_B)[:17] + bytes([0, 0, 1]) + be(24, 4)
        data = move + b"\x45\0\0\x14iqn.fuzz:b".ljust(24, b"\0") if sa == 7 else \
            pr_list(KEY_A, KEY_B, 1 if sa == 0 else 0)
        return REGISTERED + pr_out(1, KEY_A, 0, 1), {2: b"\1", 5: be(len(data), 4)}, data, 0, \
            step(bytes(6), how=NEXUS_B)
    if name.startswith("EXTENDED_COPY"):
        data = copy_list(sa == 1)
        return b"", {10: be(len(data), 4)}, data, 0, b""
    if opcode == 0x84:
        before = step(cdb_of(0x83, 0, 16, {10: be(len(copy_list(False)), 4)}), copy_list(False))
        before += step(cdb_of(0x83, 0x10, 16, {6: be(1, 4), 10: be(len(TOKEN_RANGE), 4)}),
                       TOKEN_RANGE)
        at = {2: be(1, 4)} if sa in (5, 6, 7) else {2: b"\1"}
        return before, {**at, 10: be(1024, 4)}, b"", 1024, b""
    if name == "SET_TARGET_PORT_GROUPS":
        return b"", {6: be(8, 4)}, bytes(4) + bytes([2, 0, 0, 1]), 0, \
            step(bytes(6)) + step(cdb_of(0xa3, 0x0a, 12, {6: be(64, 4)}), in_bytes=64)
    alloc = {6: {4: b"\xff"}, 10: {7: be(255, 2)}, 12: {6: be(255, 4)}, 16: {10: be(255, 4)}}
    return b"", alloc[length], b"", 255, b""


def main():
    to = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "corpus/fuzz_scsi")
    os.makedirs(to, exist_ok=True)
    with open(os.path.join(HERE, "../../src/scsi/cdb.def"), encoding="ascii") as f:
        rows = ROW.findall(f.read())
    for world, (name, opcode, sa, length, _, _, _) in enumerate(rows):
        opcode, length = int(opcode, 16), int(length)
        sa = None if sa == "CDB_NO_SA" else int(sa, 16)
        before, fields, out, in_bytes, after = around(name, opcode, sa, length)
        cdb = cdb_of(opcode, sa, length, fields)
        out_bytes = 512 if out and len(out) in (16, 64) else len(out)
        if name == "COMPARE_AND_WRITE":
            out_bytes = 1024
        text = bytes([world % 16]) + READY + before
        text += step(cdb, out, out_bytes, in_bytes, how=PIECES)
        text += step(cdb, out, out_bytes, in_bytes, how=NEXUS_B | UNIT_1) + after
        with open(os.path.join(to, name.lower()), "wb") as f:
            f.write(text)
    for page in (0x00, 0x80, 0x83, 0x85, 0x86, 0x87, 0x88, 0x8f, 0xb0, 0xb1, 0xb2):
        cdb = bytes([0x12, 1, page, 1, 0, 0])
        with open(os.path.join(to, f"vpd_{page:02x}"), "wb") as f:
            f.write(bytes([0]) + step(cdb, in_bytes=256) + step(cdb, in_bytes=7))
    for page in (0x01, 0x02, 0x08, 0x0a, 0x1c, 0x3f):
        with open(os.path.join(to, f"mode_{page:02x}"), "wb") as f:
            f.write(bytes([1]) + READY + b"".join(
                step(cdb_of(0x5a, None, 10, {2: bytes([pc << 6 | page]), 7: be(255, 2)}),
                     in_bytes=255) for pc in range(4)))
    write = step(cdb_of(0x2a, None, 10, {8: b"\1"}), b"x", 512, how=NO_WAIT, tag=5)
    for fn in range(9):
        with open(os.path.join(to, f"tmf_{fn}"), "wb") as f:
            f.write(bytes([1]) + READY + other(4, how=NO_WAIT) + write * 3 +
                    other(0, fn, how=NO_WAIT, tag=5) + other(5) + step(bytes(6)))
    with open(os.path.join(to, "plug"), "wb") as f:
        f.write(bytes([1]) + READY + write + other(1, how=NO_WAIT) + step(bytes(6)) + other(2) +
                step(bytes(6)) + other(3) + other(6, 7) + step(bytes(6)) * 2)


if __name__ == "__main__":
    main()
