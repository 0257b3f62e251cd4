"""The event flow end to end: an event outside, a connector, a process; the same on the embedded engine and on the test engine."""

import asyncio
import base64
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

import aiohttp
from aiohttp import web
from pydantic import BaseModel

from connectors.http_json import http_json
from connectors.http_polling import http_polling
from connectors.webhook import webhook
from gateway.app import Runtime
from gateway.engine import Engine, Resource
from gateway.inbound.executable import State
from gateway.sdk import InboundContext, inbound_connector
from gateway.secrets import MapSecrets
from tests.flow.rig import Target, gateway

WEBHOOK = "io.camunda:webhook:1"


def definitions(process_id: str, body: str, messages: Mapping[str, str] | None = None) -> bytes:
    """messages: names to correlation keys (FEEL)."""
    rows = "".join(
        f"<b:message id={quoteattr('m-' + name)} name={quoteattr(name)}><b:extensionElements>"
        f"<z:subscription correlationKey={quoteattr(key)}/></b:extensionElements></b:message>"
        for name, key in (messages or {}).items()
    )
    return f"""<b:definitions xmlns:b="http://www.omg.org/spec/BPMN/20100524/MODEL"
        xmlns:z="http://camunda.org/schema/zeebe/1.0" targetNamespace="t">{rows}
      <b:process id={quoteattr(process_id)} isExecutable="true">{body}</b:process></b:definitions>""".encode()


def properties(**given: str) -> str:
    rows = "".join(f"<z:property name={quoteattr(k)} value={quoteattr(v)}/>" for k, v in given.items())
    return f"<b:extensionElements><z:properties>{rows}</z:properties></b:extensionElements>"


def started_by(process_id: str, **given: str) -> bytes:
    """start -> end."""
    return definitions(
        process_id,
        f'<b:startEvent id="start">{properties(**given)}</b:startEvent>'
        '<b:sequenceFlow id="f" sourceRef="start" targetRef="end"/><b:endEvent id="end"/>',
    )


def waiting(process_id: str, message: str, **given: str) -> bytes:
    """start -> catch a message by the variable `id` -> end."""
    return definitions(
        process_id,
        '<b:startEvent id="start"/><b:sequenceFlow id="f" sourceRef="start" targetRef="wait"/>'
        f'<b:intermediateCatchEvent id="wait">{properties(**given)}'
        f"<b:messageEventDefinition messageRef={quoteattr('m-' + message)}/></b:intermediateCatchEvent>"
        '<b:sequenceFlow id="g" sourceRef="wait" targetRef="end"/><b:endEvent id="end"/>',
        {message: "=id"},
    )


def name() -> str:
    return f"e-{uuid.uuid4().hex[:12]}"


async def active(runtime: Runtime, process_id: str, version: int = 1) -> None:
    """Waits until the process's executables work, with elements of this version."""
    assert runtime.inbound is not None

    def mine() -> list[Any]:
        found = runtime.inbound.supervisor.executables.values() if runtime.inbound else ()
        return [e for e in found if e.group.first.bpmn_process_id == process_id and e.state is State.ACTIVATED]

    await until(lambda: any(el.version == version for e in mine() for el in e.elements), "active executable")


async def until(true: Callable[[], bool], what: str) -> None:
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"no {what}")


async def eventually(found: Callable[[], Awaitable[list[Any]]], what: str) -> list[Any]:
    for _ in range(500):
        if rows := await found():
            return rows
        await asyncio.sleep(0.02)
    raise AssertionError(f"no {what}")


async def instances(engine: Engine, process_id: str, state: str | None = None) -> list[dict[str, Any]]:
    wanted = {"processDefinitionId": process_id, **({"state": state} if state else {})}
    return (await engine.search("process-instances", filter=wanted)).items


async def variables(engine: Engine, key: int) -> dict[str, Any]:
    page = await engine.search("variables", filter={"processInstanceKey": str(key)})
    return {row["name"]: json.loads(row["value"]) for row in page.items}


async def test_a_webhook_starts_an_instance_and_is_told_its_key(engine: Engine, target: Target) -> None:
    pid = name()
    xml = started_by(
        pid,
        **{
            "inbound.type": WEBHOOK,
            "inbound.context": pid,
            "activationCondition": "=request.body.amount > 10",
            "resultVariable": "event",
            "resultExpression": "={amount: request.body.amount, who: request.headers.`x-who`}",
            "inbound.responseExpression": "={statusCode: 201, body: {key: string(correlation.processInstanceKey)}}",
        },
    )
    await engine.deploy([Resource("a.bpmn", xml)])
    async with gateway(engine, webhook) as runtime, aiohttp.ClientSession() as session:
        await active(runtime, pid)
        url = f"http://127.0.0.1:{runtime.port}/inbound/{pid}"
        async with session.post(url, json={"amount": 12.5}, headers={"X-Who": "me"}) as answer:
            assert answer.status == 201
            key = int((await answer.json())["key"])
        async with session.post(url, json={"amount": 9}) as answer:
            assert (answer.status, await answer.json()) == (422, {"consumeUnmatched": False})
    found = await variables(engine, key)
    assert (found["amount"], found["who"]) == (12.5, "me")
    assert found["event"]["request"]["body"] == {"amount": 12.5}
    assert len(await instances(engine, pid)) == 1


async def test_a_synchronous_webhook_answers_with_the_variables_at_the_end(engine: Engine, target: Target) -> None:
    pid = name()
    xml = started_by(
        pid,
        **{
            "inbound.type": WEBHOOK,
            "inbound.context": pid,
            "synchronousResponse": "true",
            "resultExpression": "={n: request.body.n}",
            "inbound.responseExpression": "={body: {n: correlation.variables.n + 1}}",
        },
    )
    await engine.deploy([Resource("a.bpmn", xml)])
    async with gateway(engine, webhook) as runtime, aiohttp.ClientSession() as session:
        await active(runtime, pid)
        async with session.post(f"http://127.0.0.1:{runtime.port}/inbound/{pid}", json={"n": 41}) as answer:
            assert (answer.status, await answer.json()) == (200, {"n": 42})


async def test_a_webhook_reaches_the_instance_that_waits_and_the_same_message_id_counts_once(engine: Engine) -> None:
    pid = name()
    xml = waiting(
        pid,
        pid,
        **{
            "inbound.type": WEBHOOK,
            "inbound.context": pid,
            "correlationKeyExpression": "=request.body.id",
            "messageIdExpression": "=request.body.event",
            "resultExpression": "={answer: request.body.answer}",
        },
    )
    await engine.deploy([Resource("a.bpmn", xml)])
    started = [await engine.create_process_instance(bpmn_process_id=pid, variables=json.dumps({"id": i})) for i in "ab"]
    async with gateway(engine, webhook) as runtime, aiohttp.ClientSession() as session:
        await active(runtime, pid)
        for event in ("e1", "e1"):
            body = {"id": "a", "event": event, "answer": 7}
            async with session.post(f"http://127.0.0.1:{runtime.port}/inbound/{pid}", json=body) as answer:
                assert answer.status == 200
        (ended,) = await eventually(lambda: instances(engine, pid, "COMPLETED"), "completed instance")
    assert int(ended["processInstanceKey"]) == started[0].process_instance_key
    assert (await variables(engine, started[0].process_instance_key))["answer"] == 7
    assert len(await instances(engine, pid, "ACTIVE")) == 1


async def test_parts_of_a_form_become_documents(engine: Engine) -> None:
    pid = name()
    given = {"inbound.type": WEBHOOK, "inbound.context": pid, "resultExpression": "={files: documents}"}
    await engine.deploy([Resource("a.bpmn", started_by(pid, **given))])
    form = aiohttp.FormData()
    form.add_field("photo", b"\x89PNG", filename="a.png", content_type="image/png")
    async with gateway(engine, webhook) as runtime, aiohttp.ClientSession() as session:
        await active(runtime, pid)
        async with session.post(f"http://127.0.0.1:{runtime.port}/inbound/{pid}", data=form) as answer:
            assert answer.status == 200
        (instance,) = await eventually(lambda: instances(engine, pid), "instance")
        (document,) = (await variables(engine, int(instance["processInstanceKey"])))["files"]
        content = b"".join([chunk async for chunk in engine.read_document(document["documentId"])])
    assert (content, document["metadata"]["fileName"]) == (b"\x89PNG", "a.png")


async def test_a_waiting_token_is_polled_for_with_its_own_variables_until_the_condition_holds(
    engine: Engine, target: Target
) -> None:
    pid = name()
    xml = waiting(
        pid,
        pid,
        **{
            "inbound.type": "io.camunda:http-polling:1",
            "httpRequestInterval": "PT0.1S",
            "processPollingInterval": "PT0.2S",
            "authentication.type": "noAuth",
            "method": "GET",
            "url": f'="{target.url}/orders/" + id',
            "activationCondition": '=body.state = "done"',
            "correlationKeyExpression": "=body.id",
            "resultExpression": "={state: body.state}",
        },
    )
    await engine.deploy([Resource("a.bpmn", xml)])
    target.answers["/orders/o-1"] = [
        web.json_response({"error": "busy"}, status=500),
        web.json_response({"id": "o-1", "state": "open"}),
        *(web.json_response({"id": "o-1", "state": "done"}) for _ in range(50)),
    ]
    started = await engine.create_process_instance(bpmn_process_id=pid, variables=json.dumps({"id": "o-1"}))
    async with gateway(engine, http_polling) as runtime:
        await active(runtime, pid)
        await eventually(lambda: instances(engine, pid, "COMPLETED"), "completed instance")
        calls = len(target.requests)
        await asyncio.sleep(0.6)
        assert len(target.requests) <= calls + 5  # the token is gone: its polling ends within an interval
        after = len(target.requests)
        await asyncio.sleep(0.4)
        assert len(target.requests) == after
    assert (await variables(engine, started.process_instance_key))["state"] == "done"


async def test_a_new_version_takes_the_path_over_and_instances_of_the_old_one_are_still_reached(engine: Engine) -> None:
    pid = name()
    given = {"inbound.type": WEBHOOK, "inbound.context": pid, "correlationKeyExpression": "=request.body.id"}
    manual = {"deduplicationMode": "MANUAL", "deduplicationId": "hook"}
    await engine.deploy([Resource("a.bpmn", waiting(pid, pid, **given, **manual))])
    await engine.create_process_instance(bpmn_process_id=pid, variables=json.dumps({"id": "old"}))
    async with gateway(engine, webhook) as runtime, aiohttp.ClientSession() as session:
        await active(runtime, pid)
        changed = waiting(pid, pid, **given, **manual).replace(b'id="end"', b'id="end" name="new"')
        await engine.deploy([Resource("a.bpmn", changed)])
        await active(runtime, pid, version=2)
        await engine.create_process_instance(bpmn_process_id=pid, variables=json.dumps({"id": "new"}))
        for ident in ("old", "new"):
            async with session.post(f"http://127.0.0.1:{runtime.port}/inbound/{pid}", json={"id": ident}) as answer:
                assert answer.status == 200

        async def both() -> list[Any]:
            found = await instances(engine, pid, "COMPLETED")
            return found if len(found) == 2 else []

        ended = await eventually(both, "two completed instances")
    assert {row["processDefinitionVersion"] for row in ended} == {1, 2}


class Ticks(BaseModel):
    count: int


@inbound_connector("Ticks", type="test:ticks:1")
async def ticks(settings: Ticks, source: InboundContext) -> None:
    async with source.window(4) as window:
        for n in range(settings.count):
            _ = await window.emit({"n": n})
    source.report_health("UP")
    await asyncio.Event().wait()


async def test_an_author_s_connector_starts_instances_that_an_outbound_one_works_on(
    engine: Engine, target: Target
) -> None:
    pid = name()
    url = quoteattr(f'="{target.url}/tick/" + string(n)')
    start = properties(**{"inbound.type": "test:ticks:1", "count": "=2 + 1"}, resultExpression="={n: n}")
    body = (
        f'<b:startEvent id="start">{start}'
        '</b:startEvent><b:sequenceFlow id="f" sourceRef="start" targetRef="call"/>'
        '<b:serviceTask id="call"><b:extensionElements><z:taskDefinition type="io.camunda:http-json:1" retries="1"/>'
        '<z:ioMapping><z:input source="noAuth" target="authentication.type"/><z:input source="GET" target="method"/>'
        f'<z:input source={url} target="url"/></z:ioMapping>'
        '</b:extensionElements></b:serviceTask><b:sequenceFlow id="g" sourceRef="call" targetRef="end"/><b:endEvent id="end"/>'
    )
    await engine.deploy([Resource("a.bpmn", definitions(pid, body))])
    async with gateway(engine, ticks, http_json):

        async def all_ended() -> list[Any]:
            found = await instances(engine, pid, "COMPLETED")
            return found if len(found) == 3 else []

        await eventually(all_ended, "three completed instances")
    assert sorted(path for _, path, _, _ in target.requests) == ["/tick/0", "/tick/1", "/tick/2"]


class ChangingSecrets(MapSecrets):
    """Secrets that say when they change."""

    def __init__(self, values: dict[str, str]) -> None:
        super().__init__(values)
        self.values = values
        self.changed: Callable[[], None] = lambda: None

    def watch(self, changed: Callable[[], None]) -> None:
        self.changed = changed

    def set(self, name: str, value: str) -> None:
        self.values[name] = value
        self.changed()


async def test_a_webhook_whose_secret_comes_late_works_as_soon_as_it_is_there(engine: Engine) -> None:
    pid, secrets = name(), ChangingSecrets({})
    given = {
        "inbound.type": WEBHOOK,
        "inbound.context": pid,
        "inbound.auth.type": "BASIC",
        "inbound.auth.username": "me",
        "inbound.auth.password": "{{secrets.LATE}}",
    }
    await engine.deploy([Resource("a.bpmn", started_by(pid, **given))])
    async with gateway(engine, webhook, secrets=secrets) as runtime, aiohttp.ClientSession() as session:
        flow = runtime.inbound
        assert flow is not None

        def failures() -> int:
            found = [e for e in flow.supervisor.executables.values() if e.group.first.bpmn_process_id == pid]
            return sum(e.statistics.failures for e in found)

        await until(lambda: failures() >= 3, "failures")  # the next attempt by itself is seconds away
        secrets.set("LATE", "s3cret-that-came-late")
        await asyncio.wait_for(active(runtime, pid), 1)
        credentials = base64.b64encode(b"me:s3cret-that-came-late").decode()
        headers = {"Authorization": f"Basic {credentials}"}
        async with session.post(f"http://127.0.0.1:{runtime.port}/inbound/{pid}", json={}, headers=headers) as answer:
            assert answer.status == 200
