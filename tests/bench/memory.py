"""Memory and idle CPU of a gateway that serves many inbound connectors and has nothing to do."""

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from tests.bench import kafka, models, ours
from tests.bench.processes import SUBJECT, Process, cpu_seconds, fetch, free_port, resident_mb, running, side, wait_for

WEBHOOKS: Final = 200
CONSUMERS: Final = 50
_IDLE_SECONDS: Final = 10.0


def measure(transport: str, *, pin: bool) -> Iterator[dict[str, Any]]:
    """Nothing, webhooks, consumers, both: the figures of each once all of them are healthy."""
    hooks = {f"hook-{number:03}": models.plain_webhook(f"hook-{number:03}") for number in range(WEBHOOKS)}
    yield _idle(transport, "nothing deployed", {}, pin)
    yield _idle(transport, f"{WEBHOOKS} webhooks", hooks, pin)
    with kafka.running_broker() as broker:
        names = {f"topic-{number:02}": 1 for number in range(CONSUMERS)}
        asyncio.run(kafka.topics(broker.address, names))
        consumers = {name: models.kafka_consumer(name, name, broker.address) for name in names}
        yield _idle(transport, f"{CONSUMERS} Kafka consumers", consumers, pin)
        yield _idle(transport, f"{WEBHOOKS} webhooks, {CONSUMERS} Kafka consumers", hooks | consumers, pin)


def _idle(transport: str, case: str, processes: Mapping[str, str], pin: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        deployed = models.deploy(Path(folder), processes)
        with side(pin=pin, deploy=deployed) as at:
            port = free_port()
            environ = ours.environment(at, port, transport)
            began = time.monotonic()
            with running(Process("memory", ours.COMMAND, cpus=SUBJECT if pin else None, environ=environ)) as process:
                wait_for(lambda: _healthy(port) == len(processes), 120, process)
                ready = time.monotonic() - began
                time.sleep(3)
                before = cpu_seconds(process.pid)
                time.sleep(_IDLE_SECONDS)
                idle = (cpu_seconds(process.pid) - before) / _IDLE_SECONDS
                row = {"ready_s": ready, "rss_idle_mb": resident_mb(process.pid), "idle_cores": idle}
                return {"peer": f"gateway ({transport})", "case": case, "load": os.getloadavg()[0], **row}


def _healthy(port: int) -> int:
    """How many inbound connectors are up."""
    listed = fetch(f"http://127.0.0.1:{port}/inbound")
    return sum(one["health"]["status"] == "UP" for one in listed)
