"""`/actuator`: health, metrics and log levels, in the shapes of Spring Boot's actuator."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

from aiohttp import web

from gateway.admin.application import cross_site, json_answer, problem
from gateway.admin.sources import Sources
from gateway.observe import LEVELS, logger_levels, python_loggers, set_level

if TYPE_CHECKING:
    from gateway.config import Settings

_BODY_SECONDS: Final = 10.0


def actuator_routes(sources: Sources, settings: "Settings") -> list[web.AbstractRouteDef]:
    management = settings.management
    return _Actuator(sources, management.server.base_path, management.endpoints.web.exposure.include).routes()


class _Actuator:
    """`/actuator`, or what `management.server.base-path` makes of it; `exposed` names its endpoints, `*` means all."""

    def __init__(self, sources: Sources, base_path: str, exposed: Sequence[str]) -> None:
        self._sources = sources
        self._base = "/" + base_path.strip("/") if base_path.strip("/") else ""
        self._exposed = exposed

    def routes(self) -> list[web.AbstractRouteDef]:
        every: dict[str, list[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]]]] = {
            "health": [("GET", "", self.health), ("GET", "/{name}", self.health)],
            "prometheus": [("GET", "", self.prometheus)],
            "metrics": [("GET", "", self.metrics), ("GET", "/{name}", self.metric)],
            "loggers": [
                ("GET", "", self.loggers),
                ("GET", "/{name}", self.logger),
                ("POST", "/{name}", self.set_logger),
            ],
        }
        self._names = [name for name in every if "*" in self._exposed or name in self._exposed]
        routes: list[web.AbstractRouteDef] = [web.get(self._base or "/", self.index)]
        for name in self._names:
            for method, tail, handler in every[name]:
                routes.append(web.route(method, f"{self._base}/{name}{tail}", handler))
        return routes

    async def index(self, request: web.Request) -> web.Response:
        root = f"{request.scheme}://{request.host}{self._base}"
        links = {"self": {"href": root, "templated": False}}
        links |= {name: {"href": f"{root}/{name}", "templated": False} for name in self._names}
        return json_answer({"_links": links})

    async def health(self, request: web.Request) -> web.Response:
        found = self._sources.health.report(request.match_info.get("name"))
        if found is None:
            raise web.HTTPNotFound
        return json_answer(found[1], found[0])

    async def prometheus(self, request: web.Request) -> web.Response:
        body, content_type = self._sources.metrics.scrape(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def metrics(self, request: web.Request) -> web.Response:
        return json_answer(
            {"names": sorted(family.name.replace("_", ".") for family in self._sources.metrics.families())}
        )

    async def metric(self, request: web.Request) -> web.Response:
        """The sums over all series of one meter; `?tag=type:x` narrows it down."""
        wanted = request.match_info["name"].replace("_", ".").replace("-", ".")
        families = [family for family in self._sources.metrics.families() if family.name.replace("_", ".") == wanted]
        if not families:
            raise web.HTTPNotFound
        tags = [tag.split(":", 1) for tag in request.query.getall("tag", []) if ":" in tag]
        samples = [s for s in families[0].samples if all(s.labels.get(name) == value for name, value in tags)]
        sums: dict[str, float] = {}
        values: dict[str, set[str]] = {}
        for sample in samples:
            statistic = sample.name.removeprefix(families[0].name).strip("_").upper() or "VALUE"
            sums[statistic] = sums.get(statistic, 0.0) + sample.value
            for name, value in sample.labels.items():
                values.setdefault(name, set()).add(value)
        return json_answer(
            {
                "name": request.match_info["name"],
                "description": families[0].documentation,
                "measurements": [{"statistic": name, "value": value} for name, value in sums.items()],
                "availableTags": [{"tag": name, "values": sorted(found)} for name, found in values.items()],
            }
        )

    async def loggers(self, request: web.Request) -> web.Response:
        levels = {name: _level(*found) for name, found in logger_levels().items()}
        return json_answer({"levels": [name.upper() for name in LEVELS], "loggers": levels})

    async def logger(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        known = logger_levels()
        ours = next((logger or "ROOT" for logger in python_loggers(name) if (logger or "ROOT") in known), None)
        if ours is None:
            raise web.HTTPNotFound
        return json_answer(_level(*known[ours]))

    async def set_logger(self, request: web.Request) -> web.Response:
        if (refused := cross_site(request)) is not None:
            return refused
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = json.loads(await request.read() or b"{}")
        except TimeoutError:
            return problem(408, "Request Timeout")
        except (ValueError, RecursionError):
            return problem(400, "Bad Request", 'expected a JSON object, for example {"configuredLevel": "DEBUG"}')
        level = body.get("configuredLevel") if isinstance(body, dict) else ()
        if level is not None and not isinstance(level, str):
            return problem(400, "Bad Request", "configuredLevel: expected the name of a level, or null")
        try:
            set_level(request.match_info["name"][:200], level)
        except ValueError as error:
            return problem(400, "Bad Request", str(error))
        return web.Response(status=204)


def _level(configured: str | None, effective: str) -> dict[str, str]:
    return {**({"configuredLevel": configured} if configured else {}), "effectiveLevel": effective}
