"""Messages of Amazon SNS: whether they are signed by it."""

from collections.abc import Mapping
from typing import Any

from gateway.http_client import HttpClient


class SnsSignatures:
    """Verifies messages; keeps the certificates it fetched. One for a connector."""

    async def verify(self, message: Any, topic_arn: str | None, http: HttpClient, now: float) -> None:
        """message: the body. topic_arn: of the header `x-amz-sns-topic-arn`; the message must be of this topic.

        Raises WebhookRefused (401; 503 when the certificate cannot be fetched).
        """
        raise NotImplementedError


def confirmation_url(message: Mapping[str, Any]) -> str:
    """Where a (verified) subscription is confirmed by a GET. Raises WebhookRefused (401) unless it is at SNS."""
    raise NotImplementedError
