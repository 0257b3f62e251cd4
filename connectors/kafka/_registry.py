"""A schema registry that speaks Confluent's API, and records in its wire format: a zero byte, four bytes of schema id, the payload.

Source: Confluent documentation, "Schema Registry API Reference" and "Wire format".
"""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from connectors.kafka._avro import AvroSchema, DoesNotFit, InvalidSchema
from connectors.kafka._settings import jaas_options
from gateway import ConnectorInputException, WebhookRefused
from gateway.http_client import HttpClient, HttpError

REQUEST_SECONDS: Final = 5.0
_KEPT: Final = 1000
_HEAD: Final = 5
_ACCEPT: Final = "application/vnd.schemaregistry.v1+json, application/json"


class RegistryError(Exception):
    """The registry cannot be reached, refused, or has a schema that cannot be used; says why."""


class SchemaNeeded(Exception):  # noqa: N818 - reads as what it is
    """A record's schema has to be fetched first."""

    def __init__(self, ident: int) -> None:
        super().__init__(f"schema {ident}")
        self.ident = ident


class JsonSchema:
    """A JSON schema. Raises InvalidSchema."""

    def __init__(self, text: str) -> None:
        from gateway.webhooks.schema import BodySchema  # takes its time to load

        try:
            self._schema = BodySchema(text)
        except ValueError as e:
            raise InvalidSchema(str(e)) from None

    def check(self, value: Any) -> None:
        """Raises DoesNotFit where the value is not what the schema says."""
        try:
            self._schema.check(value)
        except WebhookRefused as e:
            raise DoesNotFit(str(e)) from None


Schema = AvroSchema | JsonSchema


def split(content: bytes) -> tuple[int, bytes]:
    """Schema id and payload of a record in wire format. Raises DoesNotFit."""
    if len(content) < _HEAD or content[0] != 0:
        raise DoesNotFit(
            "not in the wire format of a schema registry: it does not begin with a zero byte and a schema id"
        )
    return int.from_bytes(content[1:_HEAD], "big"), content[_HEAD:]


def joined(ident: int, payload: bytes) -> bytes:
    """A record in wire format."""
    return b"\x00" + ident.to_bytes(4, "big") + payload


class SchemaRegistry:
    """Schemas by id, and ids by subject and schema; each asked for once. url: may be several, separated by commas.

    properties: those of the Kafka client, for `basic.auth.*` and `bearer.auth.token`.
    """

    def __init__(self, url: str, http: HttpClient, properties: Mapping[str, str]) -> None:
        bases = [each.strip().rstrip("/") for each in url.split(",") if each.strip()]
        self._headers = [("Accept", _ACCEPT), *_authorization(bases, properties)]
        self._bases = [_without_user(each) for each in bases]
        self._http = http
        self._register = properties.get("auto.register.schemas", "true").lower() != "false"
        self._schemas: dict[int, Schema] = {}
        self._fetches: dict[int, asyncio.Task[Schema]] = {}
        self._idents: dict[tuple[str, str], int] = {}

    def known(self, ident: int) -> Schema:
        """A schema that was fetched. Raises SchemaNeeded."""
        found = self._schemas.get(ident)
        if found is None:
            raise SchemaNeeded(ident)
        return found

    async def fetch(self, ident: int) -> Schema:
        """A schema, asked for unless it is known; who asks at the same time shares the answer. Raises RegistryError."""
        found = self._schemas.get(ident)
        if found is not None:
            return found
        task = self._fetches.get(ident)
        if task is None:
            task = self._fetches[ident] = asyncio.ensure_future(self._fetch(ident))
            task.add_done_callback(lambda done: (self._fetches.pop(ident, None), done.cancelled() or done.exception()))
        return await asyncio.shield(task)

    async def _fetch(self, ident: int) -> Schema:
        answer = await self._ask("GET", f"/schemas/ids/{ident}")
        try:
            kind, text = answer.get("schemaType") or "AVRO", answer["schema"]
            if kind == "JSON":
                schema: Schema = JsonSchema(text)
            elif kind == "AVRO":
                schema = AvroSchema(text, await self._references(answer))
            else:
                raise RegistryError(f"Schema {ident} is of type {kind}: expected AVRO or JSON")
        except (KeyError, InvalidSchema) as e:
            raise RegistryError(f"Schema {ident} cannot be used: {e}") from None
        if len(self._schemas) >= _KEPT:
            del self._schemas[next(iter(self._schemas))]
        self._schemas[ident] = schema
        return schema

    async def _references(self, answer: Mapping[str, Any], depth: int = 0) -> list[str]:
        """The texts of the schemas that an answer refers to, those that others need first."""
        found: list[str] = []
        for each in answer.get("references") or ():
            if depth > 10:
                raise RegistryError("Schema references are nested too deeply")
            path = f"/subjects/{quote(each['subject'], safe='')}/versions/{each['version']}"
            inner = await self._ask("GET", path)
            found += [*await self._references(inner, depth + 1), inner["schema"]]
        return list(dict.fromkeys(found))

    async def ident(self, subject: str, text: str, kind: str) -> int:
        """The id of a schema under a subject, registered there unless `auto.register.schemas` is false. Raises RegistryError."""
        found = self._idents.get((subject, text))
        if found is None:
            path = f"/subjects/{quote(subject, safe='')}" + ("/versions" if self._register else "")
            body = {"schema": text} | ({} if kind == "AVRO" else {"schemaType": kind})
            answer = await self._ask("POST", path, body)
            if not isinstance(answer.get("id"), int):
                raise RegistryError(f"The schema registry answered without an id for subject '{subject}'")
            found = answer["id"]
            if len(self._idents) >= _KEPT:
                self._idents.clear()
            self._idents[subject, text] = found
        return found

    async def _ask(self, method: str, path: str, body: Any = None) -> Mapping[str, Any]:
        """One exchange, with the first of the servers that answers. Raises RegistryError."""
        failure = "no URL"
        for base in self._bases:
            try:
                reply = await self._http.request(
                    method,
                    base + path,
                    headers=self._headers,
                    json=body,
                    timeout=REQUEST_SECONDS,
                    follow_redirects=True,
                )
                if reply.status < 500:
                    answer = reply.json()
                    if reply.ok and isinstance(answer, dict):
                        return answer
                    said = answer.get("message") if isinstance(answer, dict) else None
                    raise RegistryError(f"The schema registry refused {path}: {reply.status} {said or reply.reason}")
                failure = f"{reply.status} {reply.reason}"
            except HttpError as e:
                failure = str(e) or type(e).__name__
        raise RegistryError(f"The schema registry cannot be asked for {path}: {failure}")


def _authorization(bases: list[str], properties: Mapping[str, str]) -> list[tuple[str, str]]:
    given = {name.removeprefix("schema.registry."): text for name, text in properties.items()}
    token = given.get("bearer.auth.token")
    if token:
        return [("Authorization", f"Bearer {token}")]
    source = given.get(
        "basic.auth.credentials.source", "USER_INFO" if "basic.auth.user.info" in given else "URL"
    ).upper()
    pair: str | None = None
    if source == "USER_INFO":
        pair = given.get("basic.auth.user.info")
        if not pair or ":" not in pair:
            raise ConnectorInputException(
                "Kafka property 'basic.auth.user.info': expected a name and a password, joined by ':'"
            )
    elif source == "SASL_INHERIT":
        options = jaas_options(properties.get("sasl.jaas.config", ""))
        pair = f"{options.get('username', '')}:{options.get('password', '')}"
    else:
        parts = urlsplit(bases[0]) if bases else None
        if parts is not None and parts.username:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return [("Authorization", f"Basic {base64.b64encode(pair.encode()).decode()}")] if pair else []


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
