"""A Zeebe cluster as one engine: its commands by gRPC or REST, its queries by REST; made from the settings."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Final
from urllib.parse import urlsplit

from gateway.engine import Commands, Engine, Queries
from gateway.engine.auth import Credentials, make_credentials
from gateway.engine.grpc import TOPOLOGY, GrpcCommands
from gateway.engine.rest import RestCommands, RestQueries
from gateway.engine.rest_session import RestSession
from gateway.engine.settings import ConnectionSettings
from gateway.engine.tls import channel_context, channel_credentials, rest_context
from gateway.engine.transport import ChannelSettings, Liveness, Transport

_LIVENESS: Final = Liveness(probe_method=TOPOLOGY)


class Cluster:
    """An `Engine` of two doors: commands go to one, queries to the other."""

    def __init__(self, commands: Commands, queries: Queries) -> None:
        self.commands: Final = commands
        self.queries: Final = queries
        self.topology = commands.topology
        self.stream_jobs = commands.stream_jobs
        self.activate_jobs = commands.activate_jobs
        self.complete_job = commands.complete_job
        self.fail_job = commands.fail_job
        self.throw_error = commands.throw_error
        self.update_job_timeout = commands.update_job_timeout
        self.create_process_instance = commands.create_process_instance
        self.create_process_instance_with_result = commands.create_process_instance_with_result
        self.publish_message = commands.publish_message
        self.deploy = commands.deploy
        self.search = queries.search
        self.process_definition = queries.process_definition
        self.process_definition_xml = queries.process_definition_xml
        self.message_subscription_statistics = queries.message_subscription_statistics
        self.correlate_message = queries.correlate_message
        self.evaluate_expression = queries.evaluate_expression
        self.create_document = queries.create_document
        self.read_document = queries.read_document
        self.delete_document = queries.delete_document
        self.create_document_link = queries.create_document_link

    async def close(self) -> None:
        """Ends both; what is under way fails with Unavailable, streams end."""
        try:
            await self.commands.close()
        finally:
            await self.queries.close()


async def connect(settings: ConnectionSettings, *, liveness: Liveness = _LIVENESS) -> Engine:
    """The engine that the settings describe, by gRPC and REST or, where they prefer it, by REST alone.

    Reads key and certificate files; opens no connection: the first call does, and an engine that is away shows there.
    SettingsError names the setting that is missing or wrong.
    """
    settings = settings.resolved()
    # All files are read before anything is made that would have to be closed.
    credentials = make_credentials(settings.auth)
    make_transport = None if settings.prefer_rest_over_grpc else _transport(settings, liveness)
    session = _rest_session(settings, credentials)
    queries = RestQueries(session)
    if make_transport is None:
        return Cluster(RestCommands(session, timeout_offset=settings.request_timeout_offset), queries)
    commands = GrpcCommands(
        make_transport(),
        credentials,
        request_timeout=settings.request_timeout,
        timeout_offset=settings.request_timeout_offset,
        physical_tenant_id=settings.physical_tenant_id,
    )
    return Cluster(commands, queries)


def _user_agent() -> str:
    try:
        return f"connector-gateway/{version('connector-gateway')}"
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "connector-gateway"


def _rest_session(settings: ConnectionSettings, credentials: Credentials) -> RestSession:
    address = settings.rest_address or ""
    return RestSession(
        address,
        credentials,
        request_timeout=settings.request_timeout,
        ssl=rest_context(settings.ca_certificate_path) if _is_tls(address) else True,
        max_connections=settings.max_http_connections,
        max_message_size=settings.max_message_size,
        user_agent=_user_agent(),
        physical_tenant_id=settings.physical_tenant_id if settings.prefix_physical_tenant_path else None,
    )


def _transport(settings: ConnectionSettings, liveness: Liveness) -> Callable[[], Transport]:
    """What makes the transport; files are read here. Several addresses at once are the grpcio package's business."""
    lean = settings.transport == "lean" and not settings.use_client_side_load_balancing
    channel = _channel_settings(settings, lean=lean)
    if lean:
        from gateway.engine.lean import LeanTransport

        return lambda: LeanTransport(channel, liveness)
    from gateway.engine.grpcio import GrpcioTransport

    return lambda: GrpcioTransport(channel, liveness)


def _channel_settings(settings: ConnectionSettings, *, lean: bool) -> ChannelSettings:
    address = settings.grpc_address or ""
    parts = urlsplit(address)
    tls = _is_tls(address)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return ChannelSettings(
        target=f"{host}:{parts.port or (443 if tls else 80)}",
        credentials=channel_credentials(settings.ca_certificate_path) if tls and not lean else None,
        context=channel_context(settings.ca_certificate_path) if tls and lean else None,
        authority=settings.override_authority,
        user_agent=_user_agent(),
        max_message_size=settings.max_message_size,
        max_metadata_size=settings.max_metadata_size,
        keep_alive=settings.keep_alive,
        round_robin=settings.use_client_side_load_balancing,
    )


def _is_tls(address: str) -> bool:
    return urlsplit(address).scheme in {"https", "grpcs"}
