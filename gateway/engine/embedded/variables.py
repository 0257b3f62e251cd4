"""Variables as they come in: JSON text of an object, checked and parsed."""

from typing import Any

from gateway import engine as port
from gateway import jsontext
from gateway.engine.embedded.jobs import MAX_PAYLOAD

_TYPES = {list: "ARRAY", str: "STRING", bool: "BOOLEAN", type(None): "NULL"}


def parse_variables(text: str | None) -> dict[str, Any]:
    """The variables by name; none for an empty text. Raises InvalidArgument, or ResourceExhausted above 4 MB."""
    if not text or text == "{}":
        return {}
    if len(text) > MAX_PAYLOAD // 4 and len(text.encode("utf-8", "replace")) > MAX_PAYLOAD:
        raise port.ResourceExhausted(f"The variables are larger than the maximum of {MAX_PAYLOAD} bytes")
    try:
        value = jsontext.loads(text)
    except jsontext.InvalidJson as e:
        raise port.InvalidArgument(f"Expected the variables to be JSON, but they are not: {e}") from None
    if not isinstance(value, dict):
        kind = _TYPES.get(type(value), "NUMBER")
        raise port.InvalidArgument(f"Expected document to be a root level object, but was '{kind}'")
    return value
