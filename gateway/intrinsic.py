"""Intrinsic functions: calls inside of input variables, made while binding.

`{"camunda.function.type": "base64", "params": [...]}` anywhere in the input stands for the function's result (Camunda docs, "Intrinsic
functions"). Parameters are resolved first. The same walk turns document references into documents.
"""

import base64
import inspect
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import jwt

from gateway import feel, jsontext
from gateway.documents import DOCUMENT_TYPE, Document, Documents, InvalidReference
from gateway.durations import parse_milliseconds
from gateway.http_client import HttpClient

FUNCTION_TYPE = "camunda.function.type"
MAX_CALLS = 10
_GITHUB = "https://api.github.com"

IntrinsicFunction = Callable[..., Awaitable[Any]]


class IntrinsicError(Exception):
    """A function is unknown, was called wrongly, or failed. The text never holds an argument: they may be secrets."""

    java_type = "java.lang.RuntimeException"


class Intrinsics:
    """Resolves document references and calls of functions in bound data."""

    def __init__(
        self, documents: Documents, http: HttpClient | None, more: Mapping[str, IntrinsicFunction] | None = None
    ) -> None:
        self._documents = documents
        self._functions: dict[str, IntrinsicFunction] = {
            "base64": _base64,
            "createLink": _create_link,
            "getText": _get_text,
            "getJson": _get_json,
            "createGithubAppInstallationToken": _github_token(http),
            **(more or {}),
        }

    async def resolve(self, value: Any) -> Any:
        """The value with every reference a `Document` and every call its result. At most ten calls.

        Raises IntrinsicError, InvalidReference; what a document store or server raises is wrapped in IntrinsicError.
        """
        return await self._resolve(value, [MAX_CALLS])

    async def _resolve(self, value: Any, calls: list[int]) -> Any:
        if isinstance(value, dict):
            if DOCUMENT_TYPE in value:
                return self._documents.resolve(value)
            if FUNCTION_TYPE in value:
                return await self._call(value, calls)
            return {k: await self._resolve(v, calls) if isinstance(v, (dict, list)) else v for k, v in value.items()}
        if isinstance(value, list):
            return [await self._resolve(v, calls) if isinstance(v, (dict, list)) else v for v in value]
        return value

    async def _call(self, call: Mapping[str, Any], calls: list[int]) -> Any:
        name, given = call[FUNCTION_TYPE], call.get("params") or []
        name = name if isinstance(name, str) else type(name).__name__
        if not isinstance(given, list):
            raise IntrinsicError(f"Failed to execute intrinsic function: {name}: 'params' must be a list")
        parameters = await self._resolve(given, calls)
        calls[0] -= 1
        if calls[0] < 0:
            raise IntrinsicError("Intrinsic function limit exceeded")
        function = self._functions.get(name)
        if function is None:
            raise IntrinsicError(f"Failed to execute intrinsic function: {name}: there is no function of this name")
        try:
            inspect.signature(function).bind(*parameters)
        except TypeError:
            raise IntrinsicError(
                f"Failed to execute intrinsic function: {name}: it cannot be called with {len(parameters)} parameters"
            ) from None
        try:
            return await function(*parameters)
        except (IntrinsicError, InvalidReference) as e:
            raise IntrinsicError(f"Failed to execute intrinsic function: {name}: {e}") from None
        except Exception as e:
            raise IntrinsicError(f"Failed to execute intrinsic function: {name}: {type(e).__name__}") from None


def _needs(value: Any, kind: type | tuple[type, ...], parameter: str, expected: str) -> Any:
    if not isinstance(value, kind):
        found = "null" if value is None else type(value).__name__
        raise IntrinsicError(f"'{parameter}' must be {expected}, but is {found}")
    return value


async def _base64(content: Any) -> str:
    if isinstance(content, Document):
        return await content.base64()
    return base64.b64encode(_needs(content, str, "content", "a document or text").encode()).decode()


async def _create_link(document: Any, time_to_live: Any = None) -> str:
    document = _needs(document, Document, "document", "a document")
    if time_to_live is None:
        return str(await document.generate_link())
    try:
        milliseconds = parse_milliseconds(_needs(time_to_live, str, "ttl", "an ISO-8601 duration"))
    except ValueError:
        raise IntrinsicError("'ttl' must be an ISO-8601 duration, such as PT1H") from None
    return str(await document.generate_link(timedelta(milliseconds=milliseconds)))


async def _get_text(document: Any, charset: Any = None) -> str:
    document = _needs(document, Document, "document", "a document")
    try:
        return str((await document.read()).decode(charset or "utf-8", "replace"))
    except LookupError:
        raise IntrinsicError("'charset' is not a known charset") from None


async def _get_json(document: Any, expression: Any = None) -> Any:
    document = _needs(document, Document, "document", "a document")
    try:
        root = jsontext.loads((await document.read()).decode())
    except (UnicodeDecodeError, jsontext.InvalidJson):
        raise IntrinsicError("the document holds no JSON") from None
    if not isinstance(root, dict):
        raise IntrinsicError("the document's root must be a JSON object")
    if expression is None:
        return root
    try:
        return feel.to_json(feel.evaluate(_needs(expression, str, "expression", "a FEEL expression"), root))
    except feel.FeelError as e:
        raise IntrinsicError(f"'expression' cannot be evaluated: {type(e).__name__}") from None


_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----(.*?)-----END \1-----", re.DOTALL)


def pem_key(text: str) -> str:
    """A PEM key as it should be: from text whose line breaks are missing or written as backslash and n."""
    match = _PEM.search(text.replace("\\n", "\n"))
    if match is None:
        raise IntrinsicError("'privateKey' must be a PEM key")
    body = "".join(match[2].split())
    lines = "\n".join(body[n : n + 64] for n in range(0, len(body), 64))
    return f"-----BEGIN {match[1]}-----\n{lines}\n-----END {match[1]}-----\n"


def _github_token(http: HttpClient | None) -> IntrinsicFunction:
    async def create(private_key: Any, app_id: Any, installation_id: Any) -> str:
        """An installation token of a GitHub App (GitHub docs, "Generating an installation access token")."""
        if http is None:
            raise IntrinsicError("there is no HTTP client here")
        now = int(time.time())
        claims = {"iss": str(_needs(app_id, (str, int), "appId", "text")), "iat": now, "exp": now + 60}
        installation = quote(str(_needs(installation_id, (str, int), "installationId", "text")), safe="")
        try:
            token = jwt.encode(claims, pem_key(_needs(private_key, str, "privateKey", "a PEM key")), algorithm="RS256")
        except (ValueError, jwt.PyJWTError):
            raise IntrinsicError("'privateKey' is no RSA key in PEM") from None
        reply = await http.post(
            f"{_GITHUB}/app/installations/{installation}/access_tokens",
            headers={"Accept": "application/vnd.github.v3+json", "Authorization": f"Bearer {token}"},
        )
        found = reply.json().get("token") if reply.status < 300 else None
        if not isinstance(found, str):
            raise IntrinsicError(f"GitHub answered with status {reply.status} and no token")
        return found

    return create
