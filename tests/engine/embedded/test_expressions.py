"""Mappings and expressions of models, as jobs and instances show them."""

from decimal import Decimal

import pytest

from tests.engine.embedded.driver import seen
from tests.engine.embedded.models import element, end, job, mapped, one_task, process, start


async def test_inputs_are_seen_by_the_job_beside_the_others_and_by_nobody_else(z):
    await z.deploy(one_task(inputs={"x": "= a + 1", "text": "plain text"}))
    key = await z.start(variables={"a": 1})
    one = await z.job()
    assert seen(one) == {"a": 1, "x": 2, "text": "plain text"}
    assert await z.variables(key, one.element_instance_key) == {"x": 2, "text": "plain text"}
    await z.complete(one)
    assert await z.variables(key) == {"a": 1}


async def test_later_inputs_see_earlier_ones(z):
    await z.deploy(one_task(inputs={"x": "= a + 1", "y": "= x * 10", "a": "= 99", "z": "= a"}))
    await z.start(variables={"a": 1})
    assert seen(await z.job()) == {"x": 2, "y": 20, "a": 99, "z": 99}


async def test_nested_targets_are_one_context_evaluated_where_its_first_entry_stands(z):
    inputs = {"a.b": "= 1", "c": "= a.b + a.d", "a.d": "= b + 10", "a.e.f": "= d", "a.e.g": "= f + b"}
    await z.deploy(one_task(inputs=inputs))
    await z.start()
    assert seen(await z.job()) == {"a": {"b": 1, "d": 11, "e": {"f": 11, "g": 12}}, "c": 12}


async def test_an_entry_of_a_context_hides_the_variable_of_its_name_only_inside_it(z):
    await z.deploy(one_task(inputs={"a.b": "= b + 1", "a.c": "= b", "d": "= b"}))
    await z.start(variables={"b": 10})
    assert seen(await z.job()) == {"a": {"b": 11, "c": 11}, "b": 10, "d": 10}


async def test_a_nested_input_replaces_the_outer_variable_which_its_own_entries_still_see(z):
    await z.deploy(one_task(inputs={"a.b": "= a.old"}))
    await z.start(variables={"a": {"old": 1}})
    assert seen(await z.job()) == {"a": {"b": 1}}


async def test_a_missing_variable_or_an_empty_source_is_null(z):
    await z.deploy(one_task(inputs={"x": "= missing", "y": "= a.b.c", "e": ""}))
    await z.start(variables={"a": {"b": 1}})
    assert seen(await z.job()) == {"a": {"b": 1}, "x": None, "y": None, "e": None}


async def test_feel_values_become_json(z):
    inputs = {
        "sum": "= 0.1 + 0.2",
        "whole": "= 10 / 4 * 2",
        "date": '= date("2024-02-29") + duration("P1Y")',
        "at": '= date and time("2024-01-01T10:00:00Z") + duration("PT90M")',
        "span": '= duration("PT90M")',
        "list": "= for x in items return x * 2",
        "context": '= {a: 1, "b c": {d: [a, "x"]}}',
        "yes": "= items[1] = 1",
    }
    await z.deploy(one_task(inputs=inputs))
    await z.start(variables={"items": [1, 2, 3]})
    found = seen(await z.job())
    assert found["sum"] == Decimal("0.3")
    assert (found["whole"], found["date"], found["at"]) == (5, "2025-02-28", "2024-01-01T11:30:00Z")
    assert (found["span"], found["list"], found["yes"]) == ("PT1H30M", [2, 4, 6], True)
    assert found["context"] == {"a": 1, "b c": {"d": [1, "x"]}}


async def test_halves_of_characters_never_reach_a_variable(z):
    inputs = {
        "half": '= substring("😀x", 1, 1)',
        "whole": '= substring("😀", 1, 1) + substring("😀", 2, 1)',
        "inside": '= {a: [substring("😀", 1, 1)], b: "ü"}',
    }
    await z.deploy(one_task(inputs=inputs))
    await z.start()
    assert seen(await z.job()) == {"half": "?", "whole": "😀", "inside": {"a": ["?"], "b": "ü"}}


async def test_an_entry_is_a_feel_value_for_the_entries_after_it(z):
    await z.deploy(one_task(inputs={"day": '= date("2024-02-29")', "year": "= day.year"}))
    await z.start()
    assert seen(await z.job()) == {"day": "2024-02-29", "year": 2024}


async def test_now_is_the_engines_time(z, engine):
    await z.deploy(one_task(inputs={"then": '= now() = date and time("2023-11-14T22:13:20Z") + duration("PT1H")'}))
    await engine.advance(3600)
    await z.start()
    assert seen(await z.job()) == {"then": True}


async def test_with_outputs_only_what_they_make_leaves_the_task(z):
    outputs = {"total": "= r * 2", "kept": "= local", "next": "= total + 1"}
    await z.deploy(one_task(inputs={"local": "= 7"}, outputs=outputs))
    key = await z.start(variables={"a": 1})
    await z.complete(await z.job(), r=5, unmapped=1, a=9)
    assert await z.variables(key) == {"a": 1, "total": 10, "kept": 7, "next": 11}


async def test_a_nested_output_adds_to_what_is_there(z):
    await z.deploy(one_task(outputs={"out.deep.x": "= r", "made.new": "= r"}))
    key = await z.start(variables={"out": {"old": True, "deep": {"y": 1}}})
    await z.complete(await z.job(), r=5)
    assert await z.variables(key) == {"out": {"old": True, "deep": {"y": 1, "x": 5}}, "made": {"new": 5}}


async def test_a_result_named_as_a_local_variable_changes_that_and_goes_no_further(z):
    await z.deploy(one_task(inputs={"x": "= 1"}))
    key = await z.start()
    await z.complete(await z.job(), x=2, y=3)
    assert await z.variables(key) == {"y": 3}


async def test_an_input_that_fails_is_an_incident_and_the_task_starts_once_resolved(z):
    await z.deploy(one_task(inputs={"x": '= assert(a, a != null, "a is needed")'}))
    key = await z.start()
    incident = await z.incident(key)
    assert (incident["errorType"], incident["elementId"]) == ("IO_MAPPING_ERROR", "t")
    assert "a is needed" in incident["errorMessage"]
    assert await z.jobs() == []
    await z.resolve(key, a=1)
    await z.complete(await z.job())
    assert await z.state(key) == "COMPLETED"


async def test_an_output_that_fails_is_an_incident_and_makes_no_new_job_once_resolved(z):
    await z.deploy(one_task(outputs={"out": '= assert(ok, ok != null, "ok is needed") + r'}))
    key = await z.start()
    await z.complete(await z.job(), r=1)
    assert (await z.incident(key))["errorType"] == "IO_MAPPING_ERROR"
    await z.resolve(key, ok=1)
    assert await z.jobs() == []
    assert await z.variables(key) == {"ok": 1, "out": 2}


async def test_job_type_and_retries_may_be_feel(z):
    await z.deploy(one_task(job_type='= "§" + kind', retries="= n + 2"))
    await z.start(variables={"kind": "dynamic", "n": 3})
    assert (await z.job("§dynamic")).retries == 5


@pytest.mark.parametrize(
    ("options", "wanted"),
    [({"job_type": "= wanted"}, "'STRING', but was 'NULL'"), ({"retries": "= wanted"}, "'NUMBER', but was 'NULL'")],
)
async def test_a_job_type_or_retries_of_a_wrong_type_are_an_incident(z, options, wanted):
    await z.deploy(one_task(**options))
    key = await z.start()
    incident = await z.incident(key)
    assert incident["errorType"] == "EXTRACT_VALUE_ERROR"
    assert f"Expected result of the expression 'wanted' to be {wanted}." in incident["errorMessage"]
    assert "[NO_VARIABLE_FOUND] No variable found with name 'wanted'" in incident["errorMessage"]


async def test_resolving_evaluates_the_inputs_again(z):
    await z.deploy(one_task(job_type="= kind", inputs={"kind": "= wanted"}))
    key = await z.start()
    await z.resolve(key, wanted=z.full("§late"))
    assert seen(await z.job("§late"))["kind"] == z.full("§late")


async def test_a_script_that_fails_is_an_incident(z):
    script = element("scriptTask", "x", "", '<z:script expression="= assert(a, a != null)" resultVariable="r"/>')
    await z.deploy(process(start(), script, end(), flows="s x e"))
    key = await z.start()
    assert (await z.incident(key))["elementId"] == "x"
    await z.resolve(key, a=5)
    assert await z.variables(key) == {"a": 5, "r": 5}


async def test_events_map_their_inputs_too(z):
    throw = element("intermediateThrowEvent", "n", "", mapped({"x": "= a + 1"}, {"y": "= x"}))
    ending = element("endEvent", "e", "<b:messageEventDefinition/>", job("§e") + mapped({"z": "= y"}))
    await z.deploy(process(start(), throw, ending, flows="s n e"))
    await z.start(variables={"a": 1})
    assert seen(await z.job("§e")) == {"a": 1, "y": 2, "z": 2}
