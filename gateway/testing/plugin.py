"""The pytest plugin that comes with the distribution: the fixture `connector_engine`."""

from typing import Any

import pytest


@pytest.fixture
def connector_engine() -> Any:
    """`gateway.testing.engine`: a process on the embedded engine, worked by given connectors."""
    from gateway.testing.process import engine  # late: pytest loads plug-ins in every project that has us installed

    return engine
