"""The settings of the gateway: Spring's names, files and environment variables behind one checked, frozen model.

`load` reads them once at start. What is wrong raises `ConfigurationError` (one line that names the key); what has no effect
stands in `Settings.warnings`.
"""

from gateway.config.connectors import (
    ConfiguredConnector,
    ConnectorRules,
    WorkerSettings,
    normalized_name,
)
from gateway.config.settings import Settings, load
from gateway.config.sources import ConfigurationError

__all__ = [
    "ConfigurationError",
    "ConfiguredConnector",
    "ConnectorRules",
    "Settings",
    "WorkerSettings",
    "load",
    "normalized_name",
]
