"""libiscsi's conformance suite on a thin LUN, with no guest: its SCSI commands through sgvu.so.

The suite calls a test that it skipped passed. Here such a test is a skip, and must be in SKIPS.
"""

import os
import re
import subprocess

import pytest

from conftest import HERE, REPORTS, SID_TOOLS_TIMEOUT_S, Daemon, sgvu_env

FAMILY_TIMEOUT_S = 60
REAL_PASSES_MIN = 190

# Test: why the suite cannot run it here.
SKIPS = {
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


def run_family(suite, family, env):
    """One run, so that a crash loses one family only: what it said."""
    argv = [suite, "--dataloss", "--allow-sanitize", "--test=SCSI." + family,
            "/dev/sg900", "/dev/sg901"]
    try:
        run = subprocess.run(argv, env=env, text=True, errors="replace", stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, timeout=FAMILY_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"").decode(errors="replace") + "\nTIMED OUT"
    return run.stdout + ("" if run.returncode >= 0 else f"\nSIGNAL {-run.returncode}")


def outcomes(said, names):
    """{test: (outcome, its output)}; a test that did not come to its end has failed."""
    found = {}
    for part in re.split(r"(?m)^\s*(?=Test: )", said)[1:]:
        part = part.split("\nSuite: ")[0].split("\nRun Summary:")[0]
        name = part.split()[1]
        if not re.search(r"passed\s*$", part):
            found[name] = ("failed", part)
        elif re.search(r"skip", part, re.I):
            found[name] = ("skipped", part)
        else:
            found[name] = ("passed", part)
    return {name: found.get(name, ("failed", "not run\n" + said)) for name in names}


@pytest.fixture(scope="module", params=[512, 4096])
def results(request, suite, tmp_path_factory):
    """{"Family.Test": (outcome, output)} of all families on one thin LUN, two initiators."""
    folder = str(tmp_path_factory.mktemp("suite"))
    disk, log, first, second = (os.path.join(folder, x) for x in ("disk", "log", "s0", "s1"))
    with open(disk, "wb") as image:
        image.truncate(request.param << 20)
    unit = f"target=0:file={disk}:block-size={request.param}"
    daemon = Daemon(["--device", f"scsi,socket={first},{unit}",
                     "--device", f"scsi,socket={second},{unit}"], log)
    found = {}
    try:
        for socket in (first, second):
            daemon.wait_listening(socket)
        env = sgvu_env({900: (first, 0, 0), 901: (second, 0, 0)}, preload="SID_PRELOAD")
        for family, names in families(suite).items():
            for name, result in outcomes(run_family(suite, family, env), names).items():
                found[f"{family}.{name}"] = result
        daemon.end()
    finally:
        daemon.kill()
    assert not any(report in daemon.said() for report in REPORTS), daemon.said()
    tell(request, found)
    return found


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
