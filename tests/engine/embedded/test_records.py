"""The records of what happened."""

from gateway.engine.embedded import EmbeddedEngine, Record, VirtualClock
from tests.engine.embedded.conftest import EngineControls
from tests.engine.embedded.driver import World
from tests.engine.embedded.models import EMPTY, ONE_TASK, message, on_message, process, start, task


def brief(records: list[Record]) -> list[str]:
    return [f"{r.value_type} {r.intent} {r.value.get('elementId', '')}".strip() for r in records]


async def test_all_that_happens_to_an_instance_is_recorded_in_order(z, engine):
    await z.deploy(ONE_TASK)
    key = await z.start(variables={"a": 1})
    job = await z.job()
    await z.fail(job, 0, "broken")
    await engine.resolve_incident(engine.incidents()[0].key, retries=1)
    await z.complete(await z.job(), a=2)
    mine = [r for r in engine.records() if r.value.get("processInstanceKey") == key]
    assert brief(mine) == [
        f"PROCESS_INSTANCE ELEMENT_ACTIVATED {z.name}",
        f"VARIABLE CREATED {z.name}",
        "PROCESS_INSTANCE ELEMENT_ACTIVATED s",
        "PROCESS_INSTANCE ELEMENT_COMPLETED s",
        "PROCESS_INSTANCE ELEMENT_ACTIVATED t",
        "JOB CREATED t",
        "JOB ACTIVATED t",
        "JOB FAILED t",
        "INCIDENT CREATED t",
        "JOB RETRIES_UPDATED t",
        "INCIDENT RESOLVED t",
        "JOB ACTIVATED t",
        "JOB COMPLETED t",
        f"VARIABLE UPDATED {z.name}",
        "PROCESS_INSTANCE ELEMENT_COMPLETED t",
        "PROCESS_INSTANCE ELEMENT_ACTIVATED e",
        "PROCESS_INSTANCE ELEMENT_COMPLETED e",
        f"PROCESS_INSTANCE ELEMENT_COMPLETED {z.name}",
    ]
    assert [r.position for r in mine] == sorted(r.position for r in mine)
    [incident] = [r for r in mine if r.intent == "CREATED" and r.value_type == "INCIDENT"]
    assert (incident.value["errorType"], incident.value["errorMessage"], incident.value["jobKey"]) == (
        "JOB_NO_RETRIES",
        "broken",
        job.key,
    )


async def test_deployments_and_messages_are_recorded(z, engine):
    await z.deploy(process(start("s", on_message("m")), task(), flows="s t", top=message("m", "§go")))
    await z.publish("§go", "k", ttl_ms=1000, message_id="1", v=1)
    await engine.advance(2)
    first, *rest = engine.records()
    assert (first.value_type, first.intent, first.value["bpmnProcessId"]) == ("PROCESS", "CREATED", z.name)
    messages = [r for r in rest if r.value_type == "MESSAGE"]
    assert [r.intent for r in messages] == ["PUBLISHED", "CORRELATED", "EXPIRED"]
    assert (messages[0].value["name"], messages[0].value["messageId"]) == (z.full("§go"), "1")
    assert messages[2].timestamp_ms == messages[0].timestamp_ms + 1000


async def test_only_the_newest_are_kept_and_none_when_told_so():
    for keep in (3, 0):
        engine = EmbeddedEngine(clock=VirtualClock(), keep_records=keep)
        z = World(engine, EngineControls(engine))
        await z.deploy(EMPTY)
        await z.start()
        assert len(engine.records()) == keep
        await engine.close()


async def test_a_listener_hears_each_record_until_it_is_stopped():
    engine = EmbeddedEngine(clock=VirtualClock(), keep_records=0)
    z = World(engine, EngineControls(engine))
    await z.deploy(EMPTY)
    heard: list[Record] = []
    stop = engine.listen(heard.append)
    await z.start()
    count = len(heard)
    assert brief(heard)[0] == f"PROCESS_INSTANCE ELEMENT_ACTIVATED {z.name}"
    stop()
    stop()
    await z.start()
    assert len(heard) == count == 6
    await engine.close()
