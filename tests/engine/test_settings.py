from dataclasses import replace
from pathlib import Path

import pytest

from gateway.engine.settings import (
    AuthSettings,
    ClientAssertionSettings,
    CloudSettings,
    ConnectionSettings,
    SettingsError,
)

OIDC = AuthSettings(client_id="me", client_secret="hidden-1")


def test_with_nothing_set_it_is_a_cluster_on_this_machine_without_authentication() -> None:
    settings = ConnectionSettings().resolved()
    assert (settings.mode, settings.auth.method) == ("self-managed", "none")
    assert (settings.grpc_address, settings.rest_address) == ("http://localhost:26500", "http://localhost:8080")
    assert (settings.request_timeout, settings.request_timeout_offset, settings.keep_alive) == (10, 1, 45)
    assert (settings.max_message_size, settings.max_metadata_size) == (5_242_880, 16_384)


def test_a_cluster_id_makes_it_saas_and_the_rest_follows() -> None:
    settings = ConnectionSettings(cloud=CloudSettings(cluster_id="c-1"), auth=OIDC).resolved()
    assert settings.mode == "saas"
    assert settings.grpc_address == "https://c-1.bru-2.zeebe.camunda.io:443"
    assert settings.rest_address == "https://bru-2.zeebe.camunda.io:443/c-1"
    assert settings.auth.method == "oidc"
    assert settings.auth.token_url == "https://login.cloud.camunda.io/oauth/token"
    assert settings.auth.audience == "zeebe.camunda.io"


def test_region_domain_and_port_go_into_the_addresses() -> None:
    cloud = CloudSettings(cluster_id="c", region="r", domain="example.org", port=8443)
    settings = ConnectionSettings(cloud=cloud, auth=OIDC).resolved()
    assert settings.grpc_address == "https://c.r.zeebe.example.org:8443"
    assert settings.rest_address == "https://r.zeebe.example.org:8443/c"
    assert settings.auth.token_url == "https://login.cloud.example.org/oauth/token"
    assert settings.auth.audience == "zeebe.example.org"


def test_what_is_set_wins_over_what_is_derived() -> None:
    settings = ConnectionSettings(
        mode="saas",
        grpc_address="https://grpc.example.org",
        rest_address="https://rest.example.org/x",
        cloud=CloudSettings(cluster_id="c"),
        auth=replace(OIDC, token_url="https://t.example.org", audience="a"),
    ).resolved()
    assert (settings.grpc_address, settings.rest_address) == ("https://grpc.example.org", "https://rest.example.org/x")
    assert (settings.auth.token_url, settings.auth.audience) == ("https://t.example.org", "a")


@pytest.mark.parametrize(
    ("auth", "method"),
    [
        (AuthSettings(), "none"),
        (AuthSettings(username="u", password="p"), "basic"),
        (OIDC, "oidc"),
        (replace(OIDC, username="u", password="p"), "oidc"),
        (replace(OIDC, method="none"), "none"),
    ],
)
def test_the_method_of_authentication_follows_from_the_credentials(auth: AuthSettings, method: str) -> None:
    assert ConnectionSettings(auth=auth).resolved().auth.method == method


def test_oidc_without_a_token_url_is_discovered_at_the_usual_issuer() -> None:
    auth = ConnectionSettings(auth=OIDC).resolved().auth
    assert auth.token_url is None
    assert auth.issuer_url == "http://localhost:18080/auth/realms/camunda-platform"
    assert auth.audience == "zeebe-api"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (ConnectionSettings(mode="cloud"), "mode"),  # type: ignore[arg-type]
        (ConnectionSettings(mode="saas", auth=OIDC), "cloud.cluster-id"),
        (ConnectionSettings(grpc_address="localhost:26500"), "grpc-address"),
        (ConnectionSettings(rest_address="http://"), "rest-address"),
        (ConnectionSettings(rest_address="http://host:99999"), "rest-address"),
        (ConnectionSettings(auth=AuthSettings(method="oauth")), "auth.method"),  # type: ignore[arg-type]
        (ConnectionSettings(auth=AuthSettings(method="basic", username="u")), "auth.password"),
        (ConnectionSettings(auth=AuthSettings(client_secret="x")), "auth.client-id"),
        (ConnectionSettings(auth=AuthSettings(client_id="x")), "auth.client-secret"),
    ],
)
def test_what_is_missing_or_wrong_is_named_by_its_key(settings: ConnectionSettings, key: str) -> None:
    with pytest.raises(SettingsError, match=key):
        settings.resolved()


def test_a_password_in_an_address_is_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError, match="user info") as caught:
        ConnectionSettings(rest_address="http://me:hidden-1@host:8080").resolved()
    assert "hidden-1" not in str(caught.value)


def test_no_secret_is_in_the_text_of_settings() -> None:
    auth = AuthSettings(
        username="u",
        password="hidden-1",
        client_secret="hidden-2",
        keystore_password="hidden-3",
        keystore_key_password="hidden-4",
        truststore_password="hidden-5",
        client_assertion=ClientAssertionSettings(
            keystore_path=Path("k"),
            keystore_password="hidden-6",
            keystore_key_password="hidden-7",
        ),
    )
    settings = ConnectionSettings(auth=auth)
    assert "hidden" not in repr(settings) + str(settings)
    assert "username='u'" in repr(settings)


def test_a_client_assertion_takes_the_place_of_a_secret() -> None:
    auth = AuthSettings(client_id="me", client_assertion=ClientAssertionSettings(keystore_path=Path("k.pem")))
    assert ConnectionSettings(auth=auth).resolved().auth.method == "oidc"
