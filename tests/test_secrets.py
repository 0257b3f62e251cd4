"""Secrets: how text refers to them, who may use which, and that none leaves."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.engine import NotFound, Unavailable
from gateway.secrets import (
    EnvironmentSecrets,
    MapSecrets,
    Masker,
    SecretContext,
    SecretFilter,
    Secrets,
    SecretsUnreadable,
    SecretUnavailable,
    allow_all,
    mask_tree,
    mask_with,
    mentions,
    references,
)

CONTEXT = SecretContext("<default>", "process")


class Counting:
    """A provider that counts its calls."""

    def __init__(self, **values: str) -> None:
        self.values = values
        self.asked: list[str] = []

    async def get_secret(self, name: str, context: SecretContext) -> str | None:
        self.asked.append(name)
        return self.values.get(name)


async def replaced(text: str, *, allowed: Callable[[str], bool] = allow_all, **values: str) -> str:
    return await Secrets([MapSecrets(values)]).replace(text, CONTEXT, allowed)


# ---- references ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{{secrets.A}}", ["A"]),
        ("{{ secrets.A }}", ["A"]),
        ("{{\t secrets.A\n}}", ["A"]),
        ("{{secrets.my-key/of.all_kinds}}", ["my-key/of.all_kinds"]),
        ("{{secrets.ä€}}", ["ä€"]),
        ("{{secrets.A__B}}", ["A__B"]),
        ("{{secrets.}}}", ["}"]),
        ("{{{secrets.A}}}", ["A"]),
        ("{{secrets.{{secrets.A}}", ["{{secrets.A"]),
        ("{{secrets.A}}{{secrets.B}}{{secrets.A}}", ["A", "B"]),
        ("{{secrets.A B}}", ["A"]),  # no braces form, but the bare one
        ("{{secrets.", []),
        ("{{secrets.}}", []),
        ("{{secret.A}}", []),
        ("secrets.A", ["A"]),
        ("secrets.A__B", ["A"]),
        ("secrets.a/b.c_d-e-", ["a/b.c_d-e"]),
        ("mysecrets.foo", ["foo"]),
        ("https://secrets.example.com/x?y", ["example.com/x"]),
        ("camunda.secrets.X", ["X"]),
        ("secrets..A secrets.", []),
        ("{{secrets.A}} secrets.B", ["A", "B"]),
        ("sec{{secrets.A}}rets.B", ["A"]),
    ],
)
def test_references_are_found_in_both_forms(text: str, names: list[str]) -> None:
    assert references(text) == names


def test_a_quick_look_tells_that_there_are_none() -> None:
    assert mentions('{"a": "{{secrets.A}}"}')
    assert not mentions('{"a": "secret"}')


@pytest.mark.parametrize(
    "text",
    [
        "{{secrets." * 400_000,
        "{{secrets." * 400_000 + "}}",
        "{{secrets.a" * 25 + " " * 4_000_000,
        "{{secrets.a " * 300_000,
        "{{secrets.a}}" * 300_000,
        "{{ " * 1_300_000,
        "{{" + " " * 4_000_000,
        "}}" * 2_000_000,
        "secrets." * 500_000,
        "secrets.a." * 400_000,
        "secrets." + "a-" * 2_000_000,
        "secrets." + "a" * 4_000_000,
    ],
    ids=lambda text: text[:14],
)
async def test_no_text_of_four_megabytes_takes_long(text: str) -> None:
    began = time.perf_counter()
    await Secrets([MapSecrets({})]).replace(text, CONTEXT, lambda _: False)
    references(text)
    assert time.perf_counter() - began < 5


# ---- replacing -------------------------------------------------------------------------------------------------------


async def test_both_forms_are_replaced_in_keys_values_and_anywhere_else() -> None:
    text = '{"{{secrets.A}}": "x-secrets.B-y", "n": {{secrets.N}}}'
    assert (
        await Secrets([MapSecrets({"A": "key", "N": "5", "B-y": "b"})]).replace(text, CONTEXT, allow_all)
        == '{"key": "x-b", "n": 5}'
    )


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_value_arrives_whole_in_a_json_string(value: str) -> None:
    text = asyncio.run(replaced('{"a": "<{{secrets.A}}>"}', A=value))
    if "secrets." not in value:
        assert json.loads(text) == {"a": f"<{value}>"}


async def test_a_missing_secret_is_named_the_first_one_in_the_text() -> None:
    with pytest.raises(SecretUnavailable, match=r"^Secret with name 'B' is not available$"):
        await replaced("{{secrets.A}} {{secrets.B}} {{secrets.C}}", A="1")


async def test_names_that_are_not_allowed_stay_as_they_are_and_are_not_looked_up() -> None:
    provider = Counting(A="1", B="2")
    text = "{{secrets.A}} {{ secrets.B }} secrets.C"
    assert await Secrets([provider]).replace(text, CONTEXT, {"A"}.__contains__) == "1 {{ secrets.B }} secrets.C"
    assert provider.asked == ["A"]


async def test_a_value_with_a_reference_is_resolved_when_there_were_as_many_references() -> None:
    assert await replaced("{{secrets.A}}", A="{{secrets.B}}", B="b") == "{{b}}"  # the bare phase takes what is left
    assert await replaced("{{secrets.A}} {{secrets.A}}", A="{{secrets.B}}", B="b") == "b b"
    assert await replaced("{{secrets.A}}", A="secrets.B", B="b") == "b"


async def test_what_one_pass_leaves_in_braces_stays_when_the_bare_form_is_not_allowed() -> None:
    names = {"A"}
    assert await replaced("{{secrets.A}}", allowed=names.__contains__, A="{{secrets.B}}") == "{{secrets.B}}"


async def test_values_that_hold_each_other_end() -> None:
    began = time.perf_counter()
    with pytest.raises(ValueError, match="refer to secrets without an end"):
        await replaced("{{secrets.A}}" * 30, A="{{secrets.A}}" * 1000)
    assert time.perf_counter() - began < 5
    assert await replaced("secrets.A secrets.A", A="secrets.A") == "secrets.A secrets.A"


async def test_each_name_is_looked_up_once_per_text() -> None:
    provider = Counting(A="1", B="2")
    await Secrets([provider]).replace("{{secrets.A}}{{secrets.B}}{{secrets.A}}secrets.A", CONTEXT, allow_all)
    assert provider.asked == ["A", "B"]


async def test_the_values_that_were_used_are_told() -> None:
    used: dict[str, str] = {}
    await Secrets([MapSecrets({"A": 'a"', "B": "b"})]).replace("{{secrets.A}} secrets.B", CONTEXT, allow_all, used)
    assert used == {"A": 'a"', "B": "b"}


async def test_the_first_provider_that_has_a_secret_wins() -> None:
    first, second = Counting(A="1"), Counting(A="2", B="2")
    secrets = Secrets([first, second])
    assert [await secrets.get(name, CONTEXT) for name in ("A", "B", "C")] == ["1", "2", None]
    assert second.asked == ["B", "C"]


async def test_an_empty_secret_is_a_secret() -> None:
    assert await replaced("<{{secrets.A}}>", A="") == "<>"


async def test_what_a_provider_raises_comes_through() -> None:
    class Broken:
        async def get_secret(self, name: str, context: SecretContext) -> str | None:
            raise RuntimeError("the vault is sealed")

    with pytest.raises(RuntimeError, match="sealed"):
        await Secrets([Broken()]).replace("{{secrets.A}}", CONTEXT, allow_all)


async def test_a_provider_that_gives_no_text_is_named() -> None:
    class Wrong:
        async def get_secret(self, name: str, context: SecretContext) -> Any:
            return 5

    with pytest.raises(TypeError, match="Wrong gave a secret that is no text, but int"):
        await Secrets([Wrong()]).get("A", CONTEXT)


async def test_the_values_to_mask_are_those_of_allowed_names_and_those_that_were_used() -> None:
    provider = Counting(A="a", B="b", C="c", E="")
    secrets = Secrets([provider])
    text = "{{secrets.A}} secrets.B {{secrets.C}} {{secrets.E}} {{secrets.MISSING}}"
    found = await secrets.values(text, CONTEXT, lambda name: name != "C", {"A": "old a", "NESTED": "n"})
    assert found == ["old a", "n", "b"]
    assert sorted(provider.asked) == ["B", "E", "MISSING"]


async def test_the_log_masker_learns_every_value() -> None:
    masker = Masker()
    await Secrets([MapSecrets({"A": "s3cr3t"})], masker).get("A", CONTEXT)
    assert masker("x s3cr3t y") == "x *** y"


# ---- the environment -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "variable"),
    [
        ("K", "SECRET_K"),
        ("my-key", "SECRET_my_key"),
        ("my-key", "SECRET_MY_KEY"),
        ("a.b", "SECRET_A_B"),
        ("f", "SECRET_F"),
    ],
)
async def test_the_environment_is_looked_up_leniently(name: str, variable: str) -> None:
    assert await EnvironmentSecrets({variable: "v"}).get_secret(name, CONTEXT) == "v"


async def test_scopes_that_are_switched_on_are_part_of_the_key() -> None:
    provider = EnvironmentSecrets(
        {"SECRET_default_t1_p_K": "v"}, physical_tenant_aware=True, tenant_aware=True, process_definition_aware=True
    )
    assert await provider.get_secret("K", SecretContext("t1", "p")) == "v"
    assert await provider.get_secret("K", SecretContext("t2", "p")) is None
    assert await provider.get_secret("K", SecretContext("t1", "p", "other")) is None


async def test_the_prefix_can_be_anything_and_guards_the_rest_of_the_environment() -> None:
    assert await EnvironmentSecrets({"PATH": "/bin"}).get_secret("PATH", CONTEXT) is None
    assert await EnvironmentSecrets({"PATH": "/bin"}, prefix="").get_secret("PATH", CONTEXT) == "/bin"
    assert await EnvironmentSecrets({"X_K": "v"}, prefix="X_").get_secret("K", CONTEXT) == "v"


# ---- the allow-list --------------------------------------------------------------------------------------------------

MODEL = """<definitions xmlns="http://www.omg.org/spec/BPMN/20100524/MODEL" targetNamespace="t"
  xmlns:zeebe="http://camunda.org/schema/zeebe/1.0"><process id="p" isExecutable="true">
  <serviceTask id="task"><extensionElements><zeebe:taskDefinition type="x"/><zeebe:ioMapping>
    <zeebe:input source="={{secrets.A}} and secrets.B" target="a"/>
    <zeebe:input source="{{ secrets.my-key }}" target="b.c"/>
    <zeebe:output source="={{secrets.OUT}}" target="x"/></zeebe:ioMapping>
    <zeebe:taskHeaders><zeebe:header key="k" value="{{secrets.HEADER}}"/></zeebe:taskHeaders></extensionElements></serviceTask>
  <subProcess id="sub"><endEvent id="end"><extensionElements><zeebe:ioMapping>
    <zeebe:input source="{{secrets.END}}" target="a"/></zeebe:ioMapping></extensionElements></endEvent></subProcess>
</process></definitions>"""


class Models:
    """Where process models come from, with failures first."""

    def __init__(self, *failures: Exception, xml: str = MODEL) -> None:
        self.failures = list(failures)
        self.calls = 0
        self.xml = xml

    async def __call__(self, key: int) -> str:
        self.calls += 1
        await asyncio.sleep(0)
        if self.failures:
            raise self.failures.pop(0)
        return self.xml


async def test_an_element_may_use_what_its_own_inputs_name() -> None:
    secret_filter = SecretFilter(Models())
    task, end = await secret_filter.allowed(1, "task"), await secret_filter.allowed(1, "end")
    assert [name for name in ("A", "B", "my-key", "END", "OUT", "HEADER", "Z") if task(name)] == ["A", "B", "my-key"]
    assert [name for name in ("A", "END") if end(name)] == ["END"]


async def test_an_unknown_element_may_use_nothing() -> None:
    assert not (await SecretFilter(Models()).allowed(1, "nowhere"))("A")


async def test_the_mode_disabled_allows_all_and_reads_nothing() -> None:
    models = Models()
    assert (await SecretFilter(models, mode="DISABLED").allowed(1, "nowhere"))("A")
    assert models.calls == 0


async def test_models_are_read_once_also_by_many_at_the_same_time() -> None:
    models = Models()
    secret_filter = SecretFilter(models)
    await asyncio.gather(*(secret_filter.allowed(1, "task") for _ in range(20)))
    await secret_filter.allowed(1, "end")
    assert models.calls == 1


async def test_whoever_is_cancelled_does_not_spoil_it_for_the_others() -> None:
    models = Models()
    secret_filter = SecretFilter(models)
    first = asyncio.create_task(secret_filter.allowed(1, "task"))
    await asyncio.sleep(0)
    second = asyncio.create_task(secret_filter.allowed(1, "task"))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second)("A")
    assert models.calls == 1


async def test_the_least_recently_used_model_goes_first() -> None:
    models = Models()
    secret_filter = SecretFilter(models, cache_size=2)
    for key in (1, 2, 1, 3, 1):
        await secret_filter.allowed(key, "task")
    assert models.calls == 3
    await secret_filter.allowed(2, "task")
    assert models.calls == 4


async def test_without_a_cache_each_job_reads_the_model() -> None:
    models = Models()
    secret_filter = SecretFilter(models, cache_size=0)
    await secret_filter.allowed(1, "task")
    await secret_filter.allowed(1, "task")
    assert models.calls == 2


async def test_a_model_that_cannot_be_read_is_asked_for_again_before_the_job_fails() -> None:
    models = Models(Unavailable("away"), NotFound("not yet"))
    assert (await SecretFilter(models, delays=(0, 0)).allowed(1, "task"))("A")
    assert models.calls == 3


@pytest.mark.parametrize("models", [Models(*[Unavailable("away")] * 2), Models(xml="<no")], ids=["away", "broken"])
async def test_in_mode_strict_an_unreadable_model_fails_the_job(models: Models) -> None:
    with pytest.raises(SecretsUnreadable, match=r"^Error retrieving secret keys: "):
        await SecretFilter(models, delays=(0,)).allowed(1, "task")


async def test_in_mode_lax_an_unreadable_model_allows_all_until_it_can_be_read() -> None:
    secret_filter = SecretFilter(Models(Unavailable("away")), mode="LAX", delays=())
    assert (await secret_filter.allowed(1, "task"))("Z")
    assert not (await secret_filter.allowed(1, "task"))("Z")


# ---- masking ---------------------------------------------------------------------------------------------------------

SPECIAL = 'say "hi" to C:\\temp\nand ä second/line 50%+'


@pytest.mark.parametrize(
    "write",
    [
        str,
        json.dumps,
        lambda v: json.dumps(v, ensure_ascii=False),
        lambda v: json.dumps(json.dumps(v)),
        lambda v: json.dumps({"a": json.dumps({"b": v})}),
        quote,
        quote_plus,
        lambda v: quote(v, safe=""),
        lambda v: quote(v, safe='/:%+"').replace("%C3%A4", "%c3%a4"),
        lambda v: repr(v).replace("ä", "\\u00e4"),
        lambda v: v.replace("\n", " "),
        lambda v: base64.b64encode(v.encode()).decode(),
        lambda v: base64.b64encode(b"user:" + v.encode() + b"tail").decode(),
        lambda v: base64.urlsafe_b64encode(b"x" + v.encode()).decode(),
    ],
)
def test_a_secret_is_masked_in_every_spelling(write: Callable[[str], str]) -> None:
    masked = mask_with([SPECIAL])(f"<{write(SPECIAL)}>")
    assert "***" in masked
    for trace in ("say", "temp", "second", "line", base64.b64encode(SPECIAL.encode()).decode()[4:20]):
        assert trace not in masked


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(), st.text())
def test_no_occurrence_is_left(secret: str, before: str, after: str) -> None:
    masked = mask_with([secret])(f"{before}{secret}{after}")
    assert secret not in masked.replace("***", "\ue000") or secret == "\ue000"


@pytest.mark.parametrize(
    ("values", "text", "masked"),
    [
        (["a.c"], "abc a.c", "abc ***"),
        (["a(b"], "a(b[", "***["),
        (["\\d+"], "\\d+ 5", "*** 5"),
        (["^$"], "^$ x", "*** x"),
        (["abcdef", "abc"], "abcdef abc", "*** ***"),
        (["abcdef", "defghi"], "xabcdefghix", "x***x"),
        (["1"], "a1b11", "a***b******"),
        (["aa", "b"], "aaaab", "*********"),
        (["", "x"], "axb", "a***b"),
        ([""], "axb", "axb"),
        ([], "axb", "axb"),
        (["***"], "a***b", "a***b"),
    ],
)
def test_values_are_plain_text_and_overlaps_leave_nothing(values: list[str], text: str, masked: str) -> None:
    assert mask_with(values)(text) == masked


def test_trees_are_masked_in_keys_and_values_and_nothing_else_is_touched() -> None:
    thing = object()
    tree = {"key-s3cr3t": ["s3cr3t", 5, True, None, ("a s3cr3t",), {1: {"s3cr3t"}}], 7: thing}
    assert mask_tree(tree, mask_with(["s3cr3t"])) == {
        "key-***": ["***", 5, True, None, ["a ***"], {"1": ["***"]}],
        "7": thing,
    }


def test_containers_that_hold_themselves_are_named_and_shared_ones_are_not() -> None:
    circle: dict[str, Any] = {"x": "s3cr3t"}
    circle["again"] = [circle]
    shared = ["s3cr3t"]
    masked = mask_tree({"circle": circle, "a": shared, "b": shared}, mask_with(["s3cr3t"]))
    assert masked == {"circle": {"x": "***", "again": ["[circular reference]"]}, "a": ["***"], "b": ["***"]}


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("s3cr3t-token", "hello world abc " * 250_000),
        ("a", "a" * 4_000_000),
        ("\\n", "\\" * 1_000_000),
        ('"x', "\\" * 1_000_000),
        (" x", "+" * 1_000_000),
        ("-----BEGIN\n" + "abcdefghij\n" * 300, "abcdefghij\n" * 200_000),
    ],
    ids=lambda text: text[:6],
)
def test_masking_megabytes_does_not_take_long(secret: str, text: str) -> None:
    began = time.perf_counter()
    mask_with([secret])(text)
    assert time.perf_counter() - began < 5


def test_the_log_masker_forgets_the_oldest_and_never_learns_tiny_values() -> None:
    masker = Masker(limit=2)
    for value in ("first", "second", "third", "abc", "second"):
        masker.add(value)
    assert masker("first second third abc") == "first *** *** abc"


def test_the_log_masker_stays_quick_with_a_thousand_secrets() -> None:
    masker = Masker()
    for n in range(1000):
        masker.add(f"secret-{n}-of many")
    began = time.perf_counter()
    for _ in range(20):
        masker("a line of the log with words in it " * 5)
    assert time.perf_counter() - began < 1
