"""Kafka: records of a real broker become messages of the synthetic engine, which takes its time for each."""

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.bench import models, ours
from tests.bench.processes import SUBJECT, Process, Watch, free_port, running, side, wait_for
from tests.real.kafka.broker import running_broker

LATENCY_MS: Final = 10
PARTITIONS: Final = 8
_KEYS: Final = 1000
_TOPIC: Final = "orders"


def measure(transport: str, *, rounds: int, records: int, pin: bool) -> Iterator[dict[str, Any]]:
    """So many records wait in a topic when the gateway starts. The rate is from the first message to the last."""
    case = f"kafka, engine {LATENCY_MS} ms"
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, running_broker() as broker:
        asyncio.run(_fill(broker.address, records))
        for number in range(rounds):
            # a name of its own is a group of its own: each round reads all of the topic
            process_id = f"orders-{transport}-{number}"
            process = models.kafka_consumer(process_id, _TOPIC, broker.address)
            deployed = models.deploy(Path(folder) / process_id, {process_id: process})
            yield {
                "peer": f"gateway ({transport})",
                "round": number,
                "case": case,
                **_drain(transport, deployed, records, pin),
            }


def _drain(transport: str, deployed: Path, records: int, pin: bool) -> dict[str, Any]:
    with side(pin=pin, deploy=deployed, latency_ms=LATENCY_MS) as at:
        environ = ours.environment(at, free_port(), transport)
        with running(Process("kafka", ours.COMMAND, cpus=SUBJECT if pin else None, environ=environ)) as process:
            wait_for(lambda: at.get("/bench/state")["events"], 60, process)
            before = at.get("/bench/state")
            watch = Watch.begin(process, at)
            wait_for(lambda: at.get("/bench/state")["events"] >= records, 300, process)
            state = at.get("/bench/state")
            figures = watch.end(state["events"] - before["events"])
            if state["events"] != records:
                raise SystemExit(f"bench: {records} records, but {state['events']} messages")
            seconds = (state["last_ns"] - state["first_ns"]) / 1e9
            # the rest of the machine is the broker here, which has no processor of its own
            return {"per_s": records / seconds, **figures}


async def topics(address: str, names: dict[str, int]) -> None:
    """Makes topics with so many partitions each."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, count, 1) for name, count in names.items()])
    finally:
        await admin.close()


async def _fill(address: str, records: int) -> None:
    await topics(address, {_TOPIC: PARTITIONS})
    producer = AIOKafkaProducer(bootstrap_servers=address, linger_ms=20, max_batch_size=128 * 1024)
    await producer.start()
    try:
        for number in range(records):
            value = {
                "orderId": f"order-{number}",
                "customer": {"id": "c-4711", "name": "Ada Lovelace", "email": "ada@example.org"},
                "items": [{"sku": "A-100", "qty": 2, "price": 19.9}, {"sku": "B-200", "qty": 1, "price": 5.25}],
                "total": 45.05,
            }
            await producer.send(_TOPIC, json.dumps(value).encode(), f"key-{number % _KEYS}".encode())
        await producer.flush()
    finally:
        await producer.stop()
