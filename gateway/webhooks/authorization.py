"""Who may call a webhook: `inbound.auth` (Camunda docs, "HTTP Webhook connector")."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from gateway.http_client import HttpClient
from gateway.webhooks.request import WebhookRequest

Function = Callable[[Mapping[str, Any]], Any]


class NoAuthorization(BaseModel):
    type: Literal["NONE"] = "NONE"


class BasicAuthorization(BaseModel):
    type: Literal["BASIC"]
    username: str
    password: str = Field(repr=False)


class ApiKeyAuthorization(BaseModel):
    type: Literal["APIKEY"]
    apiKey: str = Field(repr=False)
    apiKeyLocator: Function


class JwtSettings(BaseModel):
    jwkUrl: str
    permissionsExpression: Function | None = None
    requiredPermissions: list[str] | None = None


class JwtAuthorization(BaseModel):
    type: Literal["JWT"]
    jwt: JwtSettings


WebhookAuthorization = Annotated[
    NoAuthorization | BasicAuthorization | ApiKeyAuthorization | JwtAuthorization, Field(discriminator="type")
]


async def authorize(
    auth: NoAuthorization | BasicAuthorization | ApiKeyAuthorization | JwtAuthorization,
    request: WebhookRequest,
    http: HttpClient,
    now: float,
) -> Mapping[str, Any] | None:
    """The claims of the sender's token, None where there is none. Raises WebhookRefused (401, 403; 503 when keys cannot be fetched)."""
    raise NotImplementedError
