"""The schema registry's API and wire format, against one that a function plays."""

import asyncio
import json
from typing import Any

import pytest

from connectors.kafka._avro import AvroSchema, DoesNotFit
from connectors.kafka._events import registered_avro, registered_json
from connectors.kafka._registry import RegistryError, SchemaNeeded, SchemaRegistry, joined, split
from gateway import ConnectorInputException
from gateway.http_client import HttpConnectionError, HttpRequest
from gateway.testing import FakeHttp

LONG = json.dumps("long")
SHAPE = json.dumps({"type": "object", "properties": {"n": {"type": "integer"}}})


def target(request: HttpRequest) -> str:
    return f"{request.method} {request.url.target}"


def answers(by: dict[str, Any]) -> FakeHttp:
    """A registry with these answers; all else is not found."""
    return FakeHttp(
        lambda request: by.get(target(request), (404, {"error_code": 40403, "message": "Schema not found"}))
    )


def body(request: HttpRequest) -> Any:
    assert isinstance(request.body, bytes)
    return json.loads(request.body)


def authorization(properties: dict[str, str], url: str = "http://registry") -> str | None:
    made = SchemaRegistry(url, FakeHttp(lambda _: {}), properties)
    return dict(made._headers).get("Authorization")


def test_the_wire_format_is_a_zero_byte_an_id_and_the_payload() -> None:
    assert joined(258, b"x") == b"\x00\x00\x00\x01\x02x"
    assert split(b"\x00\x00\x00\x01\x02x") == (258, b"x")


@pytest.mark.parametrize("content", [b"", b"\x00\x00\x00\x01", b"\x01\x00\x00\x00\x01x", b'{"a": 1}'])
def test_bytes_in_another_format_are_refused(content: bytes) -> None:
    with pytest.raises(DoesNotFit, match="not in the wire format"):
        split(content)


async def test_a_schema_is_asked_for_once_also_by_many_at_once() -> None:
    http = answers({"GET /schemas/ids/7": {"schema": LONG}})
    registry = SchemaRegistry("http://registry/", http, {})
    with pytest.raises(SchemaNeeded):
        registry.known(7)
    first, second = await asyncio.gather(registry.fetch(7), registry.fetch(7))
    assert first is second is registry.known(7) is await registry.fetch(7)
    assert len(http.requests) == 1


async def test_a_schema_that_is_not_there_says_so_and_is_asked_for_again() -> None:
    http = answers({})
    registry = SchemaRegistry("http://registry", http, {})
    for _ in range(2):
        with pytest.raises(RegistryError, match=r"refused /schemas/ids/7: 404 Schema not found"):
            await registry.fetch(7)
    assert len(http.requests) == 2


async def test_references_come_before_the_schemas_that_need_them() -> None:
    address = json.dumps({"type": "record", "name": "Address", "fields": [{"name": "city", "type": "string"}]})
    home = json.dumps({"type": "record", "name": "Home", "fields": [{"name": "at", "type": "Address"}]})
    top = json.dumps({"type": "record", "name": "Top", "fields": [{"name": "home", "type": "Home"}]})
    http = answers({
        "GET /schemas/ids/1": {"schema": top, "references": [{"name": "Home", "subject": "a/home", "version": 3}]},
        "GET /subjects/a%2Fhome/versions/3": {"schema": home, "references": [{"name": "A", "subject": "address", "version": 1}]},
        "GET /subjects/address/versions/1": {"schema": address},
    })  # fmt: skip
    schema = await SchemaRegistry("http://registry", http, {}).fetch(1)
    assert isinstance(schema, AvroSchema)
    assert schema.read(schema.write({"home": {"at": {"city": "Ulm"}}})) == {"home": {"at": {"city": "Ulm"}}}


async def test_references_without_an_end_are_refused() -> None:
    again = {"schema": LONG, "references": [{"name": "x", "subject": "x", "version": 1}]}
    http = answers({"GET /schemas/ids/1": again, "GET /subjects/x/versions/1": again})
    with pytest.raises(RegistryError, match="nested too deeply"):
        await SchemaRegistry("http://registry", http, {}).fetch(1)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"schema": "{"}, "Schema 7 cannot be used"),
        ({"schema": "syntax = 'proto3'", "schemaType": "PROTOBUF"}, "type PROTOBUF: expected AVRO or JSON"),
        ({}, "Schema 7 cannot be used"),
        ({"schema": "[]", "schemaType": "JSON"}, "Schema 7 cannot be used"),
    ],
)
async def test_a_schema_that_cannot_be_used_says_why(answer: Any, said: str) -> None:
    with pytest.raises(RegistryError, match=said):
        await SchemaRegistry("http://registry", answers({"GET /schemas/ids/7": answer}), {}).fetch(7)


async def test_the_next_server_is_asked_where_one_is_away() -> None:
    def answer(request: HttpRequest) -> Any:
        if request.url.host == "one":
            raise HttpConnectionError
        return (500, "no") if request.url.host == "two" else {"schema": LONG}

    http = FakeHttp(answer)
    await SchemaRegistry("http://one, http://two,http://three", http, {}).fetch(1)
    assert [request.url.host for request in http.requests] == ["one", "two", "three"]
    with pytest.raises(RegistryError, match="cannot be asked for /schemas/ids/1"):
        await SchemaRegistry("http://one,http://two", http, {}).fetch(1)


async def test_a_schema_is_registered_once_under_its_subject() -> None:
    http = answers({"POST /subjects/orders-value/versions": {"id": 9}})
    registry = SchemaRegistry("http://registry", http, {})
    assert await registry.ident("orders-value", LONG, "AVRO") == 9
    assert await registry.ident("orders-value", LONG, "AVRO") == 9
    assert await registry.ident("orders-value", SHAPE, "JSON") == 9
    assert [body(request) for request in http.requests] == [{"schema": LONG}, {"schema": SHAPE, "schemaType": "JSON"}]


async def test_a_schema_is_only_looked_up_where_it_must_not_be_registered() -> None:
    http = answers({"POST /subjects/orders-value": {"id": 4, "version": 1}})
    registry = SchemaRegistry("http://registry", http, {"auto.register.schemas": "false"})
    assert await registry.ident("orders-value", LONG, "AVRO") == 4


@pytest.mark.parametrize(
    ("properties", "url", "header"),
    [
        ({}, "http://registry", None),
        ({"basic.auth.user.info": "alice:word"}, "http://registry", "Basic YWxpY2U6d29yZA=="),
        ({"schema.registry.basic.auth.user.info": "alice:word"}, "http://registry", "Basic YWxpY2U6d29yZA=="),
        ({}, "http://alice:word@registry", "Basic YWxpY2U6d29yZA=="),
        ({"bearer.auth.token": "t"}, "http://registry", "Bearer t"),
        (
            {
                "basic.auth.credentials.source": "SASL_INHERIT",
                "sasl.jaas.config": 'X required username="alice" password="word";',
            },
            "http://registry",
            "Basic YWxpY2U6d29yZA==",
        ),
    ],
)
def test_credentials_come_from_the_properties_or_the_url(
    properties: dict[str, str], url: str, header: str | None
) -> None:
    assert authorization(properties, url) == header


def test_half_a_credential_is_refused_by_name() -> None:
    with pytest.raises(ConnectorInputException, match=r"basic\.auth\.user\.info"):
        authorization({"basic.auth.credentials.source": "USER_INFO"})


async def test_credentials_of_the_url_are_not_in_errors() -> None:
    def away(_: HttpRequest) -> Any:
        raise HttpConnectionError

    with pytest.raises(RegistryError) as refused:
        await SchemaRegistry("http://alice:w0rd@registry", FakeHttp(away), {}).fetch(1)
    assert "w0rd" not in str(refused.value)


async def test_json_values_are_checked_only_where_asked_for() -> None:
    registry = SchemaRegistry(
        "http://registry", answers({"GET /schemas/ids/1": {"schema": SHAPE, "schemaType": "JSON"}}), {}
    )
    good, bad = joined(1, b'{"n": 1}'), joined(1, b'{"n": "x"}')
    assert registered_json(registry, check=False)(bad) == ({"n": "x"}, '{"n": "x"}')
    checked = registered_json(registry, check=True)
    with pytest.raises(SchemaNeeded):
        checked(good)
    await registry.fetch(1)
    assert checked(good) == ({"n": 1}, '{"n": 1}')
    with pytest.raises(DoesNotFit, match="n"):
        checked(bad)


async def test_a_schema_of_the_other_kind_is_refused() -> None:
    kinds = {"GET /schemas/ids/1": {"schema": SHAPE, "schemaType": "JSON"}, "GET /schemas/ids/2": {"schema": LONG}}
    registry = SchemaRegistry("http://registry", answers(kinds), {})
    await registry.fetch(1)
    await registry.fetch(2)
    with pytest.raises(DoesNotFit, match="schema 1 is not an Avro schema"):
        registered_avro(registry)(joined(1, b"\x02"))
    with pytest.raises(DoesNotFit, match="schema 2 is not a JSON schema"):
        registered_json(registry, check=True)(joined(2, b"{}"))
    with pytest.raises(DoesNotFit, match="not JSON"):
        registered_json(registry, check=False)(joined(2, b"{"))
    assert registered_avro(registry)(joined(2, b"\x02")) == (1, None)
