"""The types of a connector's parameters and fields that pydantic does not have."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, AliasChoices, AliasPath
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError


def _not_blank(value: str) -> str:
    if not value.strip():
        raise PydanticCustomError("not_blank", "must not be blank")
    return value


class NotBlankMark:
    """Marks a field that must not be blank, so that a missing one is reported in the same words."""


NotBlank = Annotated[str, AfterValidator(_not_blank), NotBlankMark()]
"""Text with at least one character that is no white space. A missing or null one is refused in the same words."""


@dataclass(frozen=True, slots=True)
class Variable:
    """Binds a parameter to one job variable: `Annotated[int, Variable("limit")]`. An empty name: all variables as one object.

    The name is the rest of a JSON pointer: dots are part of it, `order/id` is a member of a member. A parameter with a default is
    not required.
    """

    name: str = ""
    required: bool = True


@dataclass(frozen=True, slots=True)
class Header:
    """Binds a parameter to one task header: `Annotated[str, Header("mode")]`. Headers are plain text, never secrets."""

    name: str
    required: bool = True


def field_keys(name: str, field: FieldInfo) -> tuple[str, ...]:
    """The JSON keys under which a model's field is looked for, the first one found counts."""
    alias = field.validation_alias if field.validation_alias is not None else field.alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [alias or name]
    return tuple(str(c.path[0]) if isinstance(c, AliasPath) else c for c in choices)
