"""Fixtures that all tests share. What needs the test engine is marked `real`."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.processes import ENGINE_RUN, EngineProcess, MissingPartError, prepare_engine, running_engine

_prepared: dict[str, str | None] = {}


def _missing() -> str | None:
    """Why the test engine cannot run here; prepared once per session."""
    if "engine" not in _prepared:
        try:
            prepare_engine()
            _prepared["engine"] = None
        except MissingPartError as e:
            _prepared["engine"] = str(e)
    return _prepared["engine"]


_OF_PROCESSES = ("faults", "connectors/kafka", "connectors/rabbitmq")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with a gateway or a broker as a process of their own are slow, all of them."""
    tests = Path(__file__).parent
    for item in items:
        if item.get_closest_marker("real") and item.path.relative_to(tests).as_posix().startswith(_OF_PROCESSES):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish(session: pytest.Session) -> None:
    """The first start brings jars, which may take longer than one test is given."""
    if not session.config.option.collectonly and any(item.get_closest_marker("real") for item in session.items):
        _missing()


@pytest.fixture(scope="session")
def engine_run() -> Path:
    """The start script of the test engine, ready to run; a skip with the reason where it cannot, a failure with CI=true."""
    missing = _missing()
    if missing is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"the test engine cannot run: {missing}", pytrace=False)
        pytest.skip(f"the test engine cannot run: {missing}")
    return ENGINE_RUN


@pytest.fixture(scope="session")
def test_engine(engine_run: Path) -> Iterator[EngineProcess]:
    """A Zeebe-compatible engine that all tests of a session share: use process ids of your own."""
    with running_engine() as engine:
        yield engine
