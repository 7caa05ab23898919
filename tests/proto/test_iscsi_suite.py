"""libiscsi's conformance suite on a thin LUN: its SCSI tests, with no guest, through iscsi-gate.

The suite calls a test that it skipped passed. Here such a test is a skip, and must be in SKIPS.
"""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from conftest import (GATE, HERE, REPORTS, SGVU, SID_TOOLS_TIMEOUT_S, Daemon, sgvu_env)

RUN_TIMEOUT_S = 60
REAL_PASSES_MIN = 190
BLOCK_SIZES = (512, 4096)
LUN_BYTES = 512 << 20  # READ(6) names no more blocks of 512 bytes; SANITIZE writes them all
INITIATORS = ("iqn.2026-01.test:one", "iqn.2026-01.test:two")

ONE_BLOCK = "wants several logical blocks in a physical one; GetLBAStatus wants one"
NO_ZERO_BLOCKS = "WSNZ is 1: that 0 blocks are refused was tested, what they would do is not"
CRYPTO_ERASE = "no back-end has a key to forget, so CRYPTO ERASE is not offered"

# Test: why the suite cannot run it here.
SKIPS = {
    "CompareAndWrite.InvalidDataOutSize": ONE_BLOCK,
    "MultipathIO.CompareAndWriteAsync": "wants two iSCSI paths at a time",
    "MultipathIO.Reset": "wants two iSCSI paths at a time",
    "ReadDefectData10.Simple": "READ DEFECT DATA is not in the device's command set",
    "ReadDefectData12.Simple": "READ DEFECT DATA is not in the device's command set",
    "ReadOnly.ReadOnlySBC": "all of it but UNMAP, which a read-only unit does not offer",
    "Sanitize.CryptoErase": CRYPTO_ERASE,
    "Sanitize.Readonly": CRYPTO_ERASE,
    "Sanitize.Reservations": CRYPTO_ERASE,
    "Sanitize.Reset": "wants a SANITIZE of many seconds, and then sleeps for a minute",
    "StartStopUnit.NoLoej": "a removable medium; then it wants a stopped unit to be ready",
    "StartStopUnit.PwrCnd": "a removable medium; then it wants reserved power conditions taken",
    "WriteAtomic16.VPD": "the unit has no alignment or granularity of atomic writes",
    "WriteSame10.InvalidDataOutSize": ONE_BLOCK,
    "WriteSame10.UnmapUnaligned": ONE_BLOCK,
    "WriteSame10.ZeroBlocks": NO_ZERO_BLOCKS,
    "WriteSame16.InvalidDataOutSize": ONE_BLOCK,
    "WriteSame16.UnmapUnaligned": ONE_BLOCK,
    "WriteSame16.ZeroBlocks": NO_ZERO_BLOCKS,
}

# Tests that skip on an ordinary unit run on another.
OTHER_UNITS = {"NoMedia": "removable", "PreventAllow": "removable",
               "StartStopUnit.Simple": "removable", "ReadOnly": "read-only"}
UNITS = {"ordinary": "", "removable": ":removable=on", "read-only": ":read-only=on"}

# Run without the flag that lets it do its work: see SKIPS.
NO_SANITIZE = {"Sanitize.Reset"}


@pytest.fixture(scope="module")
def suite():
    """The suite's command, of Debian sid: Debian 12's is older and crashes on some tests."""
    found = subprocess.run([os.path.join(HERE, "../../scripts/sid-tools")], text=True,
                           capture_output=True, timeout=SID_TOOLS_TIMEOUT_S, check=False)
    if found.returncode:
        pytest.skip(found.stderr.strip())
    return os.path.join(found.stdout.strip(), "iscsi-test-cu")


def families(suite):
    """{family: its tests} of what the suite knows about SCSI, as opposed to iSCSI."""
    listed = subprocess.run([suite, "--list"], text=True, capture_output=True, timeout=20,
                            check=True)
    tests = {}
    for line in listed.stdout.split():
        parts = line.split(".")
        if parts[0] == "SCSI" and len(parts) == 3:
            tests.setdefault(parts[1], []).append(parts[2])
    return tests


def runs(family, names):
    """(--test, the tests, the unit, may they sanitize): at most a family a run, so that a crash
    loses no more."""
    groups = {}
    for name in names:
        test = f"{family}.{name}"
        unit = OTHER_UNITS.get(test, OTHER_UNITS.get(family, "ordinary"))
        groups.setdefault((unit, test not in NO_SANITIZE), []).append(name)
    for (unit, sanitize), some in groups.items():
        yield ",".join(f"SCSI.{family}.{name}" for name in some), some, unit, sanitize


class Unit:
    """A thin LUN that two devices show, and the gate to it. The gate is not started here."""

    def __init__(self, folder, kind, block_size):
        disk = os.path.join(folder, kind)
        self.sockets = [disk + "-s0", disk + "-s1"]
        self.gate = self.url = None
        with open(disk, "wb") as image:
            image.truncate(LUN_BYTES)
        unit = (f"target=0:file={disk}:block-size={block_size}"
                f":physical-block-size={block_size}{UNITS[kind]}")
        self.devices = [x for s in self.sockets for x in ("--device", f"scsi,socket={s},{unit}")]

    def open_gate(self):
        self.gate = subprocess.Popen([GATE, "0", "0", *map("=".join, zip(INITIATORS, self.sockets))],
                                     stdout=subprocess.PIPE, text=True)
        port = self.gate.stdout.readline().strip()
        self.url = f"iscsi://127.0.0.1:{port}/iqn.2026-01.test:t/0"

    def close_gate(self):
        if self.gate:
            self.gate.kill()
            self.gate.wait()
            self.gate.stdout.close()


def run_suite(suite, tests, sanitize, env, *devices):
    """What one run said."""
    argv = [suite, "--dataloss", "--Verbose-scsi", "-i", INITIATORS[0], "-I", INITIATORS[1], "--test=" + tests,
            *(["--allow-sanitize"] if sanitize else []), *devices]
    try:
        run = subprocess.run(argv, env=env, text=True, errors="replace", stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, timeout=RUN_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"").decode(errors="replace") + "\nTIMED OUT"
    return run.stdout + ("" if run.returncode >= 0 else f"\nSIGNAL {-run.returncode}")


def outcomes(said, names):
    """{test: (outcome, its output)}; a test that did not come to its end has failed."""
    found = {}
    ends = r"(?ms)^ *Test: (\S+) \.\.\.(.*?)(?<!\[)(passed|FAILED)"
    for name, text, end in re.findall(ends, said):
        skipped = re.search(r"\[SKIPP|Skipping test", text)
        found[name] = ("failed" if end == "FAILED" else "skipped" if skipped else "passed", text)
    return {name: found.get(name, ("failed", "not run\n" + said)) for name in names}


def run_all(suite, folder, block_size):
    """{"Family.Test": (outcome, output)}."""
    units = {kind: Unit(folder, kind, block_size) for kind in UNITS}
    daemon = Daemon([x for unit in units.values() for x in unit.devices],
                    os.path.join(folder, "log"))
    found = {}
    try:
        for unit in units.values():
            for socket in unit.sockets:
                daemon.wait_listening(socket)
            unit.open_gate()
        paths = units["ordinary"].sockets
        nodes = sgvu_env({900: (paths[0], 0, 0), 901: (paths[1], 0, 0)}, "SID_PRELOAD")
        for family, names in families(suite).items():
            for tests, some, kind, sanitize in runs(family, names):
                # Two paths at once: to the gate, both would be the first initiator's.
                where = ((nodes, "/dev/sg900", "/dev/sg901") if family == "MultipathIO"
                         else (None, units[kind].url))
                said = run_suite(suite, tests, sanitize, *where)
                for name, result in outcomes(said, some).items():
                    found[f"{family}.{name}"] = result
        assert daemon.end() == 0, daemon.said()
    finally:
        for unit in units.values():
            unit.close_gate()
        daemon.kill()
    assert not any(report in daemon.said() for report in REPORTS), daemon.said()
    return found


@pytest.fixture(scope="module")
def all_results(suite, tmp_path_factory):
    """By block size; they run at the same time, because some tests sleep for seconds."""
    assert os.path.exists(GATE) and os.path.exists(SGVU)
    with ThreadPoolExecutor() as pool:
        runs = {size: pool.submit(run_all, suite, str(tmp_path_factory.mktemp("suite")), size)
                for size in BLOCK_SIZES}
        return {size: run.result() for size, run in runs.items()}


@pytest.fixture(scope="module", params=BLOCK_SIZES)
def results(request, all_results):
    tell(request, all_results[request.param])
    return all_results[request.param]


def which(found, outcome):
    return [name for name, result in found.items() if result[0] == outcome]


def tell(request, found):
    """Counts and skips, whether or not a test fails."""
    terminal = request.config.pluginmanager.getplugin("terminalreporter")
    counts = ", ".join(f"{len(which(found, x))} {x}" for x in ("passed", "failed", "skipped"))
    terminal.write_line(f"\niscsi-test-cu, {request.param}-byte blocks: {counts}")
    for name in which(found, "skipped"):
        terminal.write_line(f"    skipped {name}: {SKIPS.get(name, 'NOT IN THE TABLE')}")


def test_no_test_of_the_suite_fails(results):
    failed = which(results, "failed")
    assert not failed, "\n".join(f"{name}: {results[name][1][:2000]}" for name in failed)


def test_enough_tests_really_pass(results):
    assert len(which(results, "passed")) >= REAL_PASSES_MIN


def test_each_skip_has_its_reason(results):
    unknown = set(which(results, "skipped")) - set(SKIPS)
    assert not unknown, "\n".join(f"{name}: {results[name][1][:2000]}" for name in sorted(unknown))


def test_no_reason_is_given_for_a_test_that_runs(results):
    assert not set(SKIPS) - set(which(results, "skipped"))
