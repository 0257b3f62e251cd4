"""HTTP polling: calls a URL for each token that waits at the element, until the answer is the one that it waits for.

Source: Camunda docs, "HTTP polling connector". The calls are those of HTTP REST; their properties are read anew at every call,
with the variables as they are then.
"""

import asyncio
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from connectors._rest import HttpMethod, RestRequest, prepare, result
from gateway import ElementInstance, InboundContext, InboundElement, inbound_connector
from gateway.http_client import HttpClient, HttpStatusError

LONGEST_LISTING_PAUSE: Final = 60.0
_BUSY_PAUSE: Final = 1.0  # who is to wait longer for a busy server waits for the next call, without holding a place


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise PydanticCustomError("positive", "must be longer than zero")
    return value


Interval = Annotated[timedelta, AfterValidator(_positive)]


class PollingSettings(BaseModel):
    """What holds for all tokens. maxConcurrentRequests: calls at once; further ones wait for their turn."""

    httpRequestInterval: Interval = timedelta(seconds=50)  # noqa: N815 - the property's own name, here and below
    processPollingInterval: Interval = timedelta(seconds=5)  # noqa: N815
    maxConcurrentRequests: int = Field(default=50, ge=1)  # noqa: N815


@inbound_connector("HTTP Polling Connector", type="io.camunda:http-polling:1")
async def http_polling(settings: PollingSettings, source: InboundContext) -> None:
    """Calls a URL again and again for every token, and gives each answer of 2xx to the process.

    The event is `{status, headers, body, reason, document}`. Anything else stands in the activity log, and the next call comes all
    the same. A token is polled for until it is gone: the engine drops what it had already, by the message id.
    """
    places = asyncio.Semaphore(settings.maxConcurrentRequests)
    shortest = settings.processPollingInterval.total_seconds()
    polls: dict[int, asyncio.Task[None]] = {}
    pause = shortest
    async with asyncio.TaskGroup() as tasks:
        while True:
            try:
                waiting = {instance.key: instance for instance in await source.instances()}
            except Exception as e:
                source.report_health("DOWN", error=e)
                await source.sleep(pause)
                pause = min(2 * pause, max(shortest, LONGEST_LISTING_PAUSE))
                continue
            for key in polls.keys() - waiting.keys():
                polls.pop(key).cancel()
            for key, instance in waiting.items():
                if key not in polls:
                    polls[key] = tasks.create_task(_poll(instance, settings, source, places))
            source.report_health("UP", details={"Process instances": len(polls)})
            pause = shortest
            await source.sleep(pause)


async def _poll(
    instance: ElementInstance, settings: PollingSettings, source: InboundContext, places: asyncio.Semaphore
) -> None:
    """One call after the other, with the same pause between them, until it is cancelled."""
    while True:
        async with places:
            await _attempt(instance, source)
        await source.sleep(settings.httpRequestInterval.total_seconds())


async def _attempt(instance: ElementInstance, source: InboundContext) -> None:
    tag = _literal_method(instance.element)
    try:
        request = await source.bind(RestRequest, instance)
        tag = request.method.value
        await source.correlate(await _call(request, source.http), id=instance.message_id, log=False)
    except Exception as e:
        words = f"{e.code} {e}".rstrip() if isinstance(e, HttpStatusError) else str(e) or type(e).__name__
        source.log("ERROR", tag, words, {"elementInstanceKey": str(instance.key)})


def _literal_method(element: InboundElement) -> str:
    """The method where it is no expression, for what fails before it is known."""
    method = element.properties.get("method", "").strip().upper()
    return method if method in set(HttpMethod) else "HTTP"


async def _call(request: RestRequest, http: HttpClient) -> dict[str, Any]:
    """The answer as an event. Raises HttpError, for an answer that is not 2xx too."""
    response = await http.open(await prepare(request, http, max_pause=_BUSY_PAUSE))
    reply = await response.read()
    if not 200 <= reply.status < 300:
        raise HttpStatusError(reply.status, reply.reason, {}, None)
    return result(response, body=reply.readable())
