"""The pytest plug-in that comes with the distribution."""

from typing import Any

from gateway.testing import engine


def test_the_fixture_is_there_wherever_the_distribution_is_installed(connector_engine: Any) -> None:
    assert connector_engine is engine
