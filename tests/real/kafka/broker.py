"""A Kafka node as a child process: started on free ports, stopped and killed by its id, started again on the same data."""

import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from tests.real.processes import MissingPartError, environment, free_port, prepare

RUN = Path(__file__).resolve().parent / "run"
_START_SECONDS = 50


class Broker:
    """A node with data of its own, three ways in: `port`; `proxied_port`, whose address it says is `advertised_port`, where a
    test may have a proxy; `secure_port`, SASL over TLS by a certificate that `authority` has signed.
    """

    def __init__(self, data: Path) -> None:
        self.port, self.proxied_port, self.advertised_port, self.secure_port = (free_port() for _ in range(4))
        self.authority = data / "authority.pem"
        self._data = data
        self._process: subprocess.Popen[str] | None = None
        self._node = 0
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.authority))
        issued = authority.issue_cert("127.0.0.1")
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._pem = data / "server.pem"
        self._pem.write_bytes(plain + b"".join(each.bytes() for each in issued.cert_chain_pems))

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it, on what it had before."""
        options = ["--port", str(self.port), "--data", str(self._data / "node")]
        options += ["--proxied", str(self.proxied_port), str(self.advertised_port)]
        options += ["--secure", str(self.secure_port), str(self._pem)]
        with (self._data / "errors.txt").open("a") as errors:
            self._process = process = subprocess.Popen(
                ["bash", str(RUN), *options], env=environment(), stdout=subprocess.PIPE, stderr=errors, text=True
            )
        assert process.stdout is not None
        readable, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
        line = process.stdout.readline() if readable else ""
        if not line.startswith("ready "):
            self.stop()
            raise RuntimeError(f"Kafka did not start: {(self._data / 'errors.txt').read_text()[-2000:]}")
        self._node = int(dict(part.split("=") for part in line.split()[1:])["pid"])

    def kill(self) -> None:
        """Ends the node as a crash does, and waits until it is gone."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._node, signal.SIGKILL)
            self._ended()

    def stop(self) -> None:
        """Ends the node as an administrator does. More than once is no error."""
        if self._process is not None:
            self._process.terminate()
            self._ended()

    def freeze(self) -> None:
        """The node takes connections and bytes, and does nothing with them."""
        os.kill(self._node, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self._node, signal.SIGCONT)

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
def running_broker() -> Iterator[Broker]:
    """A fresh node until the block ends."""
    with tempfile.TemporaryDirectory(prefix="kafka-") as data:
        broker = Broker(Path(data))
        broker.start()
        try:
            yield broker
        finally:
            broker.kill()


@lru_cache(maxsize=1)
def missing() -> str | None:
    """Why a node cannot run here."""
    try:
        prepare(RUN, java=17)
    except MissingPartError as e:
        return str(e)
    return None


def needed() -> None:
    """Skips a test where no node can run, with the reason; a failure with CI=true."""
    reason = missing()
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"Kafka cannot run: {reason}", pytrace=False)
        pytest.skip(f"Kafka cannot run: {reason}")
