"""A process engine in memory, with Zeebe's semantics: for `gateway dev`, demonstrations and tests."""

from gateway.engine.embedded.clock import Clock, SystemClock, VirtualClock
from gateway.engine.embedded.engine import EmbeddedEngine
from gateway.engine.embedded.records import Listener, Record

__all__ = ["Clock", "EmbeddedEngine", "Listener", "Record", "SystemClock", "VirtualClock"]
