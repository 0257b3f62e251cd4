"""The author's side: how connectors are declared, what is refused at once, and the errors they raise."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gateway import sdk
from gateway.sdk import (
    ConnectorException,
    ConnectorInputException,
    ConnectorRetryException,
    Header,
    JobContext,
    NotBlank,
    Variable,
    operation,
    outbound_connector,
)


class Request(BaseModel):
    city: str
    unit: str = Field(default="C", alias="theUnit")
    days: int = Field(default=1, validation_alias="dayCount")
    place: str = Field(default="", validation_alias=AliasChoices("place", AliasPath("where", "name")))


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    a: int = 0


@asynccontextmanager
async def pool() -> AsyncIterator[str]:
    yield "pool"


# ---- declaring -------------------------------------------------------------------------------------------------------


async def test_a_connector_is_a_function_and_stays_callable_as_one() -> None:
    @outbound_connector("Weather", type="acme:weather:1", timeout=30)
    async def weather(request: Request, job: JobContext) -> str:
        """Current temperature."""
        return request.city

    assert (weather.name, weather.type, weather.timeout) == ("Weather", "acme:weather:1", 30)
    assert weather.description == "Current temperature."
    assert await weather(Request(city="Oslo"), None) == "Oslo"
    assert [p.kind for p in weather.operations[""].parameters] == ["model", "job"]


def fetched(function: Any, **options: Any) -> tuple[str, ...]:
    return outbound_connector("C", type="c:1", **options)(function).input_variables


def test_the_variables_that_are_asked_for_are_those_of_the_model_and_the_parameters() -> None:
    def both(request: Request, x: Annotated[int, Variable("limit")], y: Annotated[int, Variable("a/b")]) -> None: ...

    assert fetched(both) == ("city", "theUnit", "dayCount", "place", "where", "limit", "a")


def test_all_variables_are_asked_for_where_it_cannot_be_known() -> None:
    def nothing(job: JobContext) -> None: ...
    def whole(request: Request, x: Annotated[Any, Variable()]) -> None: ...
    def unknown(request: Open) -> None: ...

    assert fetched(nothing) == fetched(whole) == fetched(unknown) == ()


def test_the_author_may_name_the_variables() -> None:
    def function(request: Request) -> None: ...

    assert fetched(function, input_variables=("a", "b")) == ("a", "b")
    assert fetched(function, input_variables=()) == ()


def test_each_parameter_has_a_source() -> None:
    def function(
        request: Request,
        job: JobContext,
        x: Annotated[int, Variable("x")],
        mode: Annotated[str, Header("mode")],
        client: Any,
        y: Annotated[int, Variable("y")] = 5,
    ) -> None: ...

    connector = outbound_connector("C", type="c:1", service=pool)(function)
    found = {p.name: (p.kind, p.has_default) for p in connector.operations[""].parameters}
    assert found == {
        "request": ("model", False),
        "job": ("job", False),
        "x": ("variable", False),
        "mode": ("header", False),
        "client": ("service", False),
        "y": ("variable", True),
    }


def test_a_parameter_without_a_source_is_refused_when_the_connector_is_declared() -> None:
    def function(request: Request, wrong: int) -> None: ...

    with pytest.raises(
        TypeError, match=r"function: parameter 'wrong' must be a pydantic model, a JobContext, or annotated"
    ):
        outbound_connector("C", type="c:1")(function)


def test_only_one_parameter_can_be_the_service() -> None:
    def function(a: Any, b: Any) -> None: ...

    with pytest.raises(TypeError, match="only one parameter can be the service: a, b"):
        outbound_connector("C", type="c:1", service=pool)(function)


# ---- operations ------------------------------------------------------------------------------------------------------


class Base:
    @operation(keywords=("k",))
    def inherited(self, request: Request) -> str:
        return f"inherited {request.city}"


class Files(Base):
    """Files."""

    prefix = "file "

    @operation("read-file", name="Read")
    async def read(self, path: Annotated[str, Variable("path")]) -> str:
        return self.prefix + path

    @operation()
    def write(self, data: Annotated[str, Variable("data")], mode: Annotated[str, Header("mode")]) -> str:
        return data + mode

    def helper(self) -> None: ...


async def test_a_class_has_an_operation_for_each_marked_method() -> None:
    files = outbound_connector("Files", type="files:1")(Files)
    assert set(files.operations) == {"inherited", "read-file", "write"}
    read = files.operations["read-file"]
    assert (read.id, read.name, read.keywords) == ("read-file", "Read", ())
    assert await read.function("a") == "file a"
    assert files.operations["inherited"].function(Request(city="x")) == "inherited x"
    assert files.operations["inherited"].keywords == ("k",)
    assert files.description == "Files."
    assert files.input_variables == ("city", "theUnit", "dayCount", "place", "where", "path", "data")


def test_operations_that_need_everything_ask_for_everything() -> None:
    class Some:
        @operation()
        def one(self, request: Request) -> None: ...

        @operation()
        def two(self, job: JobContext) -> None: ...

    assert outbound_connector("C", type="c:1")(Some).input_variables == ()


def test_a_class_without_operations_and_one_with_the_same_twice_are_refused() -> None:
    class Nothing:
        def run(self) -> None: ...

    class Twice:
        @operation("a")
        def one(self) -> None: ...

        @operation("a")
        def two(self) -> None: ...

    with pytest.raises(TypeError, match=r"Nothing has no method marked with @operation"):
        outbound_connector("C", type="c:1")(Nothing)
    with pytest.raises(TypeError, match=r"Twice has two operations with the id 'a'"):
        outbound_connector("C", type="c:1")(Twice)


# ---- errors ----------------------------------------------------------------------------------------------------------


def test_errors_have_the_names_users_match_on() -> None:
    prefix = "io.camunda.connector.api.error."
    for error in (ConnectorException, ConnectorRetryException, ConnectorInputException):
        assert error.java_type == prefix + error.__name__
    assert issubclass(ConnectorRetryException, ConnectorException)
    assert not issubclass(ConnectorInputException, ConnectorException)


def test_errors_carry_what_they_were_given() -> None:
    error = ConnectorException("m", code="404", variables={"a": 1})
    assert (str(error), error.code, error.variables) == ("m", "404", {"a": 1})
    assert (str(ConnectorException()), ConnectorException().code, ConnectorException().variables) == ("", None, None)
    retry = ConnectorRetryException("m", code="c", retries=2, backoff=timedelta(seconds=5))
    assert (retry.code, retry.retries, retry.backoff, retry.variables) == ("c", 2, timedelta(seconds=5), None)


# ---- fields and context ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["", " ", "\t\n", "\u2003"])
def test_blank_text_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="must not be blank"):
        TypeAdapter(NotBlank).validate_python(value)
    assert TypeAdapter(NotBlank).validate_python(" x ") == " x "


async def test_the_context_tells_how_long_the_job_is_ours() -> None:
    clock = [100.0]

    async def variables() -> str:
        return '{"a":1}'

    async def secret(name: str) -> str:
        return f"value of {name}"

    job = JobContext(
        None,  # type: ignore[arg-type]
        headers={"h": "x"},
        variables=variables,
        secret=secret,
        http=None,  # type: ignore[arg-type]
        documents=None,  # type: ignore[arg-type]
        now=lambda: clock[0],
        deadline=lambda: 130.0,
    )
    assert (job.remaining, job.headers["h"], job.document_return_format) == (30.0, "x", None)
    assert await job.variables() == '{"a":1}'
    assert await job.secret("KEY") == "value of KEY"
    clock[0] = 200.0
    assert job.remaining == 0.0


def test_the_list_of_public_names_is_complete() -> None:
    for name in sdk.__all__:
        assert hasattr(sdk, name)
    assert asyncio.iscoroutinefunction(sdk.JobCompletionListener.on_job_completed)
