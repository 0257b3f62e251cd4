"""A request as text for the activity log, without credentials."""

from collections.abc import Collection

from gateway.webhooks.request import WebhookRequest


def request_entry(request: WebhookRequest, secret_headers: Collection[str] = ()) -> str:
    """Request line, headers, the beginning of the body, the list of parts. secret_headers: further names to withhold."""
    raise NotImplementedError
