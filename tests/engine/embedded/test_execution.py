"""What elements do: gateways, events, sub-processes, errors, cancellation, endless processes."""

import pytest

from gateway.engine import NotFound
from tests.engine.embedded.driver import turns
from tests.engine.embedded.models import (
    ONE_TASK,
    TERMINATE,
    boundary,
    element,
    end,
    error,
    job,
    mapped,
    message,
    on_error,
    on_message,
    on_timer,
    one_task,
    process,
    start,
    sub,
    task,
)

XOR = '<b:exclusiveGateway id="g"{}/>'
FORK = '<b:parallelGateway id="f"/>'
JOIN = '<b:parallelGateway id="j"/>'


# ---- tasks -----------------------------------------------------------------------------------------------------------


async def test_script_send_and_business_rule_tasks_with_a_job_type_are_jobs(z):
    tags = ("scriptTask", "sendTask", "businessRuleTask")
    nodes = (task(f"t{n}", tag=tag, inputs={"x": f"= {n}"}, outputs={f"o{n}": "= r + x"}) for n, tag in enumerate(tags))
    await z.deploy(process(start(), *nodes, end(), flows="s t0 t1 t2 e"))
    key = await z.start()
    for n in range(3):
        await z.complete(await z.job(f"§t{n}"), r=10)
    assert await z.variables(key) == {"o0": 10, "o1": 11, "o2": 12}


async def test_a_script_task_sets_its_result_variable(z):
    script = '<z:script expression="= a + 1" resultVariable="r"/>'
    await z.deploy(process(start(), element("scriptTask", "x", "", script), end(), flows="s x e"))
    key = await z.start(variables={"a": 1})
    assert (await z.path(key), await z.variables(key)) == ("s x e", {"a": 1, "r": 2})


async def test_plain_tasks_and_none_throw_events_pass_and_map(z):
    nodes = (
        start(outputs={"begun": "= a"}),
        element("task", "u"),
        element("manualTask", "m"),
        element("intermediateThrowEvent", "n", "", mapped(None, {"x": "= begun + 1"})),
        end(),
    )
    await z.deploy(process(*nodes, flows="s u m n e"))
    key = await z.start(variables={"a": 1})
    assert await z.path(key) == "s u m n e"
    assert await z.variables(key) == {"a": 1, "begun": 1, "x": 2}


async def test_a_user_task_is_a_job_of_the_reserved_type(z):
    await z.deploy(process(start(), element("userTask", "u"), end(), flows="s u e"))
    key = await z.start()
    await z.complete(await z.job("io.camunda.zeebe:userTask"), approved=True)
    assert await z.variables(key) == {"approved": True}


async def test_message_throw_and_end_events_are_jobs(z):
    definition = "<b:messageEventDefinition/>"
    throw = element("intermediateThrowEvent", "m", definition, job("§m"))
    await z.deploy(process(start(), throw, element("endEvent", "me", definition, job("§me")), flows="s m me"))
    key = await z.start()
    await z.complete(await z.job("§m"))
    await z.complete(await z.job("§me"))
    assert (await z.path(key), await z.state(key)) == ("s m me", "COMPLETED")


# ---- gateways --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "way"), [(11, "a"), (7, "b"), (1, "c")])
async def test_an_exclusive_gateway_takes_the_first_true_condition_else_the_default_flow(z, x, way):
    flows = "s g\ng [= x > 10] a\ng c\ng [= x > 5] b"
    await z.deploy(process(start(), XOR.format(' default="g_c"'), end("a"), end("b"), end("c"), flows=flows))
    assert await z.path(await z.start(variables={"x": x})) == f"s g {way}"


async def test_a_gateway_without_a_true_condition_is_an_incident(z):
    flows = "s g\ng [= x > 10] a\ng [= x > 5] b"
    await z.deploy(process(start(), XOR.format(""), end("a"), end("b"), flows=flows))
    key = await z.start(variables={"x": 1})
    incident = await z.incident(key)
    assert (incident["errorType"], incident["elementId"]) == ("CONDITION_ERROR", "g")
    assert "at least one condition to evaluate to true, or to have a default flow" in incident["errorMessage"]
    await z.resolve(key, x=6)
    assert await z.path(key) == "s g b"


async def test_a_condition_that_is_no_boolean_is_an_incident_with_the_reason(z):
    await z.deploy(process(start(), XOR.format(""), end("a"), end("b"), flows="s g\ng [= x > 10] a\ng [= x > 5] b"))
    key = await z.start()
    incident = await z.incident(key)
    assert incident["errorType"] == "EXTRACT_VALUE_ERROR"
    assert "Expected result of the expression 'x > 10' to be 'BOOLEAN', but was 'NULL'." in incident["errorMessage"]
    assert "[NO_VARIABLE_FOUND] No variable found with name 'x'" in incident["errorMessage"]
    await z.resolve(key, x=11)
    assert await z.path(key) == "s g a"


async def test_a_parallel_gateway_starts_all_flows_and_joins_them_once(z):
    await z.deploy(process(start(), FORK, task("a"), task("b"), JOIN, end(), flows="s f a j e\nf b j"))
    key = await z.start()
    await z.complete(await z.job("§a"), a=1)
    assert await z.state(key) == "ACTIVE"
    await z.complete(await z.job("§b"), b=2)
    assert await z.path(key) == "s f a b j e"
    assert await z.variables(key) == {"a": 1, "b": 2}


async def test_a_join_counts_flows_not_arrivals(z):
    """Two tokens over one flow wait for one over the other."""
    nodes = (start(), FORK, task("a"), '<b:exclusiveGateway id="m"/>', JOIN, task("b"), end())
    flows = "s f a m j e\nf b j\nf m"
    await z.deploy(process(*nodes, flows=flows))
    key = await z.start()
    await z.complete(await z.job("§a"))
    assert "j" not in await z.elements(key)
    await z.complete(await z.job("§b"))
    assert (await z.elements(key)).count("j") == 1
    assert await z.state(key) == "ACTIVE"


async def test_an_instance_ends_when_its_last_branch_does(z):
    await z.deploy(process(start(), FORK, task("a"), task("b"), end("e1"), end("e2"), flows="s f a e1\nf b e2"))
    key = await z.start()
    await z.complete(await z.job("§b"))
    assert await z.state(key) == "ACTIVE"
    await z.complete(await z.job("§a"))
    assert await z.state(key) == "COMPLETED"


async def test_an_element_without_flows_ends_its_branch(z):
    await z.deploy(process(start(), task(), flows="s t"))
    key = await z.start()
    await z.complete(await z.job())
    assert await z.state(key) == "COMPLETED"


# ---- ends ------------------------------------------------------------------------------------------------------------


async def test_a_terminate_end_event_ends_all_else_in_its_scope(z):
    await z.deploy(process(start(), FORK, task("a"), task("b"), end(), end("x", TERMINATE), flows="s f a e\nf b x"))
    key = await z.start()
    other = await z.job("§a")
    await z.complete(await z.job("§b"))
    assert (await z.state(key), await z.path(key)) == ("COMPLETED", "s f b x")
    assert await z.elements(key, "TERMINATED") == ["a"]
    with pytest.raises(NotFound):
        await z.complete(other)


async def test_a_terminate_end_event_in_a_sub_process_leaves_the_rest_alone(z):
    inner = sub("p", start("ps"), FORK, task("a"), end("pe"), end("x", TERMINATE), flows="ps f a pe\nf x")
    await z.deploy(process(start(), inner, task(), end(), flows="s p t e"))
    key = await z.start()
    assert await z.elements(key, "ACTIVE") == ["t"]
    assert await z.jobs("§a") == []
    await z.complete(await z.job())
    assert await z.state(key) == "COMPLETED"


async def test_a_terminate_end_event_voids_tokens_on_their_way(z):
    await z.deploy(
        process(start(), FORK, end("x", TERMINATE), element("task", "u"), task(), end(), flows="s f x\nf u t e")
    )
    key = await z.start()
    assert await z.state(key) == "COMPLETED"
    assert await z.jobs() == []


async def test_an_error_end_event_is_caught_around_its_scope(z):
    inner = sub("p", start("ps"), end("x", on_error("E")), flows="ps x")
    top = error("E", "E-1")
    nodes = (start(), inner, end(), boundary("b", "p", on_error("E")), end("caught"))
    await z.deploy(process(*nodes, flows="s p e\nb caught", top=top))
    key = await z.start()
    assert await z.path(key) == "s ps b caught"


async def test_an_error_end_event_that_nobody_catches_is_an_incident(z):
    await z.deploy(process(start(), end("x", on_error("E")), flows="s x", top=error("E", "E-1")))
    incident = await z.incident(await z.start())
    assert (incident["errorType"], incident["elementId"]) == ("UNHANDLED_ERROR_EVENT", "x")
    assert "'E-1', but it was not caught. No error events are available in the scope." in incident["errorMessage"]


async def test_the_code_of_an_error_end_event_may_be_feel(z):
    await z.deploy(process(start(), end("x", on_error("E")), flows="s x", top=error("E", "= code")))
    assert "'dyn'" in (await z.incident(await z.start(variables={"code": "dyn"})))["errorMessage"]
    assert (await z.incident(await z.start()))["errorType"] == "EXTRACT_VALUE_ERROR"


# ---- error boundary events -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "path"), [("E-2", "s b eb"), ("other", "s any ea")])
async def test_an_event_of_the_code_goes_before_one_for_all(z, code, path):
    nodes = (boundary("any", "t", on_error()), boundary("b", "t", on_error("E")), end("ea"), end("eb"))
    await z.deploy(one_task(*nodes, flows="any ea\nb eb", top=error("E", "E-2")))
    key = await z.start()
    await z.throw(await z.job(), code)
    assert await z.path(key) == path


async def test_output_mappings_of_the_event_see_the_errors_variables_and_nothing_else_leaves(z):
    caught = boundary("b", "t", on_error("E"), outputs={"seen": "= detail + 1"})
    await z.deploy(one_task(caught, end("eb"), flows="b eb", top=error("E", "E-1")))
    key = await z.start()
    await z.throw(await z.job(), "E-1", detail=7, more=1)
    assert (await z.path(key), await z.variables(key)) == ("s b eb", {"seen": 8})


async def test_an_error_not_caught_at_the_task_is_caught_around_it_and_ends_all_inside(z):
    inside = (start("ps"), FORK, task(), task("u"), end("pe"), boundary("no", "t", on_error("E9")), end("pn"))
    inner = sub("p", *inside, flows="ps f t pe\nf u pe\nno pn")
    top = error("E", "E-1") + error("E9", "E-9")
    nodes = (start(), inner, end(), boundary("b", "p", on_error("E")), end("caught"))
    await z.deploy(process(*nodes, flows="s p e\nb caught", top=top))
    key = await z.start()
    other = await z.job("§u")
    await z.throw(await z.job(), "E-1", detail=1)
    assert await z.path(key) == "s ps f b caught"
    assert sorted(await z.elements(key, "TERMINATED")) == ["p", "t", "u"]
    assert await z.variables(key) == {"detail": 1}
    with pytest.raises(NotFound):
        await z.complete(other)


# ---- sub-processes ---------------------------------------------------------------------------------------------------


async def test_results_go_to_the_innermost_scope_that_has_the_variable(z):
    inner = sub(
        "p", start("ps"), task(), end("pe"), flows="ps t pe", ext=mapped({"local": "= a"}, {"out": "= local + 1"})
    )
    await z.deploy(process(start(), inner, end(), flows="s p e"))
    key = await z.start(variables={"a": 1})
    await z.complete(await z.job(), local=5, a=2, new=3)
    assert await z.variables(key) == {"a": 2, "new": 3, "out": 6}
    assert await z.path(key) == "s p ps t pe e"


async def test_a_sub_process_that_fails_to_map_its_results_stays_until_it_can(z):
    ext = mapped(None, {"out": '= assert(ok, ok != null, "ok is needed")'})
    await z.deploy(process(start(), sub("p", start("ps"), end("pe"), flows="ps pe", ext=ext), end(), flows="s p e"))
    key = await z.start()
    assert (await z.incident(key))["elementId"] == "p"
    await z.resolve(key, ok=1)
    assert (await z.path(key), await z.variables(key)) == ("s p ps pe e", {"ok": 1, "out": 1})


# ---- waiting ---------------------------------------------------------------------------------------------------------


async def test_a_timer_catch_event_waits_for_its_time(z, engine):
    catch = element("intermediateCatchEvent", "c", on_timer("Duration", "= wait"))
    await z.deploy(process(start(), catch, end(), flows="s c e"))
    key = await z.start(variables={"wait": "PT1H30M"})
    await engine.advance(5399)
    assert await z.state(key) == "ACTIVE"
    await engine.advance(2)
    assert await z.path(key) == "s c e"


async def test_an_interrupting_timer_ends_the_task_and_its_job(z, engine):
    await z.deploy(one_task(boundary("b", "t", on_timer("Duration", "PT1H")), end("eb"), flows="b eb"))
    late, done = await z.start(), await z.start()
    first = await z.job(timeout_ms=10_000_000)
    await z.complete(await z.job(timeout_ms=10_000_000))
    await engine.advance(3601)
    assert (await z.path(late), await z.path(done)) == ("s b eb", "s t e")
    with pytest.raises(NotFound):
        await z.complete(first)


async def test_a_cycle_at_a_task_happens_as_often_as_it_says_each_at_its_time(z, engine):
    note = boundary("n", "t", on_timer("Cycle", "R2/PT10M"), interrupting=False)
    await z.deploy(one_task(note, end("en"), flows="n en"))
    key = await z.start()
    await engine.advance(3600)
    rows = list(await z.rows("element-instances", key, elementId="n"))
    assert [row["startDate"][11:19] for row in rows] == ["22:23:20", "22:33:20"]
    assert await z.state(key) == "ACTIVE"


async def test_a_cycle_without_an_end_stops_with_its_task(z, engine):
    note = boundary("n", "t", on_timer("Cycle", "R/PT10M"), interrupting=False)
    await z.deploy(one_task(note, end("en"), flows="n en"))
    key = await z.start()
    await engine.advance(6001)
    assert (await z.elements(key)).count("n") == 10
    await z.complete(await z.job())
    await engine.advance(6001)
    assert (await z.elements(key)).count("n") == 10
    assert await z.state(key) == "COMPLETED"


async def test_a_receive_task_waits_for_its_message_or_its_boundary_event(z):
    top = message("m", "§go", "= key") + message("m2", "§stop", "= key")
    nodes = (
        start(),
        element("receiveTask", "r", messageRef="m"),
        end(),
        boundary("b", "r", on_message("m2")),
        end("eb"),
    )
    await z.deploy(process(*nodes, flows="s r e\nb eb", top=top))
    going, stopped = await z.start(variables={"key": "k1"}), await z.start(variables={"key": "k2"})
    await z.publish("§go", "k1", v=1)
    await z.publish("§stop", "k2")
    assert (await z.path(going), await z.path(stopped)) == ("s r e", "s b eb")
    assert await z.elements(stopped, "TERMINATED") == ["r"]


async def test_an_element_whose_events_cannot_be_waited_for_waits_for_none_of_them(z, engine):
    top = message("m", "§go", "= key") + message("m2", "§stop", "= missing")
    nodes = (boundary("b", "t", on_message("m")), end("eb"), boundary("c", "t", on_message("m2")), end("ec"))
    await z.deploy(one_task(*nodes, flows="b eb\nc ec", top=top))
    key = await z.start(variables={"key": "k"})
    incident = await z.incident(key)
    assert (incident["errorType"], incident["elementId"]) == ("EXTRACT_VALUE_ERROR", "t")
    assert await z.rows("message-subscriptions", key) == []
    await z.resolve(key, missing="there")
    assert len(await z.rows("message-subscriptions", key)) == 2
    await z.publish("§go", "k")
    assert await z.path(key) == "s b eb"


# ---- the end of instances --------------------------------------------------------------------------------------------


async def test_cancelling_ends_everything_from_the_inside(z, engine):
    inner = sub("p", start("ps"), task(), end("pe"), flows="ps t pe")
    await z.deploy(process(start(), inner, end(), flows="s p e"))
    key = await z.start()
    await engine.cancel_process_instance(key)
    assert (await z.state(key), await z.path(key)) == ("TERMINATED", "s ps")
    ended = [r.value["elementId"] for r in engine.records() if r.intent == "ELEMENT_TERMINATED"]
    assert ended == ["t", "p", z.name]
    with pytest.raises(NotFound, match=str(key)):
        await engine.cancel_process_instance(key)
    with pytest.raises(NotFound, match="'4711'"):
        await engine.cancel_process_instance(4711)


async def test_a_process_without_end_leaves_the_event_loop_to_others(z, engine):
    await z.deploy(
        process(start(), '<b:exclusiveGateway id="g"/>', element("task", "u"), flows="s g u g"), one_task(id_="§2")
    )
    key = await z.start()
    assert await z.state(key) == "ACTIVE"
    other = await z.start("§2")
    jobs = []
    for _ in range(20):
        await turns(1)
        jobs += await z.jobs()
    assert [j.process_instance_key for j in jobs] == [other]
    assert len(await z.rows("element-instances", key)) <= 10_000
    await engine.cancel_process_instance(key)
    await engine.idle()
    assert await z.state(key) == "TERMINATED"


async def test_a_failed_activation_of_an_element_in_a_cancelled_instance_is_forgotten(z, engine):
    await z.deploy(one_task(inputs={"x": '= assert(a, a != null, "a")'}))
    key = await z.start()
    assert len(engine.incidents()) == 1
    await engine.cancel_process_instance(key)
    assert engine.incidents() == []
    assert await z.jobs() == []


async def test_many_instances_of_one_definition_do_not_disturb_each_other(z):
    await z.deploy(ONE_TASK)
    keys = [await z.start(variables={"n": n}) for n in range(50)]
    for one in await z.jobs():
        await z.complete(one, r=one.process_instance_key)
    for n, key in enumerate(keys):
        assert await z.variables(key) == {"n": n, "r": key}


async def test_events_of_a_task_that_began_again_are_not_opened_twice(z, engine):
    note = boundary("n", "t", on_timer("Duration", "PT1M"), interrupting=False)
    await z.deploy(one_task(note, end("en"), flows="n en", job_type="= kind"))
    key = await z.start()
    await engine.advance(61)
    assert (await z.elements(key)).count("n") == 1
    await z.resolve(key, kind=z.full("§t"))
    await engine.advance(61)
    assert (await z.elements(key)).count("n") == 1
    await z.complete(await z.job())
    assert await z.state(key) == "COMPLETED"


async def test_an_instance_that_loops_keeps_only_its_newest_history(z, monkeypatch):
    monkeypatch.setattr("gateway.engine.embedded.entities.HISTORY_PER_INSTANCE", 20)
    await z.deploy(process(start(), '<b:exclusiveGateway id="g"/>', task(), flows="s g t g"))
    key = await z.start()
    for _ in range(50):
        await z.complete(await z.job())
    assert len(await z.rows("element-instances", key)) <= 20
    assert len(await z.rows("jobs", key)) <= 20
    assert await z.elements(key, "ACTIVE") == ["t"]
    assert [row["state"] for row in await z.rows("jobs", key)][-1] == "CREATED"
