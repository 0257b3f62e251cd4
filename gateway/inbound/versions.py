"""Which versions of each process are served, and what of them. Pure.

A version is served as the latest of its process, or because instances of it wait for messages. Source: the original's import
of versions ("Inbound connectors" in Camunda's docs). Other than there, event sub-processes of older versions keep their
message start events, and a deleted version gives its place back to the one before.
"""

from collections.abc import Iterable, Mapping

from gateway.sdk import InboundElement, Point

Process = tuple[str, str]
"""Tenant id, BPMN process id."""


class Versions:
    """The versions by process. Each change answers the processes for which another set is served now."""

    def __init__(self) -> None:
        self._latest: dict[Process, int] = {}
        self._subscribed: dict[Process, frozenset[int]] = {}

    @property
    def latest_keys(self) -> frozenset[int]:
        return frozenset(self._latest.values())

    def latest(self, process: Process) -> int | None:
        """The key of the latest version; None when the process is not deployed any more, but has instances."""
        return self._latest.get(process)

    def served(self, process: Process) -> list[int]:
        """The keys of the versions that are served, the newest first; empty when the process is gone."""
        keys = set(self._subscribed.get(process, ()))
        latest = self._latest.get(process)
        return sorted(keys if latest is None else keys | {latest}, reverse=True)

    def import_latest(self, found: Mapping[Process, int]) -> set[Process]:
        """Takes the latest versions of all processes; one that is not among them is not deployed any more."""
        before, self._latest = self._latest, dict(found)
        return self._changed(before.keys() | found.keys(), before, self._subscribed)

    def deployed(self, process: Process, key: int) -> set[Process]:
        """Takes one version; it is the latest if none is newer."""
        if key <= self._latest.get(process, -1):
            return set()
        before = {process: self._latest[process]} if process in self._latest else {}
        self._latest[process] = key
        return self._changed({process}, before, self._subscribed)

    def import_subscribed(self, found: Mapping[Process, Iterable[int]]) -> set[Process]:
        """Takes the versions with open message subscriptions, of all processes."""
        before = self._subscribed
        self._subscribed = {process: frozenset(keys) for process, keys in found.items() if keys}
        return self._changed(before.keys() | self._subscribed.keys(), self._latest, before)

    def _changed(
        self, processes: Iterable[Process], latest: Mapping[Process, int], subscribed: Mapping[Process, frozenset[int]]
    ) -> set[Process]:
        return {
            process
            for process in processes
            if self._latest.get(process) != latest.get(process)
            or set(self.served(process)) != _served(latest.get(process), subscribed.get(process, frozenset()))
        }


def _served(latest: int | None, subscribed: frozenset[int]) -> set[int]:
    return set(subscribed) if latest is None else {latest, *subscribed}


def of_older_version(elements: Iterable[InboundElement]) -> tuple[InboundElement, ...]:
    """The elements at which running instances may wait: those that start instances belong to the latest version."""
    return tuple(
        element
        for element in elements
        if element.point is Point.MESSAGE or (element.point is Point.MESSAGE_START and element.in_event_sub_process)
    )
