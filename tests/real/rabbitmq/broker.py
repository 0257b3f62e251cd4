"""A RabbitMQ node as a child process: started on a free port, stopped and killed by its id, started again on the same data."""

import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import pytest

from tests.real.processes import environment, free_port

RUN = Path(__file__).resolve().parent / "run"
_START_SECONDS = 50


class Broker:
    """A node with data of its own. settings: lines of rabbitmq.conf; `{tls_port}` in them is the attribute of that name."""

    def __init__(self, data: Path, settings: Sequence[str] = ()) -> None:
        self.port, self.tls_port = free_port(), free_port()
        self._data = data
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None
        self._node = 0

    def start(self) -> None:
        options = [part for line in self._settings for part in ("--set", line.format(tls_port=self.tls_port))]
        errors = (self._data / "errors.txt").open("w")
        with errors:
            self._process = process = subprocess.Popen(
                ["bash", str(RUN), "--port", str(self.port), "--data", str(self._data), *options],
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
        line = process.stdout.readline() if readable else ""
        if not line.startswith("ready "):
            self.stop()
            raise RuntimeError(f"RabbitMQ did not start: {(self._data / 'errors.txt').read_text()[-2000:]}")
        self._node = int(dict(part.split("=") for part in line.split()[1:])["pid"])

    def kill(self) -> None:
        """Ends the node as a crash does, and waits until it is gone."""
        with suppress(ProcessLookupError):
            os.kill(self._node, signal.SIGKILL)
        self._ended()

    def stop(self) -> None:
        """Ends the node as an administrator does. More than once is no error."""
        if self._process is not None:
            self._process.terminate()
            self._ended()

    def _ended(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            with suppress(ProcessLookupError):
                os.kill(self._node, signal.SIGKILL)
        if process.stdout:
            process.stdout.close()


@contextmanager
def running_broker(*settings: str) -> Iterator[Broker]:
    """A fresh node until the block ends."""
    with tempfile.TemporaryDirectory(prefix="rabbitmq-") as data:
        broker = Broker(Path(data), settings)
        broker.start()
        try:
            yield broker
        finally:
            broker.stop()


@lru_cache(maxsize=1)
def _missing() -> str | None:
    checked = subprocess.run(
        ["bash", str(RUN), "--check"], env=environment(), capture_output=True, text=True, check=False, timeout=20
    )
    return checked.stderr.strip() if checked.returncode else None


def require_rabbitmq() -> None:
    """A skip with the reason where RabbitMQ is not installed, a failure with CI=true."""
    missing = _missing()
    if missing is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)
