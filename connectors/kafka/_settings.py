"""What both Kafka connectors are told: servers, credentials, and the properties of the Java client that come of them.

Loads nothing of a client, so that a gateway without Kafka does without. Source: the Apache Kafka documentation, "Configuration"
and "Security"; Camunda docs, "Kafka connector".
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from gateway import NotBlank

_JAAS: Final = "org.apache.kafka.common.security."
_OPTION: Final = re.compile(r"""([\w.]+)\s*=\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[^\s;]+)""")


class Authentication(BaseModel):
    """A user's name and password, or neither."""

    username: str | None = None
    password: str | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _both_or_none(self) -> "Authentication":
        if _blank(self.username) != _blank(self.password):
            raise PydanticCustomError("pair", "Username / password pair is required")
        return self


class Topic(BaseModel):
    """bootstrapServers: `host:port`, separated by commas."""

    bootstrapServers: NotBlank  # noqa: N815 - the property's own name
    topicName: NotBlank  # noqa: N815


def _blank(text: str | None) -> bool:
    return not (text and text.strip())


def java_properties(
    topic: Topic, authentication: Authentication | None, additional: Mapping[str, Any] | None
) -> dict[str, str]:
    """The properties as the Java client would get them: credentials, servers, defaults, and what the user adds over them."""
    found = {"bootstrap.servers": topic.bootstrapServers}
    if authentication is not None and not _blank(authentication.username):
        name, word = (_quoted(text or "") for text in (authentication.username, authentication.password))
        found |= {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "PLAIN",
            "sasl.jaas.config": f"{_JAAS}plain.PlainLoginModule required username={name} password={word};",
        }
    found |= {"session.timeout.ms": "45000", "heartbeat.interval.ms": "3000", "request.timeout.ms": "30000"}
    for name, value in (additional or {}).items():
        if value is not None:
            found[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def jaas_options(text: str) -> dict[str, str]:
    """The options of a `sasl.jaas.config`: `Module required name="value" ...;`."""
    found = {}
    for name, value in _OPTION.findall(text):
        plain = re.sub(r"\\(.)", r"\1", value[1:-1]) if value[:1] in {'"', "'"} else value
        found[name] = plain
    return found
