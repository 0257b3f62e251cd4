"""Binding of properties: from an element's flat texts to the model that its connector works with.

dotted names -> nested objects -> secrets -> FEEL -> model (Camunda docs, "Inbound connectors"; "Manage secrets"). FEEL is evaluated
wherever a value begins with `=`, whatever the field; fields that take a function keep the expression for later. Errors name the
property as it is written in the process; they never hold the value of a secret.
"""

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, SecretStr

from gateway import binding, feel, jsontext, sdk
from gateway.documents import DOCUMENT_TYPE, InvalidReference
from gateway.engine import InvalidArgument, Queries, Unimplemented
from gateway.intrinsic import FUNCTION_TYPE, IntrinsicError, Intrinsics
from gateway.secrets import SecretContext, Secrets, SecretUnavailable, mask_with, mentions, references

_M = TypeVar("_M", bound=BaseModel)

_CLUSTER_VARIABLES = "camunda"  # the root of `camunda.vars`, which only a cluster knows
_PAGE = 200
_SHOWN = 100  # characters of a property that an error shows


class _Form(enum.Enum):
    """How the text of a property becomes the value of its field."""

    TEXT = enum.auto()  # as it is
    VALUE = enum.auto()  # as it is: what the field makes of it (a number, a flag, a choice) is the binder's business
    LIST = enum.auto()  # separated by commas, or a JSON list
    JSON = enum.auto()  # an object, or a list of objects
    ANY = enum.auto()  # JSON where it is JSON, else text
    FUNCTION = enum.auto()  # an expression that is evaluated by the connector


@dataclass(frozen=True, slots=True)
class _Property:
    """A property that the model knows. is_json: its text is JSON as it stands, so that secrets go into it escaped."""

    name: str
    text: str
    form: _Form
    is_json: bool

    @property
    def is_expression(self) -> bool:
        return self.form is not _Form.FUNCTION and self.text.startswith("=")


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is known of an element's properties before they are bound. text: their values as one JSON list."""

    properties: tuple[_Property, ...]
    text: str


@dataclass(frozen=True, slots=True)
class _Formula:
    """An expression whose secrets are in place. index: of its property. compiled: None where only a cluster may know it."""

    index: int
    name: str
    text: str
    holds_secret: bool
    compiled: feel.Expression | None
    invalid: str = ""

    @property
    def variables(self) -> frozenset[str]:
        return self.compiled.names if self.compiled is not None else frozenset()

    def failed(self, reason: str) -> sdk.ConnectorInputException:
        return _refused(
            self.name, f"the expression cannot be evaluated: {_WITHHELD if self.holds_secret else _short(reason)}"
        )


_NO_VARIABLES = "camunda.vars needs a cluster of version 8.9 or later"
_WITHHELD = "the reason is withheld, because a secret is part of the expression"


class Properties:
    """Binds and evaluates the properties of inbound elements. One for a process.

    engine: evaluates what mentions `camunda.vars` and, for an element instance, all that reads variables (clusters 8.9 and later;
    before, the variables of the instance and of its process instance are read instead, not those of sub-processes between
    them). intrinsics: turns document references and calls of functions in bound values into what they stand for.
    """

    def __init__(
        self,
        secrets: Secrets,
        engine: Queries,
        *,
        intrinsics: Intrinsics | None = None,
        physical_tenant_id: str | None = None,
    ) -> None:
        self._secrets = secrets
        self._engine = engine
        self._intrinsics = intrinsics
        self._physical_tenant_id = physical_tenant_id
        self._cluster_evaluates = True  # until it says that it does not

    async def bind(
        self, model: type[_M], element: sdk.InboundElement, instance: sdk.ElementInstance | None = None
    ) -> _M:
        """The element's properties as a model; with an instance, expressions see its variables.

        Raises ConnectorInputException, which names property, what was expected and what came; EngineError.
        """
        plan = _plan(model, element)
        used: dict[str, str] = {}
        values = await self._texts(plan, element, used)
        formulas = [
            _formula(n, p, values[n], holds_secret=values[n] != p.text)
            for n, p in enumerate(plan.properties)
            if p.is_expression
        ]
        results = await self._evaluated(formulas, element, instance) if formulas else {}
        tree: dict[str, Any] = {}
        for n, given in enumerate(plan.properties):
            value = _from_feel(given.form, results[n]) if n in results else _from_text(given, values[n])
            _put(tree, given.name, value)
        try:
            bound: _M = await _bound(model, await self._resolved(tree), plan)
        except sdk.ConnectorInputException as e:  # a validator of the model's may have quoted what it saw
            raise sdk.ConnectorInputException(mask_with(used.values())(str(e))) from None
        return bound

    async def evaluate(self, element: sdk.InboundElement, name: str, context: Mapping[str, Any]) -> Any:
        """The value of a FEEL property for a context, with secrets in its text; None without the property.

        A leading `=` may be missing. Raises ConnectorInputException, which names property and reason.
        """
        written = element.properties.get(name)
        if written is None or not written.strip():
            return None
        text = written
        if mentions(written):
            replaced = await self._replaced(jsontext.dumps([written]), element, {name: written}, {})
            (text,) = jsontext.loads(replaced)
        try:
            return feel.to_json(_compiled(text).evaluate(context))
        except (feel.FeelError, RecursionError) as e:
            formula = _Formula(0, name, text, holds_secret=text != written, compiled=None)
            raise formula.failed(_reason(e)) from None

    # ---- secrets ----

    async def _texts(self, plan: _Plan, element: sdk.InboundElement, used: dict[str, str]) -> list[Any]:
        """The values of the properties with their secrets in place: texts, or what stood there as JSON."""
        text = plan.text
        if mentions(text):
            text = await self._replaced(text, element, {p.name: p.text for p in plan.properties}, used)
        values: list[Any] = jsontext.loads(text)
        return values

    async def _replaced(
        self, text: str, element: sdk.InboundElement, named: Mapping[str, str], used: dict[str, str]
    ) -> str:
        context = SecretContext(element.tenant_id, element.bpmn_process_id, self._physical_tenant_id)
        try:
            return await self._secrets.replace(text, context, _secret_names(element).__contains__, used)
        except SecretUnavailable as e:
            name = next((name for name, written in named.items() if e.name in references(written)), "?")
            raise _refused(name, str(e)) from None

    # ---- expressions ----

    async def _evaluated(
        self, formulas: Sequence[_Formula], element: sdk.InboundElement, instance: sdk.ElementInstance | None
    ) -> dict[int, Any]:
        """The results by the index of the property; here where nothing but the text counts, else on the cluster."""
        results = {f.index: _local(f, {}) for f in formulas if not _needs_cluster(f, instance)}
        needy = [f for f in formulas if f.index not in results]
        if needy and (instance is None or self._cluster_evaluates):
            try:
                return results | await self._on_cluster(needy, element, instance)
            except Unimplemented:
                if instance is None:
                    raise needy[0].failed(_NO_VARIABLES) from None
                self._cluster_evaluates = False
        variables = await self._variables(instance, needy) if instance is not None else {}
        return results | {f.index: _local(f, variables) for f in needy}

    async def _on_cluster(
        self, formulas: Sequence[_Formula], element: sdk.InboundElement, instance: sdk.ElementInstance | None
    ) -> dict[int, Any]:
        """All in one call, as a list: as members of one context they would see each other."""
        scope = None if instance is None else instance.key
        together = [f for f in formulas if f.compiled is not None]
        found: dict[int, Any] = {}
        if len(together) > 1:
            listed = ",".join(f"(\n{f.text}\n)" for f in together)
            try:
                values = await self._engine.evaluate_expression(
                    f"=[{listed}]", tenant_id=element.tenant_id, scope_key=scope
                )
            except InvalidArgument:
                values = None  # one of them: alone it will say so
            if isinstance(values, list) and len(values) == len(together):
                found = {f.index: value for f, value in zip(together, values, strict=True)}
        for formula in formulas:
            if formula.index in found:
                continue
            try:
                found[formula.index] = await self._engine.evaluate_expression(
                    f"={formula.text}", tenant_id=element.tenant_id, scope_key=scope
                )
            except InvalidArgument as e:
                raise formula.failed(str(e)) from None
        return found

    async def _variables(self, instance: sdk.ElementInstance, formulas: Sequence[_Formula]) -> dict[str, Any]:
        """The variables that the expressions read: the instance's own before those of its process instance."""
        names = sorted({name for f in formulas for name in f.variables})
        wanted = {"processInstanceKey": str(instance.process_instance_key), "name": {"$in": names}}
        scopes: dict[int, dict[str, Any]] = {instance.process_instance_key: {}, instance.key: {}}
        after: str | None = None
        while names:
            page = await self._engine.search("variables", filter=wanted, limit=_PAGE, after=after)
            for row in page.items:
                if (scope := scopes.get(int(row["scopeKey"]))) is not None:
                    scope[row["name"]] = row
            after = page.end_cursor
            if len(page.items) < _PAGE or not after:
                break
        rows = scopes[instance.process_instance_key] | scopes[instance.key]
        for name, row in rows.items():
            if row.get("isTruncated"):
                user = next(f for f in formulas if name in f.variables)
                raise user.failed(f"this cluster does not give variable '{name}' in full: it is too large")
        unknown = next((f for f in formulas if _CLUSTER_VARIABLES in f.variables), None)
        if unknown is not None and _CLUSTER_VARIABLES not in rows:
            raise unknown.failed(_NO_VARIABLES)
        return {name: jsontext.loads(row["value"]) for name, row in rows.items()}

    # ---- the model ----

    async def _resolved(self, tree: dict[str, Any]) -> dict[str, Any]:
        if self._intrinsics is None:
            return tree
        try:
            resolved: dict[str, Any] = await self._intrinsics.resolve(tree)
        except (InvalidReference, IntrinsicError) as e:
            raise sdk.ConnectorInputException(f"Properties: {e}") from None
        return resolved


async def _bound(model: type[_M], tree: dict[str, Any], plan: _Plan) -> Any:
    while True:
        try:
            return _binder(model)(tree)
        except binding.ContentNeeded as needed:
            await needed.document.read()
        except binding.BindingError as e:
            raise _explained(e, model, plan) from None


# ---- from names to a plan --------------------------------------------------------------------------------------------


@lru_cache(maxsize=2048)
def _plan(model: type[BaseModel], element: sdk.InboundElement) -> _Plan:
    """The properties that the model knows. Raises ConnectorInputException for names that contradict each other."""
    tree: dict[str, Any] = {}
    for name, text in element.properties.items():
        _put(tree, name, text)
    known: list[_Property] = []
    _collect(model, tree, (), known)
    texts = [p.text if p.is_json else jsontext.dumps(p.text) for p in known]
    return _Plan(tuple(known), f"[{','.join(texts)}]")


def _put(tree: dict[str, Any], name: str, value: Any) -> None:
    """Puts a value where its dotted name leads."""
    *above, last = name.split(".")
    if not all((*above, last)):
        raise _refused(name, "expected names joined by single dots")
    for step in above:
        below = tree.setdefault(step, {})
        if not isinstance(below, dict):
            raise _refused(name, f"'{step}' has both a value and members")
        tree = below
    if isinstance(tree.get(last), dict):
        raise _refused(name, "it has both a value and members")
    tree[last] = value


def _collect(annotation: Any, tree: Mapping[str, Any], path: tuple[str, ...], known: list[_Property]) -> None:
    for key, value in tree.items():
        found = _member(annotation, key, tree)
        if found is _ABSENT:
            continue
        if isinstance(value, dict):
            _collect(found, value, (*path, key), known)
            continue
        form = _form(found)
        is_json = form in {_Form.JSON, _Form.ANY, _Form.LIST} and _is_json(value)
        known.append(_Property(".".join((*path, key)), value, form, is_json))


_ABSENT: Any = object()


def _member(annotation: Any, key: str, tree: Mapping[str, Any]) -> Any:
    """The annotation of a member of an object; _ABSENT where it has none. Literals in the object choose from a union."""
    annotation = binding._inner(annotation)
    models = [annotation] if binding._is_model(annotation) else binding._members(annotation)
    if not models:
        arguments = get_args(annotation)
        is_mapping = get_origin(annotation) in {dict, Mapping} and len(arguments) == 2
        return arguments[1] if is_mapping else Any
    fitting = [model for model in models if _may_be(model, tree)] or models
    for model in fitting:
        for name, field in model.model_fields.items():
            if key in sdk.field_keys(name, field) or (key == name and _by_name(model)):
                return field.annotation
    return Any if any(model.model_config.get("extra") == "allow" for model in fitting) else _ABSENT


def _by_name(model: Any) -> bool:
    return bool(model.model_config.get("populate_by_name") or model.model_config.get("validate_by_name"))


def _may_be(model: Any, tree: Mapping[str, Any]) -> bool:
    """Whether the literals of a model fit what stands in the object."""
    for name, field in model.model_fields.items():
        tags = _choices(field.annotation)
        given = [tree[key] for key in sdk.field_keys(name, field) if key in tree]
        if tags and given and str(given[0]).casefold() not in {str(tag).casefold() for tag in tags}:
            return False
    return True


def _choices(annotation: Any) -> tuple[Any, ...]:
    inner = binding._inner(annotation)
    if get_origin(inner) is Literal:
        return get_args(inner)
    return tuple(m.value for m in inner) if isinstance(inner, type) and issubclass(inner, enum.Enum) else ()


def _form(annotation: Any) -> _Form:
    inner = binding._inner(annotation)
    origin = get_origin(inner) or inner
    if origin is Callable:
        return _Form.FUNCTION
    if binding._is_union(inner):
        forms = {_form(each) for each in get_args(inner) if each is not type(None)}
        return next((form for form in (_Form.TEXT, _Form.VALUE, _Form.JSON) if form in forms), _Form.ANY)
    if inner is Any or inner is object:
        return _Form.ANY
    if not isinstance(origin, type):
        return _Form.VALUE
    if issubclass(origin, (str, SecretStr)):
        return _Form.VALUE if issubclass(origin, enum.Enum) else _Form.TEXT
    if issubclass(origin, (BaseModel, dict, Mapping)):
        return _Form.JSON
    if issubclass(origin, (list, tuple, set, frozenset)) or origin is Sequence:
        arguments = get_args(inner)
        return _Form.LIST if not arguments or _form(arguments[0]) in _SINGLE else _Form.JSON
    return _Form.VALUE


_SINGLE = frozenset({_Form.TEXT, _Form.VALUE, _Form.ANY})


# ---- from texts to values --------------------------------------------------------------------------------------------

_QUOTES = ('"', "'")


def _is_json(text: str) -> bool:
    """Whether a property is JSON that may stand in a list of values as it is."""
    return text.lstrip()[:1] in {"[", "{"} and _parsed(text) is not None


def _parsed(text: str) -> Any:
    try:
        return jsontext.loads(text)
    except jsontext.InvalidJson:
        return None


def _from_text(given: _Property, value: Any) -> Any:
    """The value for a field, of a property that is no expression."""
    if not isinstance(value, str) or given.form in {_Form.TEXT, _Form.VALUE, _Form.FUNCTION}:
        return value
    if given.form is _Form.LIST:
        if not value.lstrip().startswith("["):
            return [item.strip() for item in value.split(",")] if value.strip() else []
        found = _parsed(value)
        if found is None:
            raise _refused(given.name, f"expected a JSON list, or texts separated by commas, but got {_shown(given)}")
        return found
    if given.form is _Form.JSON and not value.strip():
        return None
    if given.form is _Form.ANY and value.startswith(_QUOTES):
        return value
    found = _parsed(value)
    return value if found is None and value.strip() != "null" else found


def _from_feel(form: _Form, value: Any) -> Any:
    if form is not _Form.TEXT or not isinstance(value, dict) or DOCUMENT_TYPE in value or FUNCTION_TYPE in value:
        return value
    return jsontext.dumps(value)


# ---- expressions -----------------------------------------------------------------------------------------------------

_binder = lru_cache(maxsize=512)(binding.Binder)


@lru_cache(maxsize=4096)
def _compiled(text: str) -> feel.Expression:
    """The expression of a property, its leading `=` taken away. Raises FeelParseError."""
    expression = feel.parse(text.strip().removeprefix("=").strip())
    feel.names(expression)  # compiles it, so that whatever is wrong with it shows here
    return expression


def _formula(index: int, given: _Property, text: str, *, holds_secret: bool) -> _Formula:
    code = text[1:].strip()
    try:
        return _Formula(index, given.name, code, holds_secret, _compiled(text))
    except feel.FeelError as e:
        return _Formula(index, given.name, code, holds_secret, None, _reason(e))


def _needs_cluster(formula: _Formula, instance: sdk.ElementInstance | None) -> bool:
    if instance is not None:
        return bool(formula.variables) or formula.compiled is None
    if formula.compiled is None:
        return f"{_CLUSTER_VARIABLES}.vars" in formula.text
    return _CLUSTER_VARIABLES in formula.variables


def _local(formula: _Formula, variables: Mapping[str, Any]) -> Any:
    if formula.compiled is None:
        raise formula.failed(formula.invalid)
    try:
        return feel.to_json(formula.compiled.evaluate(variables))
    except (feel.FeelError, RecursionError) as e:
        raise formula.failed(_reason(e)) from None


@lru_cache(maxsize=2048)
def _secret_names(element: sdk.InboundElement) -> frozenset[str]:
    """The secrets an element may use: those that its own properties name."""
    return frozenset(name for text in element.properties.values() for name in _names_in(text))


def _names_in(text: str) -> Iterable[str]:
    return references(jsontext.dumps(text)) if mentions(text) else ()


# ---- errors ----------------------------------------------------------------------------------------------------------

_WORDS = {
    "Integer": "a whole number",
    "Double": "a number",
    "String": "text",
    "Boolean": "true or false",
    "boolean": "true or false",
    "byte[]": "base64 text",
    "Document": "a document",
    "LinkedHashMap": "an object",
    "Function": "a valid FEEL expression that begins with '='",
}


def _refused(name: str, reason: str) -> sdk.ConnectorInputException:
    return sdk.ConnectorInputException(f"Property '{name}': {reason}")


def _explained(error: binding.BindingError, model: type[BaseModel], plan: _Plan) -> sdk.ConnectorInputException:
    """The binder's error in words for who wrote the properties."""
    if error.violations:
        return sdk.ConnectorInputException("; ".join(f"Property '{path}': {what}" for path, what in error.violations))
    if not error.path:
        return sdk.ConnectorInputException(f"Properties: {error}")
    names = [step.partition("[")[0] for step in error.path]
    came = next((_shown(p) for p in plan.properties if names[: p.name.count(".") + 1] == p.name.split(".")), "")
    expected = _WORDS.get(error.expected or "") or _expected(_at(model, error.path, plan))
    return _refused(".".join(error.path), f"expected {expected}{f', but got {came}' if came else ''}")


def _at(annotation: Any, path: Sequence[str], plan: _Plan) -> Any:
    """The annotation of the field at a path."""
    tree: dict[str, Any] = {}
    for given in plan.properties:
        _put(tree, given.name, given.text)
    for step in path:
        name, *indexes = step.split("[")
        annotation = _member(annotation, name, tree)
        for _ in indexes:
            annotation = (*get_args(binding._inner(annotation)), Any)[0]
        below = tree.get(name)
        tree = below if isinstance(below, dict) else {}
    return annotation


def _expected(annotation: Any) -> str:
    choices = _choices(annotation)
    if choices:
        return "one of " + ", ".join(f"'{choice}'" for choice in choices)
    return "an object" if binding._is_model(binding._inner(annotation)) else "another kind of value"


def _shown(given: _Property) -> str:
    """A property as it stands in the process: with the names of secrets, not their values."""
    return f"'{given.text}'" if len(given.text) <= _SHOWN else f"'{given.text[:_SHOWN]}...'"


def _short(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]}..."


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error or type(error).__name__)
