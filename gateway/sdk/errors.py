"""The exceptions of connectors; the tree is drawn in `gateway.sdk`."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, ClassVar


class ConnectorException(Exception):  # noqa: N818 - users match on these names
    """The call failed; the job is failed with one retry less. `code` and `variables` become `error.code` and
    `error.variables` of the error expression. The message and the variables are masked, the code is not.
    """

    java_type: ClassVar[str] = "io.camunda.connector.api.error.ConnectorException"

    def __init__(
        self, message: str = "", *, code: str | None = None, variables: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.variables = variables


class ConnectorRetryException(ConnectorException):
    """As ConnectorException, but says itself how many retries are left and how long to wait.

    retries: sent as given (None: one less than the job has); backoff: None for the header `retryBackoff`.
    """

    java_type: ClassVar[str] = "io.camunda.connector.api.error.ConnectorRetryException"

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        retries: int | None = None,
        backoff: timedelta | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.retries = retries
        self.backoff = backoff


class ConnectorInputException(Exception):  # noqa: N818
    """The input is wrong and stays wrong: never retried, an incident at once."""

    java_type: ClassVar[str] = "io.camunda.connector.api.error.ConnectorInputException"
