"""What is known of a task before its jobs come: its headers read, its expressions compiled. Made once per element."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gateway import jsontext
from gateway.durations import MAX_MILLISECONDS, parse_milliseconds
from gateway.expressions import ErrorExpression, ResultExpression
from gateway.observe import OutboundMeters
from gateway.outbound.outcome import HeaderInvalid

_JAVA = "io.camunda.connector.runtime.core.outbound."
_PLANS = 10_000


@dataclass(frozen=True, slots=True)
class Plan:
    """The headers of one element. A header that is wrong is kept as the error it gives for each job."""

    headers: Mapping[str, str]
    result_variable: str | None
    result_expression: ResultExpression | None
    error_expression: ErrorExpression | None
    backoff_ms: int | None
    job_timeout_ms: int | None
    invalid: HeaderInvalid | None
    operation: str | None
    meters: OutboundMeters

    @property
    def discards(self) -> bool:
        """Whether nobody looks at the connector's response."""
        return self.result_variable is None and self.result_expression is None and self.error_expression is None


class Plans:
    """The plans of one job type, by the text of the headers: the engine sends the same text for each job of an element.

    meters: gives the counters for an element template's id and version.
    """

    def __init__(self, meters: Callable[[str | None, str | None], OutboundMeters]) -> None:
        self._meters = meters
        self._plans: OrderedDict[str, Plan] = OrderedDict()

    def get(self, custom_headers: str) -> Plan:
        """The plan for a job's headers."""
        plan = self._plans.get(custom_headers)
        if plan is None:
            plan = self._plans[custom_headers] = make_plan(custom_headers, self._meters)
            if len(self._plans) > _PLANS:
                self._plans.popitem(last=False)
        return plan


def make_plan(custom_headers: str, meters: Callable[[str | None, str | None], OutboundMeters]) -> Plan:
    """Reads the headers of one element."""
    backoff_ms = job_timeout_ms = invalid = None
    headers: dict[str, str] = {}
    try:
        headers = _headers(custom_headers)
        backoff_ms = _retry_backoff(headers.get("retryBackoff"))
        job_timeout_ms = _job_timeout(headers.get("jobTimeout"))
    except HeaderInvalid as e:
        invalid = e.again()
    result, error = _given(headers, "resultExpression"), _given(headers, "errorExpression")
    return Plan(
        headers=headers,
        result_variable=(_given(headers, "resultVariable") or "").strip() or None,
        result_expression=ResultExpression(result) if result else None,
        error_expression=ErrorExpression(error) if error else None,
        backoff_ms=backoff_ms,
        job_timeout_ms=job_timeout_ms,
        invalid=invalid,
        operation=headers.get("operation"),
        meters=meters(headers.get("elementTemplateId"), headers.get("elementTemplateVersion")),
    )


def _headers(text: str) -> dict[str, str]:
    try:
        headers = jsontext.loads(text) if text else {}
    except jsontext.InvalidJson as e:
        raise HeaderInvalid(f"The task headers cannot be read: {e}", "java.lang.RuntimeException") from None
    if not isinstance(headers, dict):
        raise HeaderInvalid("The task headers are no JSON object", "java.lang.RuntimeException")
    return {k: v if isinstance(v, str) else jsontext.dumps(v) for k, v in headers.items() if v is not None}


def _given(headers: Mapping[str, str], name: str) -> str | None:
    """A header's text; blank counts as absent."""
    text = headers.get(name)
    return text if text and text.strip() else None


def _retry_backoff(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        milliseconds = parse_milliseconds(text)
    except ValueError:
        milliseconds = MAX_MILLISECONDS + 1
    if milliseconds > MAX_MILLISECONDS:
        raise HeaderInvalid(
            f"Failed to parse retry backoff header. Expected ISO-8601 duration, e.g. PT5M, got: {text}",
            f"{_JAVA}InvalidBackOffDurationException",
        )
    return max(0, milliseconds)


def _job_timeout(text: str | None) -> int | None:
    if text is None or not text.strip():
        return None
    java = f"{_JAVA}InvalidJobTimeoutException"
    try:
        milliseconds = parse_milliseconds(text.strip())
    except ValueError:
        raise HeaderInvalid(
            f"Failed to parse job timeout header. Expected ISO-8601 duration, e.g. PT10M, got: {text}", java
        ) from None
    if milliseconds <= 0:
        raise HeaderInvalid(f"Job timeout must be a positive duration, got: {text}", java)
    if milliseconds > MAX_MILLISECONDS:
        raise HeaderInvalid(f"Job timeout is too large to represent: {text}", java)
    return milliseconds
