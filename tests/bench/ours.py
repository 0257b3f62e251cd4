"""The gateway as what is measured: `gateway run`, as it comes, but for where the bench is and how many jobs it works at once."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.config import load
from tests.bench.build import BUILD
from tests.bench.processes import Side

TRANSPORTS: Final = ("lean", "grpcio")
IN_FLIGHT: Final = 512
HMAC_SECRET: Final = "bench-7f3c5d1e9a"
COMMAND: Final = (Path(sys.executable).parent / "gateway", "run")

_PLACE: Final = {
    "camunda.client.mode",
    "camunda.client.auth.method",
    "camunda.client.grpc-address",
    "camunda.client.rest-address",
    "server.port",
}
"""What says where the bench is."""
_COMPARED: Final = "gateway.engine.transport"
_TUNED: Final = "camunda.client.worker.defaults.max-jobs-active"
_SECRETS: Final = {
    "SECRET_BENCH_HMAC": HMAC_SECRET,
    "SECRET_BENCH_API_KEY": "bench-b0a47c66d8e2",
    "SECRET_BENCH_PASSWORD": "bench-correct horse battery staple",
}
"""Values that logs and messages are searched for."""


class NotDefaultError(Exception):
    """A setting of the gateway that is measured is not what users get."""


def environment(side: Side, port: int, transport: str) -> dict[str, str]:
    """The environment of a gateway beside these. Prints its settings; raises NotDefaultError."""
    environ = {
        "CAMUNDA_CLIENT_MODE": "self-managed",
        "CAMUNDA_CLIENT_AUTH_METHOD": "none",
        "CAMUNDA_CLIENT_GRPCADDRESS": f"http://{side.grpc}",
        "CAMUNDA_CLIENT_RESTADDRESS": f"http://{side.rest}",
        "CAMUNDA_CLIENT_WORKER_DEFAULTS_MAXJOBSACTIVE": str(IN_FLIGHT),
        "SERVER_PORT": str(port),
        "GATEWAY_ENGINE_TRANSPORT": transport,
        **_SECRETS,
    }
    print(_effective({**os.environ, **environ}), file=sys.stderr)
    return environ


def _effective(environ: Mapping[str, str]) -> str:
    """The settings that such an environment makes, in a line. Raises NotDefaultError for those that nobody would guess."""
    settings = load(environ, (), BUILD)
    described = settings.describe()
    given = {name: value for name, (value, origin) in described.items() if origin != "default"}
    changed = sorted(given.keys() - _PLACE - {_COMPARED, _TUNED})
    if changed:
        raise NotDefaultError(
            f"set, but not by the bench: {', '.join(f'{name} ({described[name][1]})' for name in changed)}"
        )
    variables = [name for name in environ if name.upper().startswith(("CONNECTOR_", "CAMUNDA_CONNECTOR_"))]
    if variables:
        raise NotDefaultError(f"set, but not by the bench: {', '.join(sorted(variables))}")
    shown = [f"{name}={value}" for name, value in given.items()]
    kept = [f"{name}={described[name][0]}" for name in _SHOWN]
    rest = len(described) - len(given) - len(kept)
    return f"gateway run: {' '.join(shown)}; default: {' '.join(kept)} and {rest} more; {len(_SECRETS)} secrets"


_SHOWN: Final = (
    "gateway.jobs.max-in-flight",
    "gateway.webhook.max-in-flight",
    "gateway.inbound.max-in-flight",
    "gateway.log.format",
    "management.endpoints.web.exposure.include",
    "camunda.connector.secret-resolver.secret-filter.mode",
    "camunda.connector.validation.hosts.enabled",
    "camunda.client.worker.defaults.stream-enabled",
)
"""What a reader would suspect to be off."""
