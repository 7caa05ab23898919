"""Fixtures of the real-guest tests."""

import os
import shutil
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import guest  # noqa: E402


@pytest.fixture(scope="module")
def room(request):
    """A short-named folder (socket paths have a limit); kept when a test of the module fails."""
    failed_before = request.session.testsfailed
    folder = tempfile.mkdtemp(prefix="vhostd-guest-")
    yield folder
    if request.session.testsfailed == failed_before:
        shutil.rmtree(folder)
    else:
        print("\nlogs and images kept in", folder, file=sys.stderr)


@pytest.fixture(scope="session")
def sid():
    """The folder of programs of Debian sid."""
    folder, complaint = guest.sid_tools()
    if not folder:
        pytest.skip(complaint)
    return folder


@pytest.fixture(scope="session")
def sid_kernel():
    """The folder of Debian sid's kernel."""
    folder, complaint = guest.sid_tools("kernel")
    if not folder:
        pytest.skip(complaint)
    return folder


def pytest_report_header():
    return "server: " + guest.VHOSTD


def pytest_collection_modifyitems(items):
    """Tests marked vhostd_only ask for what the stand-in server does not have."""
    if not guest.stand_in():
        return
    for item in items:
        if item.get_closest_marker("vhostd_only"):
            item.add_marker(pytest.mark.skip(reason="qemu-storage-daemon cannot do this"))


def pytest_configure(config):
    config.addinivalue_line("markers", "vhostd_only: needs what the stand-in server lacks")
