"""Many deployed processes cost little memory, and hardly a call while nothing is deployed."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from tests.inbound.models import end, inbound, process

DEFINITIONS, ELEMENTS = 500, 10
FIRST_KEY = 2251799813685250
WEBHOOK = {
    "inbound.method": "any",
    "inbound.shouldValidateHmac": "enabled",
    "inbound.hmacSecret": "{{secrets.WEBHOOK_HMAC}}",
    "inbound.hmacHeader": "x-hub-signature-256",
    "inbound.hmacAlgorithm": "sha_256",
    "inbound.auth.type": "NONE",
    "activationCondition": '=request.body.action = "opened" and request.headers.x-github-event = "issues"',
    "responseExpression": '=if request.body.challenge != null then {"body": {"challenge": request.body.challenge}} else null',
    "resultVariable": "event",
    "resultExpression": "={number: request.body.issue.number, title: request.body.issue.title, by: request.body.sender.login}",
    "consumeUnmatchedEvents": "true",
    "deduplicationModeManualFlag": "false",
    "deduplicationMode": "AUTO",
}
SHAPES = "".join(
    f'<d:BPMNShape xmlns:d="http://www.omg.org/spec/BPMN/20100524/DI" id="shape{n}" bpmnElement="e{n}"/>'
    for n in range(200)
)


def model(n: int) -> str:
    starts = (
        inbound("startEvent", f"in{i}", given={"inbound.context": f"path-{n}-{i}", **WEBHOOK}, name=f"Hook {i} of {n}")
        for i in range(ELEMENTS)
    )
    flows = "\n".join(f"in{i} e" for i in range(ELEMENTS))
    return process(*starts, end(), flows=flows, id_=f"process-{n}").replace(
        "</b:definitions>", f"{SHAPES}</b:definitions>"
    )


class SearchApi:
    """The searches of a cluster with 500 processes in two versions or one, most with instances; counts what it is asked."""

    def __init__(self, versions: int) -> None:
        self.versions = versions
        self.rows = [
            {
                "processDefinitionKey": str(FIRST_KEY + version * DEFINITIONS + n),
                "processDefinitionId": f"process-{n}",
                "version": version + 1,
                "tenantId": "<default>",
            }
            for version in range(versions)
            for n in range(DEFINITIONS)
        ]
        self.calls: Counter[str] = Counter()

    def page(self, body: Any, rows: list[dict[str, Any]]) -> web.Response:
        begin, limit = int(body["page"].get("after") or 0), body["page"]["limit"]
        items = rows[begin : begin + limit]
        cursor = str(begin + len(items)) if items else None
        return web.json_response({"items": items, "page": {"totalItems": len(rows), "endCursor": cursor}})

    async def topology(self, request: web.Request) -> web.Response:
        self.calls["topology"] += 1
        return web.json_response({"gatewayVersion": "8.9.1", "brokers": []})

    async def search(self, request: web.Request) -> web.Response:
        self.calls["search"] += 1
        body = await request.json()
        if body.get("filter", {}).get("isLatestVersion"):
            return self.page(body, self.rows[-DEFINITIONS:])
        return self.page(body, self.rows[::-1])

    async def statistics(self, request: web.Request) -> web.Response:
        self.calls["statistics"] += 1
        counted = [{**row, "activeSubscriptions": 1} for row in self.rows[: self.versions * DEFINITIONS - 100]]
        return self.page(await request.json(), counted)

    async def xml(self, request: web.Request) -> web.Response:
        self.calls["xml"] += 1
        n = (int(request.match_info["key"]) - FIRST_KEY) % DEFINITIONS
        return web.Response(text=model(n), content_type="text/xml")

    async def definition(self, request: web.Request) -> web.Response:
        self.calls["definition"] += 1
        return web.json_response(self.rows[int(request.match_info["key"]) - FIRST_KEY])

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/v2/topology", self.topology)
        app.router.add_post("/v2/process-definitions/search", self.search)
        app.router.add_post("/v2/process-definitions/statistics/message-subscriptions", self.statistics)
        app.router.add_get("/v2/process-definitions/{key}/xml", self.xml)
        app.router.add_get("/v2/process-definitions/{key}", self.definition)
        return app


class Lookout:
    """The process that looks, and what it says after so many looks."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def look(self, times: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{times}\n".encode())
        async with asyncio.timeout(60):
            while not (line := await self._process.stdout.readline()).startswith(b"{"):
                assert line, "the process has ended"
        told: dict[str, Any] = json.loads(line)
        return told


@pytest.fixture(params=[1, 2], ids=["one version", "two versions"])
def cluster(request: pytest.FixtureRequest) -> SearchApi:
    return SearchApi(request.param)


@pytest.fixture
async def lookout(cluster: SearchApi) -> AsyncIterator[Lookout]:
    runner = web.AppRunner(cluster.app(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.faults.lookout", f"http://127.0.0.1:{port}"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    yield Lookout(process)
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 0
    await runner.cleanup()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process as Linux tells it")
async def test_row_28_500_definitions_with_5000_elements_take_less_than_150_mb_and_hardly_a_call_when_idle(
    cluster, lookout
):
    told = await lookout.look(1)
    assert (told["processes"], told["elements"], told["first"]) == (DEFINITIONS, DEFINITIONS * ELEMENTS, "in0")
    assert cluster.calls["xml"] == DEFINITIONS * cluster.versions
    cluster.calls.clear()
    told = await lookout.look(12 * 10)  # ten minutes
    assert told["max_rss_mb"] < 150
    assert cluster.calls["xml"] == cluster.calls["definition"] == 0
    # A search with each look; all latest versions once a minute; open subscriptions with each look if there are older versions.
    assert sum(cluster.calls.values()) / 10 < (17 if cluster.versions == 1 else 29)
    assert told["seconds"] < 5, "a look while nothing changes is nothing but its call"
