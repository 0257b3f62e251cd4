import json
import stat
from pathlib import Path

import pytest

from gateway.engine.settings import AuthSettings
from gateway.engine.token_file import TokenFile

AUTH = AuthSettings(client_id="me", token_url="http://t", audience="a")


def test_what_was_written_is_read_with_the_time_that_is_left(tmp_path: Path) -> None:
    TokenFile(tmp_path / "f", AUTH).write("abc", 100)
    stored = TokenFile(tmp_path / "f", AUTH).read()
    assert stored is not None
    assert stored[0] == "abc"
    assert 95 < stored[1] <= 100


def test_only_its_owner_can_read_the_file_also_when_it_was_open_before(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("{}")
    path.chmod(0o644)
    TokenFile(path, AUTH).write("abc", 100)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["f"]


def test_clients_share_a_file_without_seeing_each_other(tmp_path: Path) -> None:
    other = AuthSettings(client_id="you", token_url="http://t", audience="a")
    TokenFile(tmp_path / "f", AUTH).write("mine", 100)
    TokenFile(tmp_path / "f", other).write("yours", 100)
    mine, yours = TokenFile(tmp_path / "f", AUTH).read(), TokenFile(tmp_path / "f", other).read()
    assert mine is not None
    assert yours is not None
    assert (mine[0], yours[0]) == ("mine", "yours")


def test_ended_tokens_do_not_stay_in_the_file(tmp_path: Path) -> None:
    other = AuthSettings(client_id="you")
    TokenFile(tmp_path / "f", other).write("old", -1)
    TokenFile(tmp_path / "f", AUTH).write("new", 100)
    assert "old" not in (tmp_path / "f").read_text()


def test_a_folder_gets_a_file_of_its_own(tmp_path: Path) -> None:
    TokenFile(tmp_path, AUTH).write("abc", 100)
    assert (tmp_path / "credentials").exists()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}', "\x00"])
def test_a_broken_file_is_as_good_as_none_and_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / "f").write_text(content)
    file = TokenFile(tmp_path / "f", AUTH)
    assert file.read() is None
    file.write("abc", 100)
    assert file.read() is not None


def test_a_token_that_would_break_a_header_is_not_taken(tmp_path: Path) -> None:
    file = TokenFile(tmp_path / "f", AUTH)
    file.write("abc", 100)
    text = (tmp_path / "f").read_text()
    (tmp_path / "f").write_text(text.replace('"abc"', json.dumps("a\r\nb")))
    assert file.read() is None


def test_a_file_that_cannot_be_written_is_left(tmp_path: Path) -> None:
    (tmp_path / "blocked").write_text("a file where a folder is needed")
    TokenFile(tmp_path / "blocked" / "f", AUTH).write("abc", 100)
    assert TokenFile(tmp_path / "blocked" / "f", AUTH).read() is None
