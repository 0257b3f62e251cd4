"""A process that looks at a cluster as a gateway does: `python -m tests.faults.lookout REST_ADDRESS`.

For each line of its input it looks so many times, five seconds apart on a clock of its own, and answers with a line of JSON.
"""

import asyncio
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import gateway.app  # noqa: F401 - so that the process is as large as a gateway
from gateway.engine.cluster import connect
from gateway.engine.settings import ConnectionSettings
from gateway.inbound.discovery import Discovery


def max_rss_mb() -> float:
    """Not by getrusage, which counts the process that started this one as well."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def main(address: str) -> None:
    clock = 0.0
    engine = await connect(ConnectionSettings(rest_address=address, prefer_rest_over_grpc=True))
    discovery = Discovery(engine, now=lambda: clock)
    try:
        while line := await asyncio.to_thread(sys.stdin.readline):
            began, wanted = time.perf_counter(), None
            for _ in range(int(line)):
                clock += 5.0
                wanted = await discovery.look()
            told = {
                **asdict(discovery.statistics()),
                "seconds": time.perf_counter() - began,
                "max_rss_mb": max_rss_mb(),
                "first": wanted.elements[0].element_id if wanted and wanted.elements else None,
            }
            print(json.dumps(told), flush=True)
    finally:
        await engine.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
