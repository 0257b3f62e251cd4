"""The black-box suite: the gateway as a process, configured by environment variables, against the test engine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_case_of_the_outbound_suite_passes(engine_run):
    gateway = Path(sys.executable).with_name("gateway")
    command = [sys.executable, "-m", "accept", "outbound", "--command", f"exec {gateway} run"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = os.environ | {"ENGINE_RUN": str(engine_run), "PATH": path}
    done = subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=390, check=False)
    report = done.stdout.strip().splitlines()
    assert done.returncode == 0, "\n".join([*report[-40:], done.stderr[-2000:]])
    assert report[-1].startswith("outbound ")
    assert report[-1].endswith(" passed, 0 failed")
    assert int(report[-1].split()[1]) >= 110
