"""Searches: rows as the REST API v2 names their fields, filtered, sorted and paged. They are up to date at once.

Filters take a value or the operators `$eq $neq $in $notIn $like $exists $gt $gte $lt $lte`; keys are text, as in the API.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from gateway import engine as port
from gateway import jsontext
from gateway.engine.embedded.entities import ElementInstance, Incident, Job, JobState, ProcessInstance, State, Wait
from gateway.engine.embedded.store import Store

Row = dict[str, Any]

_LATEST_SORTED_BY = frozenset({"processDefinitionId", "tenantId"})


def run(
    store: Store,
    resource: str,
    filter_: Mapping[str, Any],
    sort: Sequence[tuple[str, str]],
    limit: int,
    after: str | None,
) -> port.SearchPage:
    """One page. Raises NotFound for an unknown resource, InvalidArgument for what a filter or sort cannot be."""
    if resource not in _RESOURCES:
        raise port.NotFound(f"There is no search for '{resource}'; there is one for {', '.join(sorted(_RESOURCES))}")
    if filter_.get("isLatestVersion") is True and (bad := [n for n, _ in sort if n not in _LATEST_SORTED_BY]):
        raise port.InvalidArgument(
            f"Latest versions are sorted by {' and '.join(sorted(_LATEST_SORTED_BY))}, but not by '{bad[0]}'"
        )
    rows = _matching(store, resource, filter_, [name for name, _ in sort])
    for name, order in reversed(sort):
        if order.lower() not in {"asc", "desc"}:
            raise port.InvalidArgument(f"Expected the order of '{name}' to be asc or desc, but it was '{order}'")
        rows.sort(key=lambda row: _sort_key(row.get(name)), reverse=order.lower() == "desc")
    return _page(rows, limit, after)


def subscription_statistics(store: Store, filter_: Mapping[str, Any], limit: int, after: str | None) -> port.SearchPage:
    """Message subscriptions counted by process definition; the filter is one of `message-subscriptions`."""
    counted: dict[str, Row] = {}
    instances: set[str] = set()
    for row in _matching(store, "message-subscriptions", filter_):
        key, instance = row["processDefinitionKey"], row["processInstanceKey"]
        sums = counted.setdefault(
            key,
            {
                "processDefinitionKey": key,
                "processDefinitionId": row["processDefinitionId"],
                "tenantId": row["tenantId"],
                "processInstancesWithActiveSubscriptions": 0,
                "activeSubscriptions": 0,
            },
        )
        sums["activeSubscriptions"] += 1
        sums["processInstancesWithActiveSubscriptions"] += instance not in instances
        instances.add(instance)
    return _page(list(counted.values()), limit, after)


def _matching(store: Store, resource: str, filter_: Mapping[str, Any], also: Sequence[str] = ()) -> list[Row]:
    """The rows that pass the filter; InvalidArgument when they lack a field of it, or one of `also`."""
    tests = [_test(name, wanted) for name, wanted in filter_.items()]
    rows = []
    for row in _RESOURCES[resource](store, filter_):
        for name in (*filter_, *also):
            if name not in row:
                raise port.InvalidArgument(f"The rows of '{resource}' have no field '{name}', only {', '.join(row)}")
        if all(test(row) for test in tests):
            rows.append(row)
    return rows


def _page(rows: list[Row], limit: int, after: str | None) -> port.SearchPage:
    if limit < 1:
        raise port.InvalidArgument(f"Expected the page limit to be at least 1, but it was '{limit}'")
    begin = _offset(after)
    page = rows[begin : begin + limit]
    return port.SearchPage(page, len(rows), str(begin + len(page)) if page else after)


def _offset(after: str | None) -> int:
    if after is None:
        return 0
    if not re.fullmatch(r"\d{1,12}", after):
        raise port.InvalidArgument(f"Expected the cursor of an earlier page, but it was '{after}'")
    return int(after)


def _sort_key(value: Any) -> tuple[int, Any]:
    """Keys by number, the rest by text; what is missing comes last."""
    if value is None:
        return 2, ""
    if isinstance(value, bool | int) or (isinstance(value, str) and value.isdecimal()):
        return 0, int(value)
    return 1, str(value)


# ---- filters ---------------------------------------------------------------------------------------------------------


def _test(name: str, wanted: Any) -> Callable[[Row], bool]:
    if not isinstance(wanted, Mapping):
        return lambda row: _same(row.get(name), wanted)
    tests = []
    for operator, operand in wanted.items():
        if operator not in _OPERATORS:
            known = " ".join(_OPERATORS)
            raise port.InvalidArgument(f"The filter of '{name}' has the operator '{operator}', expected one of {known}")
        if operator in {"$in", "$notIn"} and not isinstance(operand, list | tuple):
            raise port.InvalidArgument(f"The filter of '{name}' has {operator} with '{operand}', expected a list")
        tests.append((_OPERATORS[operator], operand))
    return lambda row: all(holds(row.get(name), operand) for holds, operand in tests)


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(value, str) and isinstance(wanted, int) and not isinstance(wanted, bool):
        return value == str(wanted)  # a key given as a number
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _like(value: Any, pattern: Any) -> bool:
    parts = ("." if c == "?" else ".*" if c == "*" else re.escape(c) for c in str(pattern))
    return isinstance(value, str) and re.fullmatch("".join(parts), value, re.DOTALL) is not None


def _compare(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def test(value: Any, operand: Any) -> bool:
        return value is not None and holds(_sort_key(value), _sort_key(operand))

    return test


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _same,
    "$neq": lambda value, operand: not _same(value, operand),
    "$in": lambda value, operand: any(_same(value, one) for one in operand),
    "$notIn": lambda value, operand: not any(_same(value, one) for one in operand),
    "$like": _like,
    "$exists": lambda value, operand: (value is not None) == bool(operand),
    "$gt": _compare(lambda a, b: a > b),
    "$gte": _compare(lambda a, b: a >= b),
    "$lt": _compare(lambda a, b: a < b),
    "$lte": _compare(lambda a, b: a <= b),
}


# ---- rows ------------------------------------------------------------------------------------------------------------


def _time(epoch_ms: int | None) -> str | None:
    if epoch_ms is None:
        return None
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _instances(store: Store, filter_: Mapping[str, Any]) -> Iterable[ProcessInstance]:
    """Only the one that is asked for, where it is."""
    key = filter_.get("processInstanceKey")
    if isinstance(key, int | str) and str(key).isdecimal():
        found = store.instance(int(key))
        return [found] if found is not None else []
    return store.instances()


def _definitions(store: Store, filter_: Mapping[str, Any]) -> Iterator[Row]:
    latest = {definition.key for definition in store.latest_definitions()}
    for definition in store.definitions.values():
        if filter_.get("isLatestVersion") is True and definition.key not in latest:
            continue
        row: Row = {
            "processDefinitionKey": str(definition.key),
            "processDefinitionId": definition.process_id,
            "name": definition.name,
            "version": definition.version,
            "versionTag": definition.version_tag,
            "resourceName": definition.resource_name,
            "tenantId": definition.tenant_id,
            "hasStartForm": False,
            "isLatestVersion": definition.key in latest,
        }
        if store.version >= (8, 10):
            row["state"] = "ACTIVE"
        yield row


def _tenants(store: Store, filter_: Mapping[str, Any]) -> Iterator[Row]:
    for tenant_id in sorted(store.tenants):
        name = "Default" if tenant_id == port.DEFAULT_TENANT else tenant_id
        yield {"tenantId": tenant_id, "name": name, "description": ""}


def _of_process(process: ProcessInstance) -> Row:
    return {
        "processInstanceKey": str(process.key),
        "processDefinitionKey": str(process.definition.key),
        "processDefinitionId": process.definition.process_id,
        "tenantId": process.tenant_id,
    }


def _state(element: ElementInstance) -> str:
    return State.ACTIVE.value if element.state.is_open else element.state.value


def _process_instances(store: Store, filter_: Mapping[str, Any]) -> Iterator[Row]:
    for process in _instances(store, filter_):
        yield {
            **_of_process(process),
            "processDefinitionName": process.definition.name,
            "processDefinitionVersion": process.definition.version,
            "processDefinitionVersionTag": process.definition.version_tag,
            "state": _state(process),
            "hasIncident": process.has_incident,
            "parentProcessInstanceKey": None,
            "parentElementInstanceKey": None,
            "startDate": _time(process.started_ms),
            "endDate": _time(process.ended_ms),
        }


def _elements(store: Store, filter_: Mapping[str, Any]) -> Iterator[Row]:
    for process in _instances(store, filter_):
        for element in process.elements:
            if element is process:
                continue
            yield {
                **_of_process(process),
                "elementInstanceKey": str(element.key),
                "elementId": element.node.id,
                "elementName": element.node.name,
                "type": element.node.type,
                "state": _state(element),
                "hasIncident": _has_incident(element),
                "incidentKey": str(element.incident.key) if element.incident else None,
                "startDate": _time(element.started_ms),
                "endDate": _time(element.ended_ms),
            }


def _has_incident(element: ElementInstance) -> bool:
    return element.incident is not None or any(_has_incident(child) for child in element.children.values())


def _variables(store: Store, filter_: Mapping[str, Any]) -> Iterator[Row]:
    for process in _instances(store, filter_):
        for element in process.elements:
            for name, value in element.variables.items():
                yield {
                    **_of_process(process),
                    "variableKey": f"{element.key}-{name}",
                    "name": name,
                    "value": jsontext.dumps(value),
                    "scopeKey": str(element.key),
                    "isTruncated": False,
                }


def _incident_row(incident: Incident) -> Row:
    return {
        **_of_process(incident.element.process),
        "incidentKey": str(incident.key),
        "errorType": incident.error_type,
        "errorMessage": incident.error_message,
        "elementId": incident.element.node.id,
        "elementInstanceKey": str(incident.element.key),
        "jobKey": str(incident.job.key) if incident.job else None,
        "state": "ACTIVE" if incident.is_open else "RESOLVED",
        "creationTime": _time(incident.created_ms),
    }


def _incidents(store: Store, filter_: Mapping[str, Any]) -> Iterator[Row]:
    for process in _instances(store, filter_):
        for incident in process.incidents:
            yield _incident_row(incident)


_JOB_STATES = {JobState.ACTIVATABLE: "CREATED", JobState.ACTIVATED: "CREATED", JobState.BACKING_OFF: "FAILED"}


def _job_row(job: Job) -> Row:
    return {
        **_of_process(job.element.process),
        "jobKey": str(job.key),
        "type": job.type,
        "worker": job.worker,
        "state": _JOB_STATES.get(job.state, job.state.value),
        "kind": "BPMN_ELEMENT",
        "retries": job.retries,
        "elementId": job.element.node.id,
        "elementInstanceKey": str(job.element.key),
        "deadline": _time(job.deadline_ms) if job.state is JobState.ACTIVATED else None,
        "errorMessage": job.error_message,
        "errorCode": job.error_code,
        "hasFailedWithRetriesLeft": job.state is JobState.BACKING_OFF,
        "customHeaders": jsontext.loads(job.headers),
        "creationTime": _time(job.created_ms),
        "endTime": _time(job.ended_ms),
    }


def _jobs(store: Store, filter_: Mapping[str, Any]) -> Iterator[Row]:
    for process in _instances(store, filter_):
        for job in process.jobs:
            yield _job_row(job)


def _subscription_row(wait: Wait) -> Row:
    return {
        **_of_process(wait.element.process),
        "messageSubscriptionKey": str(wait.key),
        "messageName": wait.message_name,
        "correlationKey": wait.correlation_key,
        "messageSubscriptionState": wait.state,
        "elementId": wait.target.id,
        "elementInstanceKey": str(wait.element.key),
        "lastUpdatedDate": _time(wait.updated_ms),
    }


def _subscriptions(store: Store, filter_: Mapping[str, Any]) -> Iterator[Row]:
    for process in _instances(store, filter_):
        for wait in process.subscriptions:
            yield _subscription_row(wait)


_RESOURCES: dict[str, Callable[[Store, Mapping[str, Any]], Iterator[Row]]] = {
    "process-definitions": _definitions,
    "process-instances": _process_instances,
    "element-instances": _elements,
    "variables": _variables,
    "incidents": _incidents,
    "jobs": _jobs,
    "message-subscriptions": _subscriptions,
    "tenants": _tenants,
}
