"""The public API for authors of connectors; everything else is the gateway's own.

    from gateway import InboundContext, JobContext, NotBlank, inbound_connector, outbound_connector

`gateway.testing` is for their tests. The names are loaded when they are first used, so that `import gateway` costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.sdk import (
        ActivationConditionNotMet,
        AdHocSubProcessResponse,
        BpmnErrorThrown,
        CommandFailed,
        CommandIgnored,
        ConnectorException,
        ConnectorInputException,
        ConnectorRetryException,
        CorrelationFailed,
        Delivery,
        Document,
        DocumentReturn,
        DocumentReturnFormat,
        ElementActivation,
        ElementInstance,
        EngineRefused,
        ExecutionFailed,
        Header,
        InboundConnector,
        InboundContext,
        InboundElement,
        InvalidInput,
        JobCompletionListener,
        JobContext,
        JobErrorRaised,
        MessageAlreadyCorrelated,
        MessageCorrelated,
        MessagePublished,
        NotBlank,
        OutboundConnector,
        Outcome,
        Point,
        ProcessInstanceCreated,
        ProcessInstanceCreatedWithResult,
        Variable,
        WebhookRefused,
        WebhookRequest,
        WebhookResponse,
        Window,
        inbound_connector,
        operation,
        outbound_connector,
        webhook_connector,
    )

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


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gateway import sdk

    found = globals()[name] = getattr(sdk, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
