"""The composition root: what runs, what ends, and what is said about an engine that is away."""

import asyncio
import io
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import structlog

from gateway import app
from gateway.admin import Health
from gateway.config import ConfigurationError, load
from gateway.engine import Engine, Topology, Unavailable
from gateway.observe import configure_logging
from gateway.secrets import EnvironmentSecrets, Masker, SecretContext
from tests.outbound.fakes import until

NOWHERE = Path(os.devnull)


@pytest.fixture(autouse=True)
def fresh_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that no other test has bound to its own configuration."""
    monkeypatch.setattr(app, "log", structlog.get_logger())


@pytest.fixture
def hooks() -> Iterator[None]:
    """Python's own ways to report errors, put back afterwards."""
    kept = sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning
    yield
    sys.excepthook, threading.excepthook, sys.unraisablehook, warnings.showwarning = kept
    logging.captureWarnings(capture=False)


def test_what_nobody_caught_goes_to_the_log_masked(hooks: None) -> None:
    masker, out = Masker(), io.StringIO()
    masker.add("s3cret-value")
    handler = configure_logging(load({}, directory=NOWHERE), out, mask=masker)
    try:
        app.log_uncaught()

        def crash() -> None:
            raise RuntimeError("cannot use s3cret-value")

        thread = threading.Thread(target=crash)
        thread.start()
        thread.join()
    finally:
        handler.remove()
        structlog.reset_defaults()
    assert "cannot use ***" in out.getvalue()
    assert "s3cret-value" not in out.getvalue()


async def test_sigterm_asks_to_stop_and_a_second_one_is_no_longer_caught() -> None:
    stop = app.stop_signal()
    before = signal.getsignal(signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(stop.wait(), 1)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert before is not signal.SIG_DFL


class _Engine:
    """Answers for the topology in turn: an error or the topology; the last again and again."""

    def __init__(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def topology(self, *, timeout: float | None = None) -> Topology:
        self.asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is not None:
            raise answer
        return Topology(1, 1, 1, "8.8.9")


async def _look(engine: _Engine, health: Health) -> list[Any]:
    with structlog.testing.capture_logs() as logs:
        reached = asyncio.Event()

        async def first() -> None:
            reached.set()

        look = asyncio.create_task(app._look_at_engine(cast("Engine", engine), health, first))
        await until(reached.is_set)
        look.cancel()
    return list(logs)


async def test_that_the_engine_was_reached_is_told_once() -> None:
    health = Health()
    logs = await _look(_Engine(Unavailable("refused"), Unavailable("refused"), None), health)
    assert [entry["event"] for entry in logs] == ["the engine cannot be reached, trying again", "the engine answers"]


async def test_an_answer_that_cannot_be_read_does_not_end_the_looking() -> None:
    health = Health()
    logs = await _look(_Engine(ValueError("no JSON"), None), health)
    assert logs[0]["reason"] == "ValueError: no JSON"


async def test_handlers_that_outlive_the_drain_are_counted_and_not_waited_for() -> None:
    async def stubborn() -> None:
        end = time.monotonic() + 3
        while (left := end - time.monotonic()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                continue

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(asyncio.sleep(60))]
    await asyncio.sleep(0)
    began = time.monotonic()
    assert await app._left() == 1
    assert time.monotonic() - began < 2
    assert tasks[1].cancelled()
    await tasks[0]


def test_a_wrong_address_range_is_a_configuration_error() -> None:
    settings = load({"CAMUNDA_CONNECTOR_VALIDATION_HOSTS_DENYRANGES": "not-a-range"}, directory=NOWHERE)
    with pytest.raises(ConfigurationError, match="not-a-range"):
        app._http_settings(settings)


async def test_secrets_come_from_the_environment_and_from_the_configuration() -> None:
    settings = load({"SECRET_A": "from the environment"}, ["--SECRET_B=from a flag"], NOWHERE)
    (provider,) = app.secret_providers(settings)
    assert isinstance(provider, EnvironmentSecrets)
    context = SecretContext("<default>", "process")
    assert await provider.get_secret("A", context) == "from the environment"
    assert await provider.get_secret("B", context) == "from a flag"
    assert await provider.get_secret("C", context) is None


def test_credentials_and_secrets_of_the_settings_are_masked() -> None:
    masker = Masker()
    settings = load(
        {
            "SECRET_A": "alpha-value",
            "SOME_PASSWORD": "beta-value",
            "CAMUNDA_CLIENT_AUTH_USERNAME": "u",
            "CAMUNDA_CLIENT_AUTH_PASSWORD": "gamma-value",
        },
        directory=NOWHERE,
    )
    app.mask_settings(settings, masker)
    assert masker("alpha-value beta-value gamma-value delta") == "*** *** *** delta"
