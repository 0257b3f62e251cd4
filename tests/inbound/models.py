"""BPMN of processes with inbound elements, in few words."""

from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

from gateway.engine import Resource
from tests.engine.embedded.models import boundary, element, end, message, on_message, process, start, sub, task

KEY = {"correlationKeyExpression": "=id"}


def properties(given: Mapping[str, str] | None = None, *, type_: str = "t:1") -> str:
    """`zeebe:properties` with `inbound.type` and what is given."""
    pairs = {"inbound.type": type_, **(given or {})}
    lines = "".join(f"<z:property name={quoteattr(k)} value={quoteattr(v)}/>" for k, v in pairs.items())
    return f"<z:properties>{lines}</z:properties>"


def inbound(tag: str, id_: str, inner: str = "", given: Mapping[str, str] | None = None, **attributes: str) -> str:
    return element(tag, id_, inner, properties(given), **attributes)


def order(process_id: str, note: str = "1") -> str:
    """A process that events start, and that waits for a message `PROCESS-m` with the key of variable `id`.

    note: a property, to make another version.
    """
    extra = {"note": note}
    return process(
        inbound("startEvent", "start", given=extra),
        inbound("intermediateCatchEvent", "wait", on_message("m"), KEY | extra),
        end(),
        flows="start wait e",
        top=message("m", f"{process_id}-m", "= id") + message("n", f"{process_id}-n", "= id"),
    ).replace("§", process_id)


def with_aside(model: str) -> str:
    """The process of `order` with an event sub-process beside it that a message `PROCESS-n` starts at `joined`."""
    aside = sub(
        "aside",
        inbound("startEvent", "joined", on_message("n"), KEY, isInterrupting="false"),
        end("over"),
        flows="joined over",
        triggeredByEvent="true",
    )
    return model.replace("</b:process>", f"{aside}</b:process>")


def plain(process_id: str) -> str:
    """A process without connectors."""
    return process(start(), task(job_type="plain"), end(), flows="s t e").replace("§", process_id)


def file(model: str) -> Resource:
    return Resource("process.bpmn", model.encode())


__all__ = [
    "KEY",
    "boundary",
    "element",
    "end",
    "file",
    "inbound",
    "message",
    "on_message",
    "order",
    "plain",
    "process",
    "properties",
    "start",
    "sub",
    "task",
    "with_aside",
]
