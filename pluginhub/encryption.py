"""Sealing the secrets inside a plugin's configuration.

A token is `ph1:<key id>:<base64 of nonce and ciphertext>`, AES-256-GCM. Each tenant has a key of its own, derived by
HKDF (RFC 5869) from a key of the installation. Schema, registration and path are associated data: a token that is
copied to another tenant, registration or field does not open. A path is the JSON keys with dots between; `*` stands
for the place in a list, so that items may be reordered.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import json
import os
import re
import types
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings as django_settings
from pydantic import BaseModel, RootModel, SecretBytes, SecretStr

from pluginhub.conf import settings
from pluginhub.exceptions import NotReady
from pluginhub.types import Tenant

__all__ = ["SealError", "is_sealed", "seal", "seal_config", "secrets_in", "unseal", "unseal_config"]

_TOKEN = re.compile(r"ph1:([0-9a-f]{8}):([A-Za-z0-9_-]+={0,2})")
_NONCE_BYTES = 12

Change = Callable[[str, str], str]
"""Turns a string at a path into another."""


class SealError(NotReady):
    """A sealed secret cannot be opened: its key is gone, or it belongs to another tenant, registration or field."""

    title = "Sealed secret"


def seal(plain: str, *, tenant: Tenant, registration: str, path: str) -> str:
    """Return `plain` as a token that opens in this place only. Twice the same secret gives two tokens."""
    master = _masters()[0]
    nonce = os.urandom(_NONCE_BYTES)
    place = _place(tenant, registration, path)
    ciphertext = AESGCM(_tenant_key(master, tenant.schema)).encrypt(nonce, plain.encode(), place)
    return f"ph1:{_key_id(master)}:{base64.urlsafe_b64encode(nonce + ciphertext).decode()}"


def unseal(token: str, *, tenant: Tenant, registration: str, path: str) -> str:
    """Return the secret of a token. Raises `SealError` naming the place, never the token or the secret."""
    where = f"The secret {path!r} of {registration!r} in {tenant.schema!r}"
    match = _TOKEN.fullmatch(token)
    if match is None:
        raise SealError(f"{where} is not sealed.", hint="Enter it again.")
    master = next((each for each in _masters() if _key_id(each) == match[1]), None)
    if master is None:
        raise SealError(
            f"{where} was sealed with the key {match[1]}, which is not configured.",
            hint="Add that key to PLUGINHUB['SECRET_KEYS'] or SECRET_KEY_FALLBACKS, or enter the secret again.",
        )
    try:
        raw = base64.urlsafe_b64decode(match[2])
        key = AESGCM(_tenant_key(master, tenant.schema))
        return key.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _place(tenant, registration, path)).decode()
    except (InvalidTag, ValueError, binascii.Error):
        raise SealError(
            f"{where} does not open: it was sealed for another place, or changed since.", hint="Enter it again."
        ) from None


def is_sealed(value: object) -> bool:
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


def seal_config(
    model: type[BaseModel] | None,
    data: Mapping[str, Any],
    *,
    tenant: Tenant,
    registration: str,
    before: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return configuration with the secrets of `model` sealed: `SecretStr` and `SecretBytes`, wherever they stand.

    Tokens stay as they are. A secret that is the same as in `before`, the stored configuration, keeps its token, so
    that saving it again changes nothing.
    """
    known = _known(before or {}, tenant, registration)

    def change(value: str, path: str) -> str:
        if is_sealed(value):
            return value
        return known.get((path, value)) or seal(value, tenant=tenant, registration=registration, path=path)

    return {**data} if model is None else _in_model(model, {**data}, "", change)


def unseal_config(data: Mapping[str, Any], *, tenant: Tenant, registration: str) -> dict[str, Any]:
    """Return configuration with every token opened. Needs no model, so it comes before `migrate_config`.

    Raises `SealError` for the first token that does not open.
    """

    def change(value: str, path: str) -> str:
        return unseal(value, tenant=tenant, registration=registration, path=path)

    return {key: _tokens(value, key, change) for key, value in data.items()}


def secrets_in(data: Mapping[str, Any], *, tenant: Tenant, registration: str) -> list[str]:
    """Return the secrets of a stored configuration, for who must not show them; those that do not open are left out."""
    return [secret for _, secret in _known(data, tenant, registration)]


def _known(before: Mapping[str, Any], tenant: Tenant, registration: str) -> dict[tuple[str, str], str]:
    """Return stored tokens by path and secret; those that do not open are left out."""
    found: dict[tuple[str, str], str] = {}

    def note(token: str, path: str) -> str:
        try:
            found[path, unseal(token, tenant=tenant, registration=registration, path=path)] = token
        except SealError:
            pass
        return token

    for key, value in before.items():
        _tokens(value, key, note)
    return found


def _tokens(value: Any, path: str, change: Change) -> Any:
    """Return `value` with its tokens changed."""
    if isinstance(value, dict):
        return {key: _tokens(each, f"{path}.{key}", change) for key, each in value.items()}
    if isinstance(value, list):
        return [_tokens(each, f"{path}.*", change) for each in value]
    return change(value, path) if is_sealed(value) else value


# Where a model's secrets stand


def _in_model(model: type[BaseModel], data: Any, path: str, change: Change) -> Any:
    if issubclass(model, RootModel):
        return _in_type(model.model_fields["root"].annotation, data, path, change)
    hints: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        aliases = (field.alias, field.validation_alias, field.serialization_alias)
        hints |= {key: field.annotation for key in (name, *aliases) if isinstance(key, str)}
    return _in_keys(hints, data, path, change)


def _in_keys(hints: Mapping[str, Any], data: Any, path: str, change: Change) -> Any:
    if not isinstance(data, dict):
        return data
    return {
        key: _in_type(hints[key], value, f"{path}.{key}" if path else key, change) if key in hints else value
        for key, value in data.items()
    }


def _in_type(annotation: Any, value: Any, path: str, change: Change) -> Any:
    annotation = getattr(annotation, "__value__", annotation)  # `type X = …`
    annotation = getattr(annotation, "__supertype__", annotation)  # NewType
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if annotation in (SecretStr, SecretBytes):
        return change(value, path) if isinstance(value, str) else value
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _in_model(annotation, value, path, change)
    if dataclasses.is_dataclass(annotation) or hasattr(annotation, "__required_keys__"):  # or a TypedDict of any kind
        return _in_keys(get_type_hints(annotation), value, path, change)
    return _in_arguments(annotation, value, path, change)


def _in_arguments(annotation: Any, value: Any, path: str, change: Change) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        for arm in arguments:  # a secret in any arm is one: what one arm sealed, the next leaves alone
            value = _in_type(arm, value, path, change)
        return value
    if isinstance(value, dict) and len(arguments) == 2:
        return {key: _in_type(arguments[1], each, f"{path}.{key}", change) for key, each in value.items()}
    if isinstance(value, list) and arguments:
        kinds = arguments if origin is tuple and len(arguments) == len(value) else [arguments[0]] * len(value)
        return [_in_type(kind, each, f"{path}.*", change) for kind, each in zip(kinds, value, strict=True)]
    return value


# Keys


def _masters() -> list[str]:
    """The installation's keys, newest first."""
    if settings.SECRET_KEYS:
        return settings.SECRET_KEYS
    keys = [django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS]
    return [key.decode() if isinstance(key, bytes) else key for key in keys]


@lru_cache(maxsize=64)
def _key_id(master: str) -> str:
    return hashlib.sha256(b"pluginhub key id\0" + master.encode()).hexdigest()[:8]


@lru_cache(maxsize=4096)
def _tenant_key(master: str, schema: str) -> bytes:
    info = b"pluginhub tenant\0" + schema.encode()
    return HKDF(algorithm=SHA256(), length=32, salt=b"pluginhub ph1", info=info).derive(master.encode())


def _place(tenant: Tenant, registration: str, path: str) -> bytes:
    return json.dumps([tenant.schema, registration, path]).encode()
