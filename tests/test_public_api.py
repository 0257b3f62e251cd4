"""The public API: what is promised can be imported, says what it is, and costs nothing until it is used."""

import subprocess
import sys

import pytest

import gateway
from gateway import sdk


def test_what_is_exported_is_what_the_sdk_offers() -> None:
    assert gateway.__all__ == sdk.__all__ == sorted(gateway.__all__, key=lambda n: (n[0].islower(), n))


@pytest.mark.parametrize("name", gateway.__all__)
def test_each_public_name_can_be_imported_and_has_a_docstring(name: str) -> None:
    found = getattr(gateway, name)
    assert found is getattr(sdk, name)
    assert (found.__doc__ or "").strip()


def test_public_names_are_shown_by_dir() -> None:
    assert set(gateway.__all__) <= set(dir(gateway))


def test_what_is_not_public_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        gateway.Nothing  # noqa: B018


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = "{'aiohttp', 'grpc', 'pydantic', 'lxml', 'gateway.sdk'}"
    code = f"import gateway, sys; print(sorted(m for m in sys.modules if m in {heavy}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert run.stdout.strip() == "[]"


def test_a_star_import_gives_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from gateway import *", names)
    assert set(gateway.__all__) <= names.keys()
