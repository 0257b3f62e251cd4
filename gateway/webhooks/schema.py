"""JSON Schema for the body of a request."""

from typing import Any


class BodySchema:
    """A schema, compiled once. Raises ValueError for what is no schema, or needs one from elsewhere."""

    def __init__(self, schema: Any) -> None:
        """schema: an object, `true` or `false`, or its JSON text."""
        raise NotImplementedError

    def check(self, body: Any) -> None:
        """Raises WebhookRefused (422): the place in the body, the rule that it breaks."""
        raise NotImplementedError
