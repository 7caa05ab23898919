"""One hostile front-end a mode, with a neighbour; HOSTILE_SECONDS (60) are shared by all modes."""

import os
import subprocess

import pytest

from conftest import VHOSTD

MODES = ("ring", "race", "gone", "conf", "stall", "fds", "ctl", "order", "remap", "trunc", "log",
         "infl", "call", "scsi", "scsi-ring",
         "nvme", "nvme-admin", "nvme-msg", "nvme-user")
SECONDS = float(os.environ.get("HOSTILE_SECONDS", "60")) / len(MODES)
PROGRAM = os.path.join(os.path.dirname(VHOSTD), "tests/proto/hostile")


@pytest.mark.parametrize("mode", MODES)
def test_the_neighbour_of_an_attacked_disk_notices_nothing(mode, capsys):
    if not os.path.exists(PROGRAM):
        pytest.skip(f"{PROGRAM} is not built: use the binary of `make unit`")
    seed = os.environ.get("HOSTILE_SEED")
    r = subprocess.run([PROGRAM, mode, f"{SECONDS:.3f}"] + ([seed] if seed else []),
                       capture_output=True, text=True, timeout=SECONDS + 120, check=False,
                       env={**os.environ, "VHOSTD": VHOSTD})
    with capsys.disabled():
        print("\n" + r.stdout.strip(), end=" ")
    assert r.returncode == 0, r.stdout + r.stderr
