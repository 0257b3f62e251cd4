"""Webhooks as connectors see them: the request and what stands in it, signatures, authentication."""

from gateway.webhooks.request import Part, WebhookRefused, WebhookRequest

__all__ = ["Part", "WebhookRefused", "WebhookRequest"]
