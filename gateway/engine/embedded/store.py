"""Where everything is kept, by key. Finished instances stay visible until newer ones push them out."""

import itertools
from collections import OrderedDict
from collections.abc import Iterator

from gateway.engine import DEFAULT_TENANT
from gateway.engine.embedded.definition import Definition
from gateway.engine.embedded.entities import ElementInstance, Incident, Job, ProcessInstance

_FIRST_KEY = (1 << 51) + 1  # keys of partition 1, as Zeebe numbers them


class Store:
    """version: major and minor of the release that the engine claims to be."""

    def __init__(
        self, keep_finished: int, *, version: tuple[int, int], tenants: frozenset[str] = frozenset({DEFAULT_TENANT})
    ) -> None:
        self.version = version
        self.tenants = tenants
        self._keys = itertools.count(_FIRST_KEY)
        self._keep_finished = keep_finished
        self.definitions: dict[int, Definition] = {}
        self._versions: dict[tuple[str, str], list[Definition]] = {}
        self._last_version: dict[tuple[str, str], int] = {}
        self.open_instances: dict[int, ProcessInstance] = {}
        self._finished: OrderedDict[int, ProcessInstance] = OrderedDict()
        self.elements: dict[int, ElementInstance] = {}
        self.jobs: dict[int, Job] = {}
        self.incidents: dict[int, Incident] = {}

    def next_key(self) -> int:
        return next(self._keys)

    # -- definitions

    def add_definition(self, definition: Definition) -> None:
        self.definitions[definition.key] = definition
        self._versions.setdefault((definition.tenant_id, definition.process_id), []).append(definition)
        self._last_version[definition.tenant_id, definition.process_id] = definition.version

    def next_version(self, tenant_id: str, process_id: str) -> int:
        """The number of a deleted version is not given again."""
        return self._last_version.get((tenant_id, process_id), 0) + 1

    def remove_definition(self, definition: Definition) -> None:
        del self.definitions[definition.key]
        versions = self._versions[definition.tenant_id, definition.process_id]
        versions.remove(definition)
        if not versions:
            del self._versions[definition.tenant_id, definition.process_id]

    def versions(self, tenant_id: str, process_id: str) -> list[Definition]:
        """Oldest first; empty when there is none."""
        return self._versions.get((tenant_id, process_id), [])

    def latest(self, tenant_id: str, process_id: str) -> Definition | None:
        versions = self.versions(tenant_id, process_id)
        return versions[-1] if versions else None

    def latest_definitions(self) -> Iterator[Definition]:
        for versions in self._versions.values():
            yield versions[-1]

    # -- instances

    def open(self, instance: ProcessInstance) -> None:
        self.open_instances[instance.key] = instance
        self.elements[instance.key] = instance

    def close(self, instance: ProcessInstance) -> None:
        del self.open_instances[instance.key]
        del self.elements[instance.key]
        self._finished[instance.key] = instance
        while len(self._finished) > self._keep_finished:
            self._finished.popitem(last=False)

    def instance(self, key: int) -> ProcessInstance | None:
        return self.open_instances.get(key) or self._finished.get(key)

    def instances(self) -> Iterator[ProcessInstance]:
        """Those that are visible, finished ones first."""
        yield from self._finished.values()
        yield from self.open_instances.values()
