"""`python -m tests.bench`: builds what is needed, measures, prints tables; every figure also as a line of JSON with --out."""

import argparse
import json
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.bench import jobs, kafka, memory, ours, table, webhooks
from tests.bench.build import BUILD, build
from tests.bench.ours import NotDefaultError
from tests.real.kafka import broker

PARTS = ("jobs", "webhooks", "kafka", "memory")
RECORDS = 20_000


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    options.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all without any")
    options.add_argument(
        "--peers", help="names, with commas: lean,grpcio (both ours),pyzeebe,java,java-virtual,node,aiohttp,go"
    )
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=float, default=6, help="of each measurement")
    options.add_argument("--latencies", default="0,20,200", help="of the target, in milliseconds")
    options.add_argument("--records", type=int, default=RECORDS, help="of Kafka")
    options.add_argument("--free", action="store_true", help="pins nothing: for a machine with one processor")
    options.add_argument("--build", action="store_true", help="builds and measures nothing")
    options.add_argument("--out", type=Path, help="a file that the figures are added to")
    given = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended
    for missing in build():
        print(f"left out: {missing}", file=sys.stderr)
    print(f"built in {BUILD}", file=sys.stderr)
    if given.build:
        return
    parts = given.parts or PARTS
    try:
        if "jobs" in parts:
            table.show("Jobs", _kept(given.out, _jobs(given)))
        events = [part for part in ("webhooks", "kafka") if part in parts]
        table.show("Events", _kept(given.out, (row for part in events for row in _EVENTS[part](given))))
        if "memory" in parts:
            table.show("Memory", _kept(given.out, _memory(given)))
    except NotDefaultError as e:
        raise SystemExit(f"bench: {e}") from None


def _chosen(given: argparse.Namespace, offered: Iterable[str]) -> list[str]:
    wanted = None if given.peers is None else given.peers.split(",")
    return [name for name in offered if wanted is None or name in wanted]


def _jobs(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    latencies = [int(word) for word in given.latencies.split(",") if word]
    loads = jobs.Loads(rounds=given.rounds, seconds=given.seconds, latencies_ms=latencies, pin=not given.free)
    known = jobs.workers()
    for name in _chosen(given, known):
        yield from jobs.measure(known[name], loads)


def _webhooks(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    known = webhooks.servers()
    for name in _chosen(given, known):
        yield from webhooks.measure(known[name], rounds=given.rounds, seconds=given.seconds, pin=not given.free)


def _kafka(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    if (reason := broker.missing()) is not None:
        print(f"left out: Kafka: {reason}", file=sys.stderr)
        return
    for transport in _chosen(given, ours.TRANSPORTS):
        yield from kafka.measure(transport, rounds=given.rounds, records=given.records, pin=not given.free)


def _memory(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    if (reason := broker.missing()) is not None:
        print(f"left out: Kafka: {reason}", file=sys.stderr)
        return
    for transport in _chosen(given, ours.TRANSPORTS):
        yield from memory.measure(transport, pin=not given.free)


_EVENTS = {"webhooks": _webhooks, "kafka": _kafka}


def _kept(out: Path | None, rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """All rows, each told as it comes."""
    kept = []
    for row in rows:
        line = json.dumps({name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()})
        print(line, file=sys.stderr, flush=True)
        if out is not None:
            with out.open("a") as lines:
                lines.write(line + "\n")
        kept.append(row)
    return kept


if __name__ == "__main__":
    main()
