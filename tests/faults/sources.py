"""Inbound connectors that fail, or tell what they should not, as their properties say."""

import logging

from gateway.sdk import ConnectorException, InboundContext, inbound_connector

log = logging.getLogger("sources")


@inbound_connector("Failing", type="fault:failing")
async def failing(source: InboundContext) -> None:
    """Never gets to work."""
    raise ConnectorException("it always fails", code="FAULT")
