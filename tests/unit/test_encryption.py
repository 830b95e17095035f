"""Secrets open in their own place only."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest
from django.test.utils import override_settings
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretBytes, SecretStr
from typing_extensions import TypedDict

from pluginhub.encryption import SealError, is_sealed, seal, seal_config, unseal, unseal_config
from pluginhub.types import Tenant

ACME = Tenant("acme")
GLOBEX = Tenant("globex")
KEYS = {"SECRET_KEYS": ["a key for these tests"]}


@pytest.fixture(autouse=True)
def keys() -> Iterator[None]:
    with override_settings(PLUGINHUB=KEYS):
        yield


def sealed(plain: str = "hunter2", tenant: Tenant = ACME, registration: str = "mail", path: str = "password") -> str:
    return seal(plain, tenant=tenant, registration=registration, path=path)


@given(st.text())
def test_any_text_comes_back_as_it_was(plain: str) -> None:
    with override_settings(PLUGINHUB=KEYS):
        assert unseal(sealed(plain), tenant=ACME, registration="mail", path="password") == plain


def test_a_token_shows_its_kind_and_never_the_secret() -> None:
    token = sealed()
    assert token.startswith("ph1:")
    assert "hunter2" not in token
    assert is_sealed(token)


def test_the_same_secret_gives_two_tokens() -> None:
    assert sealed() != sealed()


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"tenant": GLOBEX, "registration": "mail", "path": "password"},
        {"tenant": ACME, "registration": "post", "path": "password"},
        {"tenant": ACME, "registration": "mail", "path": "name"},
    ],
)
def test_a_token_does_not_open_elsewhere(elsewhere: dict[str, Any]) -> None:
    with pytest.raises(SealError, match="does not open: it was sealed for another place, or changed since"):
        unseal(sealed(), **elsewhere)


def test_places_cannot_be_confused_by_where_their_names_end() -> None:
    token = seal("hunter2", tenant=ACME, registration="a", path="b.c")
    with pytest.raises(SealError):
        unseal(token, tenant=ACME, registration="a.b", path="c")


@pytest.mark.parametrize("cut", [1, 4, 30])
def test_a_changed_token_does_not_open(cut: int) -> None:
    token = sealed()
    changed = token[:-cut] + ("A" if token[-cut] != "A" else "B") + token[len(token) - cut + 1 :]
    with pytest.raises(SealError):
        unseal(changed, tenant=ACME, registration="mail", path="password")


def test_a_key_that_is_gone_is_named_and_the_secret_is_not() -> None:
    token = sealed()
    with (
        override_settings(PLUGINHUB={"SECRET_KEYS": ["another key"]}),
        pytest.raises(SealError, match=f"sealed with the key {token[4:12]}, which is not configured") as caught,
    ):
        unseal(token, tenant=ACME, registration="mail", path="password")
    assert token not in str(caught.value)


def test_an_older_key_still_opens_and_the_newest_seals() -> None:
    old = sealed()
    with override_settings(PLUGINHUB={"SECRET_KEYS": ["a newer key", *KEYS["SECRET_KEYS"]]}):
        assert unseal(old, tenant=ACME, registration="mail", path="password") == "hunter2"
        assert sealed()[:12] != old[:12]


def test_without_keys_of_its_own_it_derives_them_from_django_s() -> None:
    with override_settings(PLUGINHUB={}, SECRET_KEY="django's key"):
        token = sealed()
    with override_settings(PLUGINHUB={}, SECRET_KEY="a new one", SECRET_KEY_FALLBACKS=["django's key"]):
        assert unseal(token, tenant=ACME, registration="mail", path="password") == "hunter2"


class Basic(BaseModel):
    kind: Literal["basic"] = "basic"
    password: SecretStr


class Bearer(BaseModel):
    kind: Literal["bearer"] = "bearer"
    token: SecretStr
    scheme: str = "Bearer"


class Typed(TypedDict):
    secret: SecretStr
    open: str


@dataclasses.dataclass
class Plain:
    secret: SecretStr


class Config(BaseModel):
    url: str
    password: SecretStr
    raw: SecretBytes | None = None
    optional: SecretStr | None = None
    auth: Annotated[Basic | Bearer, Field(discriminator="kind")] | None = None
    servers: list[Basic] = []
    by_name: dict[str, SecretStr] = {}
    pair: tuple[str, SecretStr] | None = None
    typed: Typed | None = None
    plain: Plain | None = None
    renamed: SecretStr | None = Field(None, alias="api-key")


FULL: dict[str, Any] = {
    "url": "https://open.example",
    "password": "s1",
    "raw": "s2",
    "optional": None,
    "auth": {"kind": "bearer", "token": "s3", "scheme": "Bearer"},
    "servers": [{"kind": "basic", "password": "s4"}, {"kind": "basic", "password": "s5"}],
    "by_name": {"one": "s6"},
    "pair": ["open", "s7"],
    "typed": {"secret": "s8", "open": "open"},
    "plain": {"secret": "s9"},
    "api-key": "s10",
}


def seal_full(data: dict[str, Any] = FULL, **options: Any) -> dict[str, Any]:
    return seal_config(Config, data, tenant=ACME, registration="mail", **options)


def leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in leaves(each)]
    return [leaf for each in value for leaf in leaves(each)] if isinstance(value, list) else [value]


def test_every_secret_leaf_is_sealed_wherever_it_stands_and_nothing_else() -> None:
    Config.model_validate(FULL)
    before, after = leaves(FULL), leaves(seal_full())
    changed = {plain for plain, token in zip(before, after, strict=True) if plain != token}
    assert changed == {f"s{number}" for number in range(1, 11)}
    assert all(is_sealed(token) for plain, token in zip(before, after, strict=True) if plain in changed)


def test_a_sealed_configuration_opens_to_what_it_was() -> None:
    assert unseal_config(seal_full(), tenant=ACME, registration="mail") == FULL


def test_sealing_changes_no_value_given() -> None:
    given = {"url": "x", "password": "s1", "servers": [{"password": "s4"}]}
    seal_full(given)
    assert given == {"url": "x", "password": "s1", "servers": [{"password": "s4"}]}


def test_tokens_stay_as_they_are() -> None:
    once = seal_full()
    assert seal_full(once) == once


def test_an_unchanged_secret_keeps_its_token_and_a_changed_one_does_not() -> None:
    once = seal_full()
    again = seal_full(FULL | {"password": "other"}, before=once)
    assert {key for key in once if once[key] != again[key]} == {"password"}


def test_list_items_may_be_reordered() -> None:
    once = seal_full()
    once["servers"].reverse()
    assert unseal_config(once, tenant=ACME, registration="mail")["servers"][0]["password"] == "s5"


def test_a_plugin_without_a_model_has_no_secrets() -> None:
    assert seal_config(None, {"password": "open"}, tenant=ACME, registration="mail") == {"password": "open"}


def test_a_configuration_of_another_tenant_does_not_open() -> None:
    with pytest.raises(SealError, match="The secret 'password' of 'mail' in 'globex'"):
        unseal_config(seal_full(), tenant=GLOBEX, registration="mail")
