"""BPMN models in few words, for the tests of engines.

`§` in a text stands for the name of the test's own world: the process is `§`, the job type of a task `§` and its id.
"""

from collections.abc import Mapping
from xml.sax.saxutils import escape, quoteattr

from gateway import bpmn

Texts = Mapping[str, str]


def process(*nodes: str, flows: str = "", id_: str = "§", top: str = "", executable: bool = True) -> str:
    """flows: lines of ids, each joined to the next; `a [= x > 1] b` gives the flow `a_b` a condition."""
    own = f'id="{id_}" name="{id_} name" isExecutable="{str(executable).lower()}"'
    return (
        f'<b:definitions xmlns:b="{bpmn.BPMN}" xmlns:z="{bpmn.ZEEBE}" id="definitions" targetNamespace="tests">\n{top}'
        f"<b:process {own}>\n{''.join(nodes)}{joined(flows)}</b:process></b:definitions>"
    )


def joined(flows: str) -> str:
    found = []
    for line in filter(None, map(str.strip, flows.splitlines())):
        source, condition = "", ""
        for part in _parts(line):
            if part.startswith("["):
                condition = f"<b:conditionExpression>{escape(part[1:-1])}</b:conditionExpression>"
                continue
            if source:
                ends = f'id="{source}_{part}" sourceRef="{source}" targetRef="{part}"'
                found.append(f"<b:sequenceFlow {ends}>{condition}</b:sequenceFlow>\n")
            source, condition = part, ""
    return "".join(found)


def _parts(line: str) -> list[str]:
    parts: list[str] = []
    for piece in line.replace("]", "]\0").split("\0"):
        before, bracket, condition = piece.partition("[")
        parts += before.split()
        if bracket:
            parts.append(f"[{condition}")
    return parts


def element(tag: str, id_: str, inner: str = "", ext: str = "", **attributes: str | None) -> str:
    own = "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items() if value is not None)
    extensions = f"<b:extensionElements>{ext}</b:extensionElements>" if ext else ""
    return f'<b:{tag} id="{id_}"{own}>{extensions}{inner}</b:{tag}>\n'


def mapped(inputs: Texts | None = None, outputs: Texts | None = None) -> str:
    """target: source"""
    if not inputs and not outputs:
        return ""
    lines = [f"<z:input source={quoteattr(s)} target={quoteattr(t)}/>" for t, s in (inputs or {}).items()]
    lines += [f"<z:output source={quoteattr(s)} target={quoteattr(t)}/>" for t, s in (outputs or {}).items()]
    return f"<z:ioMapping>{''.join(lines)}</z:ioMapping>"


def job(job_type: str, retries: str | None = None, headers: Texts | None = None) -> str:
    more = "" if retries is None else f" retries={quoteattr(retries)}"
    heads = "".join(f"<z:header key={quoteattr(k)} value={quoteattr(v)}/>" for k, v in (headers or {}).items())
    return f"<z:taskDefinition type={quoteattr(job_type)}{more}/>" + (
        f"<z:taskHeaders>{heads}</z:taskHeaders>" if heads else ""
    )


def task(
    id_: str = "t",
    *,
    job_type: str | None = None,
    retries: str | None = None,
    headers: Texts | None = None,
    inputs: Texts | None = None,
    outputs: Texts | None = None,
    tag: str = "serviceTask",
    inner: str = "",
) -> str:
    return element(tag, id_, inner, job(job_type or f"§{id_}", retries, headers) + mapped(inputs, outputs))


def start(id_: str = "s", inner: str = "", outputs: Texts | None = None) -> str:
    return element("startEvent", id_, inner, mapped(None, outputs))


def end(id_: str = "e", inner: str = "") -> str:
    return element("endEvent", id_, inner)


def boundary(id_: str, host: str, inner: str, *, interrupting: bool = True, outputs: Texts | None = None) -> str:
    return element(
        "boundaryEvent", id_, inner, mapped(None, outputs), attachedToRef=host, cancelActivity=str(interrupting).lower()
    )


def sub(id_: str, *nodes: str, flows: str = "", ext: str = "", **attributes: str) -> str:
    return element("subProcess", id_, "".join(nodes) + joined(flows), ext, **attributes)


def message(id_: str, name: str, key: str | None = None) -> str:
    subscription = f"<z:subscription correlationKey={quoteattr(key)}/>" if key else ""
    return element("message", id_, "", subscription, name=name)


def error(id_: str, code: str) -> str:
    return element("error", id_, errorCode=code)


def on_message(ref: str) -> str:
    return f'<b:messageEventDefinition messageRef="{ref}"/>'


def on_error(ref: str | None = None) -> str:
    return "<b:errorEventDefinition/>" if ref is None else f'<b:errorEventDefinition errorRef="{ref}"/>'


def on_timer(kind: str, text: str) -> str:
    """kind: `Date`, `Duration` or `Cycle`."""
    return f"<b:timerEventDefinition><b:time{kind}>{escape(text)}</b:time{kind}></b:timerEventDefinition>"


TERMINATE = "<b:terminateEventDefinition/>"


def one_task(*more: str, flows: str = "", top: str = "", id_: str = "§", **options: object) -> str:
    """s -> t -> e, with more nodes and flows."""
    return process(start(), task(**options), end(), *more, flows=f"s t e\n{flows}", top=top, id_=id_)  # type: ignore[arg-type]


ONE_TASK = one_task()
EMPTY = process(start(), end(), flows="s e")
