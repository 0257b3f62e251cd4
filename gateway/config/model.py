"""Every setting, typed: the sections of the configuration and what becomes of each key.

The name of a key is the path of field names with dashes: `Client.grpc_address` is `camunda.client.grpc-address`. A field that
is only parsed carries one of the marks `Later`, `Unused` or `Refused`; all others take effect.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, SecretStr

from gateway.config.values import (
    Count,
    Duration,
    GrpcUrl,
    Integer,
    Number,
    Port,
    PositiveDuration,
    Secret,
    Size,
    Switch,
    Text,
    TextList,
    Url,
    format_duration,
    one_of,
    parse_duration,
)


@dataclass(frozen=True, slots=True)
class Later:
    """The key is read and checked; set to anything but its default it is reported as not yet supported."""

    why: str = "not yet supported"


@dataclass(frozen=True, slots=True)
class Unused:
    """The key has no meaning here and never will; a value other than the default is reported."""

    why: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Ignoring the key would be dangerous: any value but the default is a ConfigurationError."""

    why: str


@dataclass(frozen=True, slots=True)
class KeepEmpty:
    """An empty value is a value, not the absence of one."""


AGENTIC: Final = Later("agentic AI connectors are not yet supported")
TENANTS: Final = Refused("more than one engine in one gateway is not supported: run one gateway per engine")
PROTECTION: Final = Refused(
    "the REST endpoints cannot be protected by tokens here: put a proxy that checks them in front"
)
THREADS: Final = Unused(
    "handlers run on the event loop; gateway.jobs.sync-threads bounds the threads of synchronous ones"
)


def mask_url(text: str) -> str:
    """The text with the user information of a URL replaced, if it has any."""
    if "://" not in text or "@" not in text:
        return text
    try:
        parts = urlsplit(text)
    except ValueError:
        return "***"
    return urlunsplit(parts._replace(netloc=f"***@{parts.netloc.rpartition('@')[2]}")) if "@" in parts.netloc else text


def display(value: object) -> str:
    """A value of a setting as text for people: secrets masked, durations in short."""
    if isinstance(value, SecretStr):
        return "***" if value.get_secret_value() else ""
    if isinstance(value, tuple):
        return ",".join(display(item) for item in value)
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else ""
    return format_duration(value) if isinstance(value, timedelta) else mask_url(str(value))


class Section(BaseModel):
    """A group of keys. Printing one never shows a secret."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            if isinstance(value, tuple):
                value = tuple(mask_url(item) if isinstance(item, str) else item for item in value)
            yield name, mask_url(value) if isinstance(value, str) else value


# ---- camunda.client --------------------------------------------------------------------------------------------------


class Cloud(Section):
    cluster_id: Text | None = None
    region: Text = "bru-2"
    domain: Text = "camunda.io"
    port: Port = 443


class ClientAssertion(Section):
    """A signed token in place of a client secret (RFC 7523)."""

    keystore_path: Text | None = None
    keystore_password: Secret | None = None
    keystore_key_alias: Text | None = None
    keystore_key_password: Secret | None = None


class Auth(Section):
    method: Annotated[Literal["none", "basic", "oidc"], one_of("none", "basic", "oidc")] | None = None
    username: Text | None = None
    password: Secret | None = None
    client_id: Text | None = None
    client_secret: Secret | None = None
    token_url: Url | None = None
    issuer_url: Url | None = None
    well_known_configuration_url: Url | None = None
    audience: Text | None = None
    scope: Text | None = None
    resource: Text | None = None
    credentials_cache_path: Text | None = None
    connect_timeout: PositiveDuration = parse_duration("5s")
    read_timeout: PositiveDuration = parse_duration("5s")
    keystore_path: Text | None = None
    keystore_password: Secret | None = None
    keystore_key_password: Secret | None = None
    truststore_path: Text | None = None
    truststore_password: Secret | None = None
    client_assertion: ClientAssertion = ClientAssertion()
    proactive_token_refresh_threshold: Duration | None = None
    token_fetch_max_retries: Integer | None = None
    token_fetch_initial_backoff: Duration | None = None
    token_fetch_backoff_multiplier: Number | None = None
    token_fetch_retryable_status_codes: TextList | None = None
    token_fetch_non_retryable_cooldown: Duration | None = None


_FILTER_MODE: Final = Later("the tenant ids of the worker are always sent")
_STREAMS: Final = Unused("a job stream lives until the engine or the network ends it, and is then opened again")
TenantFilterMode = Annotated[Literal["provided", "assigned"], one_of("provided", "assigned")]


class WorkerDefaults(Section):
    enabled: Switch = True
    name: Annotated[Text | None, Unused("a worker is named after its connector")] = None
    type: Annotated[Text | None, Unused("a worker's type is that of its connector")] = None
    max_jobs_active: Count = 100
    stream_enabled: Switch = True
    timeout: PositiveDuration = parse_duration("5m")
    poll_interval: PositiveDuration = parse_duration("100ms")
    request_timeout: PositiveDuration = parse_duration("10s")
    stream_timeout: Annotated[PositiveDuration, _STREAMS] = parse_duration("8h")
    tenant_ids: TextList = ()
    fetch_variables: TextList = ()
    force_fetch_all_variables: Switch = False
    tenant_filter_mode: Annotated[TenantFilterMode, _FILTER_MODE] = "provided"


class WorkerOverride(Section):
    """What differs for one job type; None: as in the defaults."""

    enabled: Switch | None = None
    name: Text | None = None
    type: Text | None = None
    max_jobs_active: Count | None = None
    stream_enabled: Switch | None = None
    timeout: PositiveDuration | None = None
    poll_interval: PositiveDuration | None = None
    request_timeout: PositiveDuration | None = None
    stream_timeout: Annotated[PositiveDuration | None, _STREAMS] = None
    tenant_ids: TextList | None = None
    fetch_variables: TextList | None = None
    force_fetch_all_variables: Switch | None = None
    tenant_filter_mode: Annotated[TenantFilterMode | None, _FILTER_MODE] = None


class Worker(Section):
    defaults: WorkerDefaults = WorkerDefaults()
    override: Mapping[str, WorkerOverride] = {}


class Client(Section):
    """`camunda.client`: the engine and its workers."""

    enabled: Annotated[Switch, Refused("a gateway without its engine has nothing to do: leave the key out")] = True
    mode: Annotated[Literal["saas", "self-managed"], one_of("saas", "self-managed")] | None = None
    grpc_address: GrpcUrl | None = None
    rest_address: Url | None = None
    prefer_rest_over_grpc: Switch = False
    cloud: Cloud = Cloud()
    auth: Auth = Auth()
    tenant_id: Text = "<default>"
    physical_tenant_id: Text | None = None
    prefix_physical_tenant_path: Switch = True
    request_timeout: PositiveDuration = parse_duration("10s")
    request_timeout_offset: Duration = parse_duration("1s")
    message_time_to_live: Annotated[Duration, Later("nothing here publishes messages by a default of the client")] = (
        parse_duration("1h")
    )
    max_message_size: Size = 5 * 1024**2
    max_metadata_size: Size = 16 * 1024
    keep_alive: PositiveDuration = parse_duration("45s")
    ca_certificate_path: Text | None = None
    override_authority: Text | None = None
    execution_threads: Annotated[Integer, THREADS] = 1
    max_http_connections: Count | None = None
    use_client_side_load_balancing: Switch = False
    worker: Worker = Worker()


# ---- camunda.connector -----------------------------------------------------------------------------------------------


class EnvironmentSecrets(Section):
    enabled: Switch = True
    prefix: Annotated[Text, KeepEmpty()] = "SECRET_"
    physicaltenantaware: Switch = False
    tenantaware: Switch = False
    processdefinitionaware: Switch = False


class DiscoveredSecrets(Section):
    enabled: Switch = True


_CONSOLE: Final = Refused(
    "secrets of the Camunda console cannot be read here: give them as SECRET_... or by a provider"
)


class ConsoleSecrets(Section):
    enabled: Annotated[Switch, _CONSOLE] = False
    endpoint: Annotated[Url, Later("secrets of the Camunda console cannot be read")] = (
        "https://cluster-api.cloud.camunda.io/secrets"
    )
    audience: Annotated[Text, Later("secrets of the Camunda console cannot be read")] = "secrets.camunda.io"


class SecretProviders(Section):
    environment: EnvironmentSecrets = EnvironmentSecrets()
    discovery: DiscoveredSecrets = DiscoveredSecrets()
    console: ConsoleSecrets = ConsoleSecrets()


class SecretFilterCache(Section):
    enabled: Switch = True
    max_size: Integer = 1000


class SecretFilter(Section):
    """Default STRICT, as newer releases of the original."""

    mode: Annotated[Literal["DISABLED", "LAX", "STRICT"], one_of("DISABLED", "LAX", "STRICT")] = "STRICT"
    cache: SecretFilterCache = SecretFilterCache()


class SecretResolver(Section):
    secret_filter: SecretFilter = SecretFilter()


class Polling(Section):
    enabled: Switch = True
    interval: PositiveDuration = parse_duration("5s")
    initial_delay: Duration = parse_duration("0")
    active_versions_enabled: Switch = True


class ProcessDefinitionSearch(Section):
    page_size: Count = 200


class ProcessDefinitionCache(Section):
    enabled: Switch = True
    max_size: Integer = 1000


class InboundLog(Section):
    size: Count = 100


class InboundMessage(Section):
    ttl: Duration = parse_duration("1h")


class Inbound(Section):
    """deduplication_format: of which release the executable ids, and the consumer groups named after them, are."""

    deduplication_format: Annotated[Literal["8.8", "8.9", "8.10"], one_of("8.8", "8.9", "8.10")] = "8.10"
    process_definition_cache: ProcessDefinitionCache = ProcessDefinitionCache()
    log: InboundLog = InboundLog()
    message: InboundMessage = InboundMessage()


class Webhook(Section):
    enabled: Switch = True
    append_physical_tenant_and_tenant_to_path: Switch | None = None


class VirtualThreads(Section):
    enabled: Annotated[Switch, THREADS] = True


class OAuthCache(Section):
    skew_buffer: Duration = parse_duration("10s")


class OAuth(Section):
    cache: OAuthCache = OAuthCache()


class HostValidation(Section):
    """Which addresses an input that names a host may resolve to."""

    enabled: Switch = False
    allow_ranges: TextList = ()
    deny_ranges: TextList = ()
    unsafe_allow_private_ranges: Switch = False
    unsafe_allow_loopback: Switch = False


class Validation(Section):
    hosts: HostValidation = HostValidation()


class BrokerMonitoring(Section):
    enabled: Switch = True
    port: Port = 9600
    addresses: TextList = ()


class Broker(Section):
    monitoring: BrokerMonitoring = BrokerMonitoring()


class Headless(Section):
    serviceurl: Text | None = None


class ConsoleAuth(Section):
    audience: Annotated[Text | None, PROTECTION] = None


class AllowedAuth(Section):
    roles: Annotated[TextList, PROTECTION] = ()


class EndpointAuth(Section):
    issuer: Annotated[Text | None, PROTECTION] = None
    audience: Annotated[Text | None, PROTECTION] = None
    console: ConsoleAuth = ConsoleAuth()
    allowed: AllowedAuth = AllowedAuth()


class Organization(Section):
    id: Annotated[Text | None, PROTECTION] = None


class ConnectorCloud(Section):
    organization: Organization = Organization()


# ---- camunda.connector.agenticai -------------------------------------------------------------------------------------


class Agentic(Section):
    """A connector of the agentic AI family that can be switched off."""

    enabled: Annotated[Switch, AGENTIC] = True


class AgentRetries(Section):
    max_retries: Annotated[Integer, AGENTIC] = 4
    initial_retry_delay: Annotated[Duration, AGENTIC] = parse_duration("1s")


class AgentInstance(Section):
    retries: AgentRetries = AgentRetries()


class ChatModelApi(Section):
    default_timeout: Annotated[PositiveDuration, AGENTIC] = parse_duration("3m")


class ChatModel(Section):
    api: ChatModelApi = ChatModelApi()


class AiAgent(Section):
    outbound_connector: Agentic = Agentic()
    job_worker: Agentic = Agentic()
    chat_model: ChatModel = ChatModel()
    agent_instance: AgentInstance = AgentInstance()


class ToolsCache(Agentic):
    maximum_size: Annotated[Integer, AGENTIC] = 100
    expire_after_write: Annotated[Duration, AGENTIC] = parse_duration("10m")


class ToolsProcessDefinition(Section):
    retries: AgentRetries = AgentRetries()
    cache: ToolsCache = ToolsCache()


class Tools(Section):
    process_definition: ToolsProcessDefinition = ToolsProcessDefinition()


class AgenticHttp(Section):
    proxy_support: Agentic = Agentic()


class RemoteClientCache(Agentic):
    maximum_size: Annotated[Integer, AGENTIC] = 15
    expire_after: Annotated[Duration, AGENTIC] = parse_duration("10m")


class RemoteClientClient(Section):
    cache: RemoteClientCache = RemoteClientCache()


class McpRemoteClient(Agentic):
    client: RemoteClientClient = RemoteClientClient()


class McpClient(Section):
    enabled: Annotated[Switch, AGENTIC] = False
    clients: Annotated[Mapping[str, Text], AGENTIC] = {}


class Mcp(Section):
    client: McpClient = McpClient()
    remote_client: McpRemoteClient = McpRemoteClient()
    discovery: Agentic = Agentic()


class A2aPolling(Agentic):
    thread_pool_size: Annotated[Count, AGENTIC] = 10


class A2aAgentic(Section):
    tool: Agentic = Agentic()


class A2aGrpc(Section):
    use_tls: Annotated[Switch, AGENTIC] = True


class A2aTransport(Section):
    grpc: A2aGrpc = A2aGrpc()


class A2aClient(Section):
    outbound: Agentic = Agentic()
    polling: A2aPolling = A2aPolling()
    webhook: Agentic = Agentic()
    agentic: A2aAgentic = A2aAgentic()
    transport: A2aTransport = A2aTransport()


class A2a(Section):
    client: A2aClient = A2aClient()


class AgenticAi(Agentic):
    aiagent: AiAgent = AiAgent()
    ad_hoc_tools_schema_resolver: Agentic = Agentic()
    tools: Tools = Tools()
    http: AgenticHttp = AgenticHttp()
    mcp: Mcp = Mcp()
    a2a: A2a = A2a()


class Connector(Section):
    """`camunda.connector`: what the runtime does around the connectors."""

    secretprovider: SecretProviders = SecretProviders()
    secret_resolver: SecretResolver = SecretResolver()
    polling: Polling = Polling()
    process_definition_search: ProcessDefinitionSearch = ProcessDefinitionSearch()
    inbound: Inbound = Inbound()
    webhook: Webhook = Webhook()
    virtual_threads: VirtualThreads = VirtualThreads()
    oauth: OAuth = OAuth()
    validation: Validation = Validation()
    broker: Broker = Broker()
    headless: Headless = Headless()
    hostname: Text | None = None
    auth: EndpointAuth = EndpointAuth()
    cloud: ConnectorCloud = ConnectorCloud()
    agenticai: AgenticAi = AgenticAi()


# ---- the rest --------------------------------------------------------------------------------------------------------

_CORS: Final = Later("no cross-origin headers are sent")


class Allowed(Section):
    origins: Annotated[TextList, _CORS] = ()


class Allow(Section):
    credentials: Annotated[Switch, _CORS] = False


class Cors(Section):
    mappings: Annotated[TextList, _CORS] = ()
    allowed: Allowed = Allowed()
    allow: Allow = Allow()


class Endpoints(Section):
    cors: Cors = Cors()


class Camunda(Section):
    client: Client = Client()
    clients: Annotated[Mapping[str, Text], TENANTS] = {}
    connector: Connector = Connector()
    endpoints: Endpoints = Endpoints()


class Server(Section):
    port: Port = 8080
    max_http_request_header_size: Size = 1024**2


class ManagementServer(Section):
    port: Port | None = None
    base_path: Text = "/actuator"


class Exposure(Section):
    include: TextList = ("metrics", "health", "prometheus", "loggers")


class Web(Section):
    exposure: Exposure = Exposure()


class ManagementEndpoints(Section):
    web: Web = Web()


class Management(Section):
    server: ManagementServer = ManagementServer()
    endpoints: ManagementEndpoints = ManagementEndpoints()


class Stackdriver(Section):
    service_name: Text | None = None
    service_version: Text | None = None


class ConnectorsLog(Section):
    appender: Annotated[Literal["default", "stackdriver"], one_of("default", "stackdriver")] = "default"
    stackdriver: Stackdriver = Stackdriver()


class Connectors(Section):
    log: ConnectorsLog = ConnectorsLog()


_LEVELS: Final = ("trace", "debug", "info", "warn", "error", "fatal", "off")
Level = Annotated[Literal["trace", "debug", "info", "warn", "error", "fatal", "off"], one_of(*_LEVELS)]


class Logging(Section):
    level: Mapping[str, Level] = {}


class Shutdown(Section):
    grace: Duration = parse_duration("20s")


class Jobs(Section):
    """`max_in_flight` bounds the handlers at work over all job types: ten full workers of 100, so that one busy type never
    meets it while the memory of a whole process stays bounded.
    """

    max_in_flight: Count = 1000
    max_run_time: PositiveDuration = parse_duration("1h")
    sync_threads: Count = 16


class Events(Section):
    """`gateway.inbound`: `max_in_flight` bounds the commands for events under way to the engine, over all connectors;
    `activation`: whether a connector that cannot be activated takes the others of its process down, as in the original.
    """

    max_in_flight: Count = 1000
    activation: Annotated[Literal["isolated", "all-or-nothing"], one_of("isolated", "all-or-nothing")] = "isolated"


class Ingress(Section):
    """`gateway.webhook`: what senders may do. `max_buffered`: bytes of all bodies held at once; `public_url`: scheme and host
    as senders see them, for signatures over the URL.
    """

    max_body_size: Size = 10 * 1024**2
    max_buffered: Size = 256 * 1024**2
    body_timeout: PositiveDuration = parse_duration("30s")
    max_in_flight: Count = 1000
    max_in_flight_per_path: Count | None = None
    public_url: Text | None = None
    forwarded_headers: Switch = False


class EngineAccess(Section):
    """transport: which client speaks gRPC, the grpcio package or our own."""

    transport: Annotated[Literal["grpcio", "lean"], one_of("grpcio", "lean")] = "grpcio"


class Log(Section):
    format: Annotated[Literal["auto", "text", "json"], one_of("auto", "text", "json")] = "auto"
    level: Level | None = None


class Gateway(Section):
    """`gateway`: the settings that the original does not have."""

    shutdown: Shutdown = Shutdown()
    jobs: Jobs = Jobs()
    inbound: Events = Events()
    webhook: Ingress = Ingress()
    engine: EngineAccess = EngineAccess()
    log: Log = Log()


class Root(Section):
    """All keys."""

    camunda: Camunda = Camunda()
    server: Server = Server()
    management: Management = Management()
    connectors: Connectors = Connectors()
    logging: Logging = Logging()
    gateway: Gateway = Gateway()
