"""Answers, errors and the application around the routes: bodies are bounded, errors are problems, nothing of the inside shows."""

import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import structlog
from aiohttp import web

from gateway import jsontext

log = structlog.get_logger(__name__)

MAX_BODY: Final = 64 * 1024
SERVER_NAME: Final = "gateway"


def json_answer(body: Any, status: int = 200, content_type: str = "application/json") -> web.Response:
    try:
        content = jsontext.dumpb(body)
    except TypeError:  # a lone surrogate, of a header or a path for example
        content = json.dumps(body, ensure_ascii=False, default=str).encode("utf-8", "replace")
    return web.Response(body=content, status=status, content_type=content_type)


def problem(status: int, title: str, detail: str = "", headers: Mapping[str, str] | None = None) -> web.Response:
    """An error as `application/problem+json` (RFC 9457)."""
    body = {"type": "about:blank", "title": title, "status": status, **({"detail": detail} if detail else {})}
    response = json_answer(body, status, "application/problem+json")
    response.headers.update(headers or {})
    return response


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    if (refused := _misread_by_others(request)) is not None:
        refused.force_close()
        return refused
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
        detail = f"{request.method} {request.path[:200]}" if error.status in {404, 405} else ""
        return problem(error.status, error.reason, detail, allow)
    except (web.RequestPayloadError, ConnectionResetError):
        response = problem(400, "Bad Request", "the body came to no proper end")
        response.force_close()
        return response
    except Exception:
        log.exception("request failed", method=request.method, path=request.path[:200])
        return problem(500, "Internal Server Error", "An unexpected error occurred")


def _misread_by_others(request: web.Request) -> web.Response | None:
    """The answer to what a proxy in front may take for another request than we do."""
    if not request.raw_path.startswith("/"):
        return problem(400, "Bad Request", "expected a path as the request's target")
    if request.headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
        return problem(501, "Not Implemented", "Transfer-Encoding: expected chunked")
    return None


def cross_site(request: web.Request) -> web.Response | None:
    """The refusal of a command that a page of another site has a browser send; None for any other request."""
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site in {"none", "same-origin"}:
        return None
    if site is None and (origin is None or origin.partition("://")[2] == request.host):
        return None
    return problem(403, "Forbidden", "commands from pages of other sites are not taken")


def application(*tables: Iterable[web.AbstractRouteDef]) -> web.Application:
    """One application of some routes: bodies are bounded, errors are problems, nothing of the inside shows.

    What no route takes is taken by routes of our own: aiohttp's answer an `Expect` header that is no ASCII with a 500.
    """
    app = web.Application(middlewares=[_errors], client_max_size=MAX_BODY)
    app.on_response_prepare.append(_no_server_name)
    methods: dict[str, set[str]] = {}
    for route in (route for routes in tables for route in routes):
        if isinstance(route, web.RouteDef):
            methods.setdefault(route.path, set()).update({"GET", "HEAD"} if route.method == "GET" else {route.method})
            route = web.RouteDef(route.method, route.path, route.handler, {"expect_handler": _expect, **route.kwargs})
        app.add_routes([route])
    for path, allowed in methods.items():
        if "*" not in allowed:
            app.add_routes([web.route("*", path, _not_allowed(allowed), expect_handler=_expect)])
    if "/{rest:.*}" not in methods:
        app.add_routes([web.route("*", "/{rest:.*}", _not_found, expect_handler=_expect)])
    return app


def not_found(kind: str, wanted: str) -> web.Response:
    """The original's answer to a question for something that is not there."""
    text = f"Data of type '{kind}' with id '{wanted[:200]}' not found"
    return web.Response(body=text.encode("utf-8", "replace"), status=404, content_type="text/plain", charset="utf-8")


async def _not_found(request: web.Request) -> web.Response:
    raise web.HTTPNotFound


def _not_allowed(allowed: Iterable[str]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def refuse(request: web.Request) -> web.Response:
        raise web.HTTPMethodNotAllowed(request.method, sorted(allowed))

    return refuse


async def _expect(request: web.Request) -> web.Response | None:
    if request.headers.get("Expect", "").lower() != "100-continue":
        return problem(417, "Expectation Failed")
    if request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None


async def _no_server_name(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Server"] = SERVER_NAME
