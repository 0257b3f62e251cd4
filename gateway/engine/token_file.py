"""The file that keeps tokens over a restart (`auth.credentials-cache-path`)."""

import hashlib
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.engine.settings import AuthSettings

_MAX_SIZE: Final = 1024 * 1024


class TokenFile:
    """One client's token in a file that may hold others' too. Blocks: to be used in a thread.

    It is a convenience: a file that cannot be read is as good as none, one that cannot be written is left.
    """

    def __init__(self, path: Path, auth: AuthSettings) -> None:
        self._path = path / "credentials" if path.is_dir() else path
        source = (auth.token_url or auth.well_known_configuration_url or auth.issuer_url, auth.client_id)
        asked = (auth.audience, auth.scope, auth.resource)
        self._entry = hashlib.sha256(repr((source, asked)).encode()).hexdigest()

    def read(self) -> tuple[str, float] | None:
        """The token and how many seconds it is still good."""
        entry = self._entries().get(self._entry)
        if not isinstance(entry, dict):
            return None
        token, end = entry.get("access_token"), entry.get("expires_at")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            return None
        return (token, end - time.time()) if isinstance(end, (int, float)) else None

    def write(self, access_token: str, lifetime: float) -> None:
        """Replaces the file as a whole; readable by its owner alone."""
        now = time.time()
        entries = {
            name: entry
            for name, entry in self._entries().items()
            if isinstance(entry, dict)
            and isinstance(entry.get("expires_at"), (int, float))
            and entry["expires_at"] > now
        }
        entries[self._entry] = {"access_token": access_token, "expires_at": now + lifetime}
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # mkstemp makes it with mode 0600, in the same folder so that the last step is one rename.
            handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".credentials-")
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(orjson.dumps(entries))
                Path(name).replace(self._path)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise

    def _entries(self) -> dict[str, Any]:
        try:
            with self._path.open("rb") as file:
                entries = orjson.loads(file.read(_MAX_SIZE))
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}
