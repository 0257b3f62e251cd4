"""The parser's place in the text: the current token, how deep it stands, and the names with spaces that it has met."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NoReturn

from gateway.feel import lexer
from gateway.feel.errors import FeelParseError
from gateway.feel.lexer import END, NAME, OTHER, SIGN

_WORDS_AND_SIGNS = (NAME, SIGN)


class Cursor:
    """Moves over the tokens of one text. `kind` and `text` are those of the current token, `end` is where it ends."""

    __slots__ = ("depth", "end", "kind", "known", "match", "source", "text")

    def __init__(self, source: str, names: Iterable[str]) -> None:
        self.source = source
        self.depth = 0
        self.end: int
        self.kind: int
        self.text: str
        self.match: re.Match[str]
        self.known: dict[str, list[tuple[re.Pattern[str], str]]] | None = None
        for name in names:
            self.learn(name)
        self.move(0)

    # The current token

    def move(self, position: int) -> None:
        """Make the token at a position the current one."""
        self.end = position
        self.advance()

    def advance(self) -> None:
        """Go to the next token."""
        self.match = match = lexer.token(self.source, self.end)
        self.kind = kind = match.lastindex
        self.text = match[kind]
        self.end = match.end()

    def start(self) -> int:
        return self.match.start(self.kind)

    def is_sign(self, text: str) -> bool:
        return self.text == text and self.kind == SIGN

    def is_word(self, text: str) -> bool:
        return self.text == text and self.kind == NAME

    def expect(self, text: str) -> None:
        if self.text != text or self.kind not in _WORDS_AND_SIGNS:
            self.fail(f"expected '{text}' but found {self.found()}")
        self.advance()

    def found(self) -> str:
        if self.kind == END:
            return "the end of the text"
        if self.kind == OTHER and self.text == '"':
            return "a string that is not closed"
        return f"'{self.text if len(self.text) <= 40 else self.text[:40] + '..'}'"

    def fail(self, reason: str, position: int | None = None) -> NoReturn:
        raise FeelParseError(reason, self.source, self.start() if position is None else position)

    # Names with spaces

    def learn(self, name: str) -> None:
        """From here on this name is known where it stands in the text."""
        if lexer.is_plain_name(name) or not name.strip() or "`" in name:
            return
        known = self.known = self.known or {}
        first = re.match(r"\w+|.", name.strip(), re.DOTALL)
        candidates = known.setdefault(first[0] if first else name, [])
        if all(other != name for _, other in candidates):
            candidates.append((lexer.known_name(name), name))
            candidates.sort(key=lambda candidate: -len(candidate[1]))

    def known_name(self) -> str | None:
        """The longest known name at the current token, which is then passed."""
        position = self.start()
        for pattern, name in (self.known or {}).get(self.text, ()):
            match = pattern.match(self.source, position)
            if match is not None:
                self.move(match.end())
                return name
        return None
