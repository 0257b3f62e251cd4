"""Messages: start events, the buffer, ids, correlation."""

import pytest

from gateway.engine import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from tests.engine.embedded.driver import seen
from tests.engine.embedded.models import (
    boundary,
    element,
    end,
    mapped,
    message,
    on_message,
    one_task,
    process,
    start,
    task,
)

STARTED = process(start("s", on_message("m")), task(), end(), flows="s t e", top=message("m", "§go"))
CATCH = process(
    start(),
    element("intermediateCatchEvent", "c", on_message("m")),
    end(),
    flows="s c e",
    top=message("m", "§go", "= key"),
)


# ---- start events ----------------------------------------------------------------------------------------------------


async def test_a_message_starts_an_instance_with_its_variables(z):
    await z.deploy(STARTED)
    for n in (1, 2):
        await z.publish("§go", n=n)
    jobs = await z.jobs()
    assert [seen(job) for job in jobs] == [{"n": 1}, {"n": 2}]
    await z.complete(jobs[0])
    assert await z.path(jobs[0].process_instance_key) == "s t e"
    assert await z.variables(jobs[0].process_instance_key) == {"n": 1}


async def test_the_start_event_maps_the_messages_variables(z):
    mapping = mapped(None, {"order": "= number + 1"})
    node = element("startEvent", "s", on_message("m"), mapping)
    await z.deploy(process(node, task(), end(), flows="s t e", top=message("m", "§go")))
    await z.publish("§go", number=1, other=2)
    assert seen(await z.job()) == {"order": 2}


async def test_a_process_with_only_message_start_events_is_not_started_by_command(z):
    await z.deploy(STARTED)
    with pytest.raises(FailedPrecondition, match="none start event"):
        await z.start()


async def test_a_process_may_be_started_by_command_and_by_several_messages(z):
    nodes = (start(), start("s1", on_message("m1")), start("s2", on_message("m2")), task(), end())
    top = message("m1", "§one") + message("m2", '= "§two"')
    await z.deploy(process(*nodes, flows="s t e\ns1 t\ns2 t", top=top))
    by_command = await z.start()
    await z.publish("§one")
    await z.publish("§two")
    [first, second, third] = await z.jobs()
    assert first.process_instance_key == by_command
    assert await z.path(second.process_instance_key) == "s1"
    assert await z.path(third.process_instance_key) == "s2"


async def test_a_message_starts_each_process_that_waits_for_its_name_in_its_newest_version(z):
    await z.deploy(STARTED, STARTED.replace('id="§"', 'id="§2"'))
    await z.deploy(STARTED.replace("§t", "§new"))
    await z.publish("§go")
    assert len(await z.jobs()) == 1
    [job] = await z.jobs("§new")
    assert job.process_definition_version == 2


async def test_while_an_instance_started_by_a_key_lives_that_key_starts_no_other(z):
    await z.deploy(STARTED)
    for n in (1, 2, 3):
        await z.publish("§go", "k", ttl_ms=600_000, n=n)
    await z.publish("§go", "k", n=4)
    await z.publish("§go", "other", n=5)
    order = []
    for _ in range(4):
        for job in await z.jobs():
            order.append(seen(job)["n"])
            await z.complete(job)
    assert order == [1, 5, 2, 3]


async def test_a_cancelled_instance_frees_its_key_too(z, engine):
    await z.deploy(STARTED)
    await z.publish("§go", "k")
    [key] = await z.running()
    await engine.cancel_process_instance(key)
    await z.publish("§go", "k", n=2)
    assert seen(await z.job()) == {"n": 2}


async def test_without_a_key_there_are_as_many_instances_as_messages(z):
    await z.deploy(STARTED)
    for _ in range(3):
        await z.publish("§go")
    assert len(await z.running()) == 3


# ---- the buffer ------------------------------------------------------------------------------------------------------


async def test_a_message_reaches_the_instance_of_its_key(z):
    await z.deploy(CATCH)
    first, second = await z.start(variables={"key": "a"}), await z.start(variables={"key": 12})
    await z.publish("§go", "a", v=1)
    assert (await z.state(first), await z.state(second)) == ("COMPLETED", "ACTIVE")
    assert await z.variables(first) == {"key": "a", "v": 1}
    await z.publish("§go", "12")
    assert await z.state(second) == "COMPLETED"


async def test_a_buffered_message_waits_for_a_subscription_the_first_published_first(z):
    await z.deploy(CATCH)
    for n in (1, 2):
        await z.publish("§go", "k", ttl_ms=60_000, n=n)
    keys = [await z.start(variables={"key": "k"}) for _ in range(3)]
    assert [(await z.variables(key)).get("n") for key in keys] == [1, 2, None]


async def test_a_message_is_gone_after_its_time_to_live_or_at_once_without_one(z, engine):
    await z.deploy(CATCH)
    await z.publish("§go", "k", ttl_ms=1000, n=1)
    await z.publish("§go", "k", n=2)
    await engine.advance(1.1)
    key = await z.start(variables={"key": "k"})
    assert await z.state(key) == "ACTIVE"
    await z.publish("§go", "k", n=3)
    assert (await z.variables(key))["n"] == 3


async def test_a_message_reaches_each_process_once(z):
    await z.deploy(CATCH, CATCH.replace('id="§"', 'id="§2"'))
    keys = [await z.start(p, {"key": "k"}) for p in ("§", "§", "§2")]
    await z.publish("§go", "k")
    assert [await z.state(key) for key in keys] == ["COMPLETED", "ACTIVE", "COMPLETED"]


async def test_while_it_is_buffered_a_message_id_is_taken_for_its_name_and_key(z, engine):
    await z.publish("§go", "k", ttl_ms=10_000, message_id="1")
    with pytest.raises(
        AlreadyExists, match="a new message with id '1', but a message with that id was already published"
    ):
        await z.publish("§go", "k", message_id="1")
    await z.publish("§go", "other", ttl_ms=10_000, message_id="1")
    await z.publish("§go2", "k", ttl_ms=10_000, message_id="1")
    await z.publish("§go", "k", ttl_ms=10_000, message_id="2")
    await engine.advance(10.1)
    await z.publish("§go", "k", message_id="1")
    await z.publish("§go", "k", message_id="1")


async def test_a_message_without_a_name_is_refused(engine):
    with pytest.raises(InvalidArgument, match="name"):
        await engine.publish_message(name="")
    with pytest.raises(InvalidArgument, match="name"):
        await engine.correlate_message(name="")


async def test_the_key_is_that_of_the_time_of_subscribing(z):
    await z.deploy(CATCH)
    key = await z.start(variables={"key": "old"})
    await z.controls.set_variables(key, '{"key": "new"}')
    await z.publish("§go", "new", v=1)
    await z.publish("§go", "old", v=2)
    assert await z.variables(key) == {"key": "new", "v": 2}


async def test_a_key_that_is_neither_text_nor_number_is_an_incident(z):
    await z.deploy(CATCH)
    key = await z.start()
    incident = await z.incident(key)
    assert incident["errorType"] == "EXTRACT_VALUE_ERROR"
    assert "Failed to extract the correlation key for 'key' expression" in incident["errorMessage"]
    await z.resolve(key, key="x")
    await z.publish("§go", "x")
    assert await z.state(key) == "COMPLETED"


async def test_a_non_interrupting_event_happens_with_every_message(z):
    note = boundary("n", "t", on_message("m"), interrupting=False)
    await z.deploy(one_task(note, end("en"), flows="n en", top=message("m", "§note", "= key")))
    key = await z.start(variables={"key": "k"})
    for v in (1, 2):
        await z.publish("§note", "k", ttl_ms=1000, v=v)
        assert await z.variables(key) == {"key": "k", "v": v}
    await z.complete(await z.job())
    assert sorted(await z.elements(key)) == sorted(["s", "n", "en", "n", "en", "t", "e"])
    assert await z.state(key) == "COMPLETED"


async def test_an_interrupting_event_ends_the_task(z):
    await z.deploy(
        one_task(boundary("b", "t", on_message("m")), end("eb"), flows="b eb", top=message("m", "§stop", "= key"))
    )
    key = await z.start(variables={"key": "k"})
    job = await z.job()
    await z.publish("§stop", "k", v=1)
    assert (await z.path(key), await z.variables(key)) == ("s b eb", {"key": "k", "v": 1})
    with pytest.raises(NotFound):
        await z.complete(job)


# ---- correlation at once ---------------------------------------------------------------------------------------------


async def test_correlation_answers_with_the_instance_or_that_nobody_waits(z, engine):
    await z.deploy(CATCH)
    with pytest.raises(
        NotFound, match=f"message with name '{z.full('§go')}' and correlation key 'k', but none was found"
    ):
        await engine.correlate_message(name=z.full("§go"), correlation_key="k")
    key = await z.start(variables={"key": "k"})
    answer = await engine.correlate_message(name=z.full("§go"), correlation_key="k", variables='{"v": 1}')
    assert (answer.process_instance_key, answer.tenant_id) == (key, "<default>")
    assert await z.variables(key) == {"key": "k", "v": 1}


async def test_correlation_starts_an_instance_and_leaves_nothing_in_the_buffer(z, engine):
    await z.deploy(STARTED)
    answer = await engine.correlate_message(name=z.full("§go"), correlation_key="k", variables='{"v": 1}')
    job = await z.job()
    assert (job.process_instance_key, seen(job)) == (answer.process_instance_key, {"v": 1})
    with pytest.raises(NotFound):
        await engine.correlate_message(name=z.full("§go"), correlation_key="k")
    await z.complete(job)
    assert await z.running() == []


async def test_subscriptions_are_found_with_what_became_of_them(z, engine):
    await z.deploy(CATCH)
    first, second = await z.start(variables={"key": "k"}), await z.start(variables={"key": "q"})
    [row] = await z.rows("message-subscriptions", first)
    wanted = (z.full("§go"), "k", "c", "CREATED", z.name)
    found = tuple(
        row[f]
        for f in ("messageName", "correlationKey", "elementId", "messageSubscriptionState", "processDefinitionId")
    )
    assert found == wanted
    await z.publish("§go", "k")
    await engine.cancel_process_instance(second)
    states = [(await z.rows("message-subscriptions", key))[0]["messageSubscriptionState"] for key in (first, second)]
    assert states == ["CORRELATED", "DELETED"]
