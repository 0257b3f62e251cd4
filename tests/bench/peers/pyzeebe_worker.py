"""The HTTP call written by hand as a pyzeebe task, as a Python user does it today. ENGINE: host:port; CAP: jobs at once."""

import asyncio
import os
from typing import Any

import aiohttp
from pyzeebe import ZeebeWorker, create_insecure_channel

FETCH = [
    "authentication",
    "method",
    "url",
    "headers",
    "queryParameters",
    "body",
    "connectionTimeoutInSeconds",
    "readTimeoutInSeconds",
    "storeResponse",
]
CAP = int(os.environ.get("CAP", "512"))


async def main() -> None:
    worker = ZeebeWorker(create_insecure_channel(os.environ["ENGINE"]), stream_enabled=True)
    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=CAP))

    @worker.task(
        "io.camunda:http-json:1",
        max_jobs_to_activate=CAP,
        max_running_jobs=CAP,
        timeout_ms=300_000,
        variables_to_fetch=FETCH,
    )
    async def http_json(
        method: str,
        url: str,
        headers: dict[str, str],
        queryParameters: dict[str, str],  # noqa: N803 - the variables' own names
        body: Any,
        readTimeoutInSeconds: int = 20,  # noqa: N803
        **_: object,
    ) -> dict[str, Any]:
        timeout = aiohttp.ClientTimeout(total=readTimeoutInSeconds)
        async with session.request(
            method, url, headers=headers, params=queryParameters, json=body, timeout=timeout
        ) as answer:
            data = await answer.json()
            result = {"status": answer.status, "headers": dict(answer.headers), "body": data}
        return {
            "httpResult": result,
            "orderId": data["orderId"],
            "httpStatus": answer.status,
            "total": data["total"],
        }

    await worker.work()


if __name__ == "__main__":
    if os.environ.get("UVLOOP") == "1":
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())
