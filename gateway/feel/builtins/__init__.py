"""The built-in functions, by kind. Importing this package registers all of them."""

from gateway.feel.builtins import contexts, conversion, lists, logic, numeric, ranges, strings, temporal

__all__ = ["contexts", "conversion", "lists", "logic", "numeric", "ranges", "strings", "temporal"]
