"""The black-box suites: the gateway as a process, configured by environment variables, against the test engine and a real Kafka."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def report(engine_run: Path, *arguments: str, seconds: float) -> list[str]:
    """What a suite printed, all of its cases passed."""
    gateway = Path(sys.executable).with_name("gateway")
    command = [sys.executable, "-m", *arguments, "--command", f"exec {gateway} run"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = os.environ | {"ENGINE_RUN": str(engine_run), "PATH": path}
    done = subprocess.run(
        command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )
    printed = done.stdout.strip().splitlines()
    assert done.returncode == 0, "\n".join([*printed[-40:], done.stderr[-2000:]])
    return printed


def passed(line: str, suite: str) -> int:
    assert line.startswith(f"{suite} ")
    assert line.endswith(" passed, 0 failed")
    return int(line.split()[1])


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_case_of_the_outbound_suite_passes(engine_run):
    assert passed(report(engine_run, "accept", "outbound", seconds=390)[-1], "outbound") >= 110


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_case_of_the_inbound_suite_passes(engine_run):
    printed = report(engine_run, "accept.inbound", seconds=290)
    assert passed(printed[-1], "inbound") >= 72
    assert not any("skip" in line.split()[:1] for line in printed)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(200)
def test_webhooks_pass_on_a_cluster_that_counts_its_subscriptions(engine_run):
    printed = report(engine_run, "accept.inbound", "--group", "webhook", "--engine-version", "8.9.1", seconds=190)
    assert passed(printed[-1], "inbound") >= 53
