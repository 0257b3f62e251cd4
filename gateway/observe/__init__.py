"""Logs and metrics: how they are set up, and the fixed names of what is measured."""

from gateway.observe.logs import (
    LEVELS,
    TRACE,
    LogHandler,
    Mask,
    configure_logging,
    level_name,
    logger_levels,
    masked,
    masking,
    python_loggers,
    set_level,
)
from gateway.observe.meters import InboundMeters, InboundTotals, OutboundMeters, OutboundTotals, WorkerMeters
from gateway.observe.metrics import INBOUND_STATISTICS, STATISTICS, InboundFigures, Metrics

__all__ = [
    "INBOUND_STATISTICS",
    "LEVELS",
    "STATISTICS",
    "TRACE",
    "InboundFigures",
    "InboundMeters",
    "InboundTotals",
    "LogHandler",
    "Mask",
    "Metrics",
    "OutboundMeters",
    "OutboundTotals",
    "WorkerMeters",
    "configure_logging",
    "level_name",
    "logger_levels",
    "masked",
    "masking",
    "python_loggers",
    "set_level",
]
