"""Logs: structlog in front of the standard library, so that one handler formats, masks and counts what the gateway, grpc, aiohttp
and asyncio write. A logger's level is asked before anything is formatted.
"""

import logging
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TextIO

import structlog

if TYPE_CHECKING:
    from gateway.config import Settings

Mask = Callable[[str], str]

# ---- levels ----------------------------------------------------------------------------------------------------------

TRACE: Final = 5
_OFF: Final = 60
LEVELS: Final[Mapping[str, int]] = {
    "off": _OFF,
    "fatal": logging.CRITICAL,
    "error": logging.ERROR,
    "warn": logging.WARNING,
    "info": logging.INFO,
    "debug": logging.DEBUG,
    "trace": TRACE,
}
_METHODS: Final = {"warning": logging.WARNING, "critical": logging.CRITICAL, "exception": logging.ERROR, **LEVELS}
_JAVA_LOGGERS: Final = (
    ("io.camunda.connector.runtime", ("gateway",)),
    ("io.camunda.client", ("gateway.engine",)),
    ("io.camunda.zeebe", ("gateway.engine",)),
    ("io.camunda", ("gateway", "connectors")),
    ("io.grpc", ("grpc",)),
)
_MAX_LOGGERS: Final = 1000


def level_name(level: int) -> str:
    """The nearest of Spring's names: `TRACE` to `FATAL`, or `OFF`."""
    return next((name for name, number in LEVELS.items() if level >= number), "trace").upper()


def python_loggers(name: str) -> tuple[str, ...]:
    """The loggers here that a logger of the Java runtime stands for; every other name stands for itself."""
    if name.upper() == "ROOT":
        return ("",)
    return next((ours for java, ours in _JAVA_LOGGERS if name == java or name.startswith(f"{java}.")), (name,))


def set_level(name: str, level: str | None) -> None:
    """Sets a logger's level, also while running; None: as the logger above it. ValueError when there is no such level."""
    if level is not None and level.lower() not in LEVELS:
        raise ValueError(f"level: expected one of {', '.join(LEVELS)}, got {level[:20]!r}")
    known = logging.root.manager.loggerDict
    if name not in known and name.upper() != "ROOT" and len(known) >= _MAX_LOGGERS:
        raise ValueError(f"{name[:100]}: there is no such logger, and too many exist already")
    for logger in python_loggers(name):
        fallback = logging.INFO if not logger else logging.NOTSET
        logging.getLogger(logger).setLevel(fallback if level is None else LEVELS[level.lower()])


def logger_levels() -> dict[str, tuple[str | None, str]]:
    """Each logger's configured level (None: none of its own) and the one in effect; the root is `ROOT`."""
    names = sorted(logging.root.manager.loggerDict)  # with those that only have loggers below them
    return {
        name: (
            level_name(logger.level) if logger.level or logger is logging.root else None,
            level_name(logger.getEffectiveLevel()),
        )
        for name, logger in (("ROOT", logging.root), *((name, logging.getLogger(name)) for name in names))
    }


# ---- logging -----------------------------------------------------------------------------------------------------------


class _LevelFirst(structlog.stdlib.BoundLogger):
    """Asks for the level before anything else happens."""

    def _proxy_to_logger(self, method_name: str, event: str | None = None, *event_args: str, **event_kw: Any) -> Any:
        if self._logger.isEnabledFor(_METHODS.get(method_name, logging.INFO)):
            return super()._proxy_to_logger(method_name, event, *event_args, **event_kw)
        return None


def masked(value: Any, mask: Mask, depth: int = 0) -> Any:
    """A value with every text in it masked. What is no plain data becomes text first: its own text may hold a secret."""
    if isinstance(value, str):
        return mask(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping) and depth < 8:
        return {mask(str(key)): masked(item, mask, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < 8:
        return [masked(item, mask, depth + 1) for item in value]
    return mask(value.decode(errors="replace") if isinstance(value, bytes) else str(value))


def masking(mask: Mask) -> structlog.types.Processor:
    """The processor that stands last before rendering: no text passes it unmasked."""

    def process(logger: Any, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        return {mask(str(key)): masked(value, mask) for key, value in event.items()}

    return process


def _severity(service: str | None, version: str | None) -> structlog.types.Processor:
    """Google Cloud Logging's names ("Structured logging")."""
    names = {"warn": "WARNING", "fatal": "CRITICAL", "off": "DEFAULT", "trace": "DEBUG"}

    def process(logger: Any, method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        level = str(event.pop("level", "info"))
        event["severity"] = names.get(level, level.upper())
        context = {key: value for key, value in (("service", service), ("version", version)) if value}
        if context:
            event["serviceContext"] = context
        return event

    return process


def _renderer(settings: "Settings", stream: TextIO, mask: Mask) -> list[structlog.types.Processor]:
    log = settings.connectors.log
    json = settings.gateway.log.format == "json" or log.appender == "stackdriver"
    terminal = stream.isatty()
    if not json and (settings.gateway.log.format == "text" or terminal):
        return [masking(mask), structlog.dev.ConsoleRenderer(colors=terminal, pad_event_to=0)]
    out: list[structlog.types.Processor] = [structlog.processors.EventRenamer("message")]
    if log.appender == "stackdriver":
        out.append(_severity(log.stackdriver.service_name, log.stackdriver.service_version))
    return [*out, masking(mask), structlog.processors.JSONRenderer(ensure_ascii=False)]


class LogHandler(logging.StreamHandler[TextIO]):
    """The one handler of the process: formats, masks, counts. `remove` takes it away again."""

    def __init__(self, stream: TextIO, count: Callable[[str, str], None] | None) -> None:
        super().__init__(stream)
        self._count = count

    def emit(self, record: logging.LogRecord) -> None:
        if self._count is not None:
            self._count(level_name(record.levelno).lower(), record.name)
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's name
        """A record that cannot be formatted or written is dropped: its text is unmasked, so nothing of it is shown."""

    def remove(self) -> None:
        logging.root.removeHandler(self)


def configure_logging(
    settings: "Settings",
    stream: TextIO | None = None,
    *,
    mask: Mask = str,
    count: Callable[[str, str], None] | None = None,
) -> LogHandler:
    """Sets up logging for the process: text on a terminal, else JSON lines (or as `gateway.log.format` says).

    `mask` is applied to every text of every record, exceptions and other libraries' records included; `count` gets the level
    and the logger of each record (`Metrics.logged`). Called again, it replaces what it set up before.
    """
    stream = stream or sys.stderr
    logging.addLevelName(TRACE, "TRACE")
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="timestamp"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=_LevelFirst,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    for old in [handler for handler in logging.root.handlers if isinstance(handler, LogHandler)]:
        old.remove()
    handler = LogHandler(stream, count)
    meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[meta, *_renderer(settings, stream, mask)]
        )
    )
    logging.root.addHandler(handler)
    set_level("ROOT", settings.gateway.log.level or "info")
    for name, level in sorted(settings.logging.level.items()):
        if name.upper() != "ROOT" or settings.gateway.log.level is None:
            set_level(name, level)
    return handler
