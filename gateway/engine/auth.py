"""Who we are to the engine: nobody, a user with a password, or an OAuth client with a token."""

from base64 import b64encode
from typing import Protocol


class Credentials(Protocol):
    """Gives the Authorization value of each attempt."""

    async def authorization(self) -> str | None:
        """The value to send now; None for none. Raises Unauthenticated or Unavailable when there is none to be had."""

    def refused(self, authorization: str | None) -> None:
        """The engine did not accept this value: it is not given out again."""

    async def close(self) -> None: ...


class NoCredentials:
    async def authorization(self) -> str | None:
        return None

    def refused(self, authorization: str | None) -> None:
        return

    async def close(self) -> None:
        return


class BasicCredentials:
    """A user's name and password, as in RFC 7617."""

    def __init__(self, username: str, password: str) -> None:
        self._value = "Basic " + b64encode(f"{username}:{password}".encode()).decode()

    async def authorization(self) -> str | None:
        return self._value

    def refused(self, authorization: str | None) -> None:
        return

    async def close(self) -> None:
        return
