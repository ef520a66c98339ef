"""The container image, without a container engine: its steps are run in a fresh Debian folder."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "check-dockerfile.sh"


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.timeout(900)
def test_the_image_builds_and_its_node_is_healthy() -> None:
    if os.geteuid() != 0:
        pytest.skip("chroot needs root")
    if missing := [tool for tool in ("apt-get", "dpkg-deb", "wget", "unshare", "chroot") if not shutil.which(tool)]:
        pytest.skip(f"needs {', '.join(missing)}")
    done = subprocess.run([SCRIPT], check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout[-5000:]
