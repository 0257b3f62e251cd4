"""What the author of a connector sees.

An outbound connector is one function; its pydantic model is its form:

    class Weather(BaseModel):
        city: NotBlank
        unit: Literal["C", "F"] = "C"

    @outbound_connector("Weather", type="acme:weather:1")
    async def weather(request: Weather, job: JobContext) -> dict[str, Any]:
        reply = await job.http.get("https://weather.example/v1", params={"q": request.city})
        reply.raise_for_status()
        return reply.json()

What it returns is the response that `resultVariable` and `resultExpression` see. What it raises becomes a failed job:

    Exception                        error.type        retries          error.code, error.variables
    ├── ConnectorException           its Java name     one less         as given
    │   └── ConnectorRetryException  its Java name     as given         code as given
    ├── ConnectorInputException      its Java name     0: an incident   none
    ├── HttpError of `job.http`      ConnectorException one less        its own: the status, the response
    │   └── HttpInputError           ConnectorInputException 0          none
    └── anything else                its Python name   one less         none

An exception whose direct cause (`raise ... from`) is a ConnectorInputException counts as one.

An inbound connector is a function too: it runs until it is cancelled, and gives events to the process.

    @inbound_connector("Ticker", type="acme:ticker:1")
    async def ticker(settings: TickerSettings, source: InboundContext) -> None:
        async with source.window(32) as window:   # at most 32 events under way; leaving waits for them
            while True:
                delivery = await window.emit({"now": time.time()})   # waits for a free place
                await source.sleep(settings.interval)

Awaiting a delivery gives the `Outcome`. A webhook connector is a function from a request to a response.
"""

from gateway.documents import Document
from gateway.sdk.errors import (
    ConnectorException,
    ConnectorInputException,
    ConnectorRetryException,
)
from gateway.sdk.fields import (
    Header,
    NotBlank,
    Variable,
)
from gateway.sdk.fields import (
    NotBlankMark as NotBlankMark,
)
from gateway.sdk.fields import (
    field_keys as field_keys,
)
from gateway.sdk.inbound import (
    ActivationConditionNotMet,
    CorrelationFailed,
    Delivery,
    ElementInstance,
    EngineRefused,
    InboundConnector,
    InboundContext,
    InboundElement,
    InvalidInput,
    MessageAlreadyCorrelated,
    MessageCorrelated,
    MessagePublished,
    Outcome,
    Point,
    ProcessInstanceCreated,
    ProcessInstanceCreatedWithResult,
    WebhookResponse,
    Window,
    inbound_connector,
    webhook_connector,
)
from gateway.sdk.inbound import (
    Again as Again,
)
from gateway.sdk.inbound import (
    Event as Event,
)
from gateway.sdk.inbound import (
    Severity as Severity,
)
from gateway.sdk.inbound import (
    Status as Status,
)
from gateway.sdk.outbound import (
    AdHocSubProcessResponse,
    BpmnErrorThrown,
    CommandFailed,
    CommandIgnored,
    DocumentReturn,
    DocumentReturnFormat,
    ElementActivation,
    ExecutionFailed,
    JobCompletionListener,
    JobContext,
    JobErrorRaised,
    OutboundConnector,
    operation,
    outbound_connector,
)
from gateway.sdk.outbound import (
    JobFailure as JobFailure,
)
from gateway.sdk.outbound import (
    Operation as Operation,
)
from gateway.sdk.outbound import (
    Parameter as Parameter,
)
from gateway.sdk.outbound import (
    Service as Service,
)
from gateway.webhooks import WebhookRefused, WebhookRequest

__all__ = [
    "ActivationConditionNotMet",
    "AdHocSubProcessResponse",
    "BpmnErrorThrown",
    "CommandFailed",
    "CommandIgnored",
    "ConnectorException",
    "ConnectorInputException",
    "ConnectorRetryException",
    "CorrelationFailed",
    "Delivery",
    "Document",
    "DocumentReturn",
    "DocumentReturnFormat",
    "ElementActivation",
    "ElementInstance",
    "EngineRefused",
    "ExecutionFailed",
    "Header",
    "InboundConnector",
    "InboundContext",
    "InboundElement",
    "InvalidInput",
    "JobCompletionListener",
    "JobContext",
    "JobErrorRaised",
    "MessageAlreadyCorrelated",
    "MessageCorrelated",
    "MessagePublished",
    "NotBlank",
    "OutboundConnector",
    "Outcome",
    "Point",
    "ProcessInstanceCreated",
    "ProcessInstanceCreatedWithResult",
    "Variable",
    "WebhookRefused",
    "WebhookRequest",
    "WebhookResponse",
    "Window",
    "inbound_connector",
    "operation",
    "outbound_connector",
    "webhook_connector",
]
