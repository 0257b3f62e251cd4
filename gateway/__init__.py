"""The public API for authors of connectors; everything else is the gateway's own.

    from gateway import JobContext, NotBlank, outbound_connector

`gateway.testing` is for their tests. The names are loaded when they are first used, so that `import gateway` costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.sdk import (
        AdHocSubProcessResponse,
        BpmnErrorThrown,
        CommandFailed,
        CommandIgnored,
        ConnectorException,
        ConnectorInputException,
        ConnectorRetryException,
        Document,
        DocumentReturn,
        DocumentReturnFormat,
        ElementActivation,
        ExecutionFailed,
        Header,
        JobCompletionListener,
        JobContext,
        JobErrorRaised,
        NotBlank,
        OutboundConnector,
        Variable,
        operation,
        outbound_connector,
    )

__all__ = [
    "AdHocSubProcessResponse",
    "BpmnErrorThrown",
    "CommandFailed",
    "CommandIgnored",
    "ConnectorException",
    "ConnectorInputException",
    "ConnectorRetryException",
    "Document",
    "DocumentReturn",
    "DocumentReturnFormat",
    "ElementActivation",
    "ExecutionFailed",
    "Header",
    "JobCompletionListener",
    "JobContext",
    "JobErrorRaised",
    "NotBlank",
    "OutboundConnector",
    "Variable",
    "operation",
    "outbound_connector",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gateway import sdk

    found = globals()[name] = getattr(sdk, name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
