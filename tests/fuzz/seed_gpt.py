#!/usr/bin/python3
"""Writes small disks with partition tables into tests/fuzz/corpus/fuzz_gpt (or a folder).

A seed is a whole input of fuzz_gpt: one byte of flags and the disk. UEFI 2.10, 5.3.
"""

import os
import struct
import sys
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
LARGE_BLOCKS, SIGN, SIGN_ENTRIES = 1, 2, 4
LINUX = bytes.fromhex("af3dc60f838472478e793d69d8477de4")


def entry(first, last, name):
    return (LINUX + bytes(range(16)) + struct.pack("<QQQ", first, last, 0) +
            name.encode("utf-16-le").ljust(72, b"\0"))


def header(lba, other, blocks, entries_lba, entries):
    def pack(crc):
        return (struct.pack("<8sIIIIQQQQ", b"EFI PART", 0x10000, 92, crc, 0, lba, other, 4,
                            blocks - 4) + bytes(range(16)) +
                struct.pack("<QIII", entries_lba, len(entries) // 128, 128, zlib.crc32(entries)))
    return pack(zlib.crc32(pack(0)))


def disk(block, blocks, parts):
    entries = b"".join(parts).ljust(512, b"\0")
    mbr = bytearray(block)
    mbr[446 + 4], mbr[510], mbr[511] = 0xee, 0x55, 0xaa
    primary = header(1, blocks - 1, blocks, 2, entries).ljust(block, b"\0")
    backup = header(blocks - 1, 1, blocks, blocks - 3, entries).ljust(block, b"\0")
    table = entries.ljust(block, b"\0")
    free = bytes(block * (blocks - 6))
    return bytes(mbr) + primary + table + free + table + bytes(block) + backup


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "corpus", "fuzz_gpt")
    os.makedirs(out, exist_ok=True)
    two = [entry(4, 4, "root"), entry(5, 6, "\U0001f600 data")]
    seeds = {
        "two": bytes([0]) + disk(512, 10, two),
        "signed": bytes([SIGN | SIGN_ENTRIES]) + disk(512, 10, two),
        "overlap": bytes([SIGN | SIGN_ENTRIES]) + disk(512, 10, [entry(4, 5, "a"), entry(5, 6, "b")]),
        "large": bytes([LARGE_BLOCKS | SIGN | SIGN_ENTRIES]) + disk(4096, 10, two),
    }
    for name, seed in seeds.items():
        with open(os.path.join(out, name), "wb") as f:
            f.write(seed)


if __name__ == "__main__":
    main()
