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

# Test: why the suite cannot run it here.
SKIPS = {
}

# Run without the flag that lets it do its work: why.
NO_SANITIZE = {
    "Sanitize.Reset": "wants a SANITIZE of many seconds, and then sleeps for a minute",
}


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
    """(--test, the tests, may they sanitize): a family a run, so that a crash loses no more."""
    apart = [name for name in names if f"{family}.{name}" in NO_SANITIZE]
    if not apart:
        yield f"SCSI.{family}", names, True
        return
    for some in ([name for name in names if name not in apart], apart):
        yield ",".join(f"SCSI.{family}.{name}" for name in some), some, some != apart


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
    """{"Family.Test": (outcome, output)} on one thin LUN that two devices show."""
    disk, log, *sockets = (os.path.join(folder, x) for x in ("disk", "log", "s0", "s1"))
    with open(disk, "wb") as image:
        image.truncate(LUN_BYTES)
    unit = f"target=0:file={disk}:block-size={block_size}"
    devices = [x for socket in sockets for x in ("--device", f"scsi,socket={socket},{unit}")]
    daemon = Daemon(devices, log)
    gate = None
    found = {}
    try:
        for socket in sockets:
            daemon.wait_listening(socket)
        gate = subprocess.Popen([GATE, "0", "0", *map("=".join, zip(INITIATORS, sockets))],
                                stdout=subprocess.PIPE, text=True)
        url = f"iscsi://127.0.0.1:{gate.stdout.readline().strip()}/iqn.2026-01.test:t/0"
        nodes = sgvu_env({900: (sockets[0], 0, 0), 901: (sockets[1], 0, 0)}, "SID_PRELOAD")
        for family, names in families(suite).items():
            # Two paths at once: to the gate, both would be the first initiator's.
            where = (nodes, "/dev/sg900", "/dev/sg901") if family == "MultipathIO" else (None, url)
            for tests, some, sanitize in runs(family, names):
                said = run_suite(suite, tests, sanitize, *where)
                for name, result in outcomes(said, some).items():
                    found[f"{family}.{name}"] = result
        assert daemon.end() == 0, daemon.said()
    finally:
        if gate:
            gate.kill()
            gate.wait()
            gate.stdout.close()
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
