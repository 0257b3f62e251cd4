"""What the brokers know of the gateway's job streams, asked on demand (`/actuator/jobstreams` of each broker)."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Literal

import aiohttp

from gateway.admin.sources import OutboundEntry
from gateway.engine import EngineError, Topology

Connectivity = Literal["UNKNOWN", "NONE", "PARTIALLY_CONNECTED", "ALL_CONNECTED"]


class BrokerStreams:
    """Asks the brokers, on demand, which job streams they know (`/actuator/jobstreams`).

    `topology` is asked where no addresses are configured. Answers are kept for some seconds, so that reading the status API often
    doesn't load the cluster.
    """

    def __init__(
        self,
        *,
        topology: Callable[[], Awaitable[Topology]],
        port: int = 9600,
        addresses: Sequence[str] = (),
        timeout: float = 2.0,
        keep_seconds: float = 5.0,
    ) -> None:
        self._topology = topology
        self._port = port
        self._addresses = tuple(addresses)
        self._timeout = timeout
        self._keep_seconds = keep_seconds
        self._lock = asyncio.Lock()
        self._known: list[dict[tuple[str, str], list[str]] | None] = []
        self._until = 0.0

    async def connectivity(self, entries: Iterable[OutboundEntry]) -> list[tuple[Connectivity, list[str]]]:
        """For each connector: how many brokers have a stream of its worker, and the streams' ids."""
        brokers = await self._brokers()
        return [self._judge(brokers, entry) for entry in entries]

    @staticmethod
    def _judge(
        brokers: list[dict[tuple[str, str], list[str]] | None], entry: OutboundEntry
    ) -> tuple[Connectivity, list[str]]:
        answers = [broker.get((entry.type, entry.name), []) for broker in brokers if broker is not None]
        ids = sorted({stream for streams in answers for stream in streams})
        connected = sum(bool(streams) for streams in answers)
        if not answers or (not connected and len(answers) < len(brokers)):
            return "UNKNOWN", ids
        if not connected:
            return "NONE", ids
        return ("ALL_CONNECTED" if connected == len(brokers) else "PARTIALLY_CONNECTED"), ids

    async def _brokers(self) -> list[dict[tuple[str, str], list[str]] | None]:
        loop = asyncio.get_running_loop()
        async with self._lock:  # one question for all who ask at the same time
            if loop.time() >= self._until:
                self._known = await self._ask()
                self._until = loop.time() + self._keep_seconds
            return self._known

    async def _ask(self) -> list[dict[tuple[str, str], list[str]] | None]:
        try:
            addresses = self._addresses or [
                f"http://{broker.host}:{self._port}"
                for broker in (await asyncio.wait_for(self._topology(), self._timeout)).brokers
            ]
        except (EngineError, TimeoutError):
            return []
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            return await asyncio.gather(*(self._streams(session, address) for address in addresses))

    @staticmethod
    async def _streams(session: aiohttp.ClientSession, address: str) -> dict[tuple[str, str], list[str]] | None:
        """The ids of the streams that a broker knows, by job type and worker; None when it gives no good answer."""
        found: dict[tuple[str, str], list[str]] = {}
        try:
            async with session.get(f"{address.rstrip('/')}/actuator/jobstreams", allow_redirects=False) as reply:
                if reply.status != 200:
                    return None
                body = b"".join([chunk async for chunk in _bounded(reply.content)])
                for stream in json.loads(body)["remote"]:
                    key = (str(stream["jobType"]), str(stream["metadata"]["worker"]))
                    found.setdefault(key, []).extend(str(consumer["id"]) for consumer in stream["consumers"])
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError):
            return None
        return found


async def _bounded(content: aiohttp.StreamReader, limit: int = 4 * 1024**2) -> AsyncIterator[bytes]:
    """The chunks of a body. ValueError when there are more bytes than a list of streams can have."""
    async for chunk in content.iter_chunked(64 * 1024):
        limit -= len(chunk)
        if limit < 0:
            raise ValueError("too long")
        yield chunk
