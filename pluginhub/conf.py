"""The `PLUGINHUB` setting: every key with its type and default, in one place.

Read lazily, and read anew when Django reports that the setting changed, so tests may override it.
"""

from __future__ import annotations

import difflib
import os
from typing import Any, ClassVar, Literal, cast

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pluginhub.exceptions import PluginHubError

__all__ = ["Settings", "SettingsError", "problems", "settings"]

NAME = "PLUGINHUB"


class SettingsError(PluginHubError, ImproperlyConfigured):
    """The `PLUGINHUB` setting has a key that does not exist, or a value that does not fit."""

    title = "Misconfigured"


class Settings(BaseModel):
    """The keys of `settings.PLUGINHUB`. Times are in seconds, sizes in bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # What may be loaded
    PLUGINS: dict[str, str] = {}
    """Plugins besides the installed entry points: name → `"package.module:Class"`."""
    PLUGINS_DIR: str | os.PathLike[str] | None = None
    """A folder whose `*.py` files are plugins."""
    PROVIDERS: list[Any] = []
    """Services for plugins' constructors: dishka providers, or dotted paths to them."""
    RUNTIMES: int = Field(500, ge=1)
    """How many tenants' runtimes one process keeps; the least recently used go first."""

    # Who may talk to us
    ORIGINS: dict[str, list[str]] = {}
    """Further origins whose pages may open a tenant's sockets: schema → origins."""
    FENCE: Literal["runs", "report", "everywhere"] = "runs"
    """Where a query on another tenant's connection is refused: in runs and gates; `report` also logs those elsewhere,
    `everywhere` refuses them too."""
    METRICS_TOKEN: str | None = None
    METRICS_ADDRESSES: list[str] = ["127.0.0.1", "::1"]
    TICKET_SECONDS: int = Field(30, ge=1)
    SECRET_KEYS: list[str] = []
    """Keys that seal plugins' secrets, newest first. Empty: derived from `SECRET_KEY` and `SECRET_KEY_FALLBACKS`."""

    # What we accept
    MAX_BODY_BYTES: int = Field(262_144, ge=1)
    MAX_DEPTH: int = Field(32, ge=1)
    MAX_NODES: int = Field(10_000, ge=1)

    # How long things take
    RUN_SECONDS: float = Field(30.0, gt=0)
    """The deadline of a run that names none."""
    HANDOFF_SECONDS: float = Field(1.0, ge=0)
    """How long runs inside an instance with state may go on before its state moves to its successor."""
    HOOK_SECONDS: float = Field(30.0, gt=0)
    """How long one `activate`, `deactivate`, `get_state`, `restore_state` or `health` may take."""
    TREE_SECONDS: float = Field(60.0, gt=0)
    """How long all of a composition's `activate`, or `deactivate`, may take."""
    DRAIN_SECONDS: float = Field(600.0, ge=0)
    """How long runs, jobs and subscriptions may go on with a replaced runtime before what is gone is deactivated."""
    POLL_SECONDS: float = Field(1.0, gt=0, le=2)
    """How often a process compares its revisions with the fleet's heads."""

    # Jobs
    QUEUE: str = "default"
    REDIS_ALIAS: str = "default"
    """The name in `RQ_QUEUES` whose Redis carries bells and hints."""
    JOB_SLICE_SECONDS: float = Field(5.0, gt=0)
    JOB_LEASE_SECONDS: float = Field(30.0, gt=0)
    JOB_ATTEMPTS: int = Field(3, ge=1)
    JOB_SECONDS: float = Field(300.0, gt=0)
    SWEEP_SECONDS: float = Field(5.0, gt=0)

    # Sockets
    SOCKET_SEND_SECONDS: float = Field(10.0, gt=0)
    SOCKET_PING_SECONDS: float = Field(20.0, gt=0)
    SOCKET_FRAME_BYTES: int = Field(65_536, ge=1)
    SOCKET_SUBSCRIPTIONS: int = Field(32, ge=1)

    SAFE_MODE_VARIABLE: ClassVar[str] = "PLUGINHUB_SAFE_MODE"

    @property
    def SAFE_MODE(self) -> bool:  # noqa: N802 - it reads like the other keys
        """Whether this process runs no plugin at all. Set by the environment, so that no plugin can be in the way."""
        return os.environ.get(self.SAFE_MODE_VARIABLE, "").lower() in ("1", "true", "yes", "on")


class _Lazy:
    """Reads the setting at the first use of a key. Lives as long as the process."""

    def __init__(self) -> None:
        self._values: Settings | None = None

    def __getattr__(self, name: str) -> Any:
        if self._values is None:
            self._values = _read()
        return getattr(self._values, name)

    def forget(self) -> None:
        self._values = None


def problems(given: Any) -> list[tuple[str, str, str]]:
    """Return what is wrong with a value of `PLUGINHUB` as `(key, message, hint)`, in order of the keys."""
    if not isinstance(given, dict):
        return [("", f"{NAME} must be a dict, not {type(given).__name__}.", "Write PLUGINHUB = {…}.")]
    try:
        Settings.model_validate(given)
    except ValidationError as error:
        return sorted({_problem(detail) for detail in error.errors()})
    return []


def _problem(detail: Any) -> tuple[str, str, str]:
    key = str(detail["loc"][0])
    if detail["type"] == "extra_forbidden":
        near = difflib.get_close_matches(key, Settings.model_fields, n=3, cutoff=0.5)
        hint = f"Did you mean {', '.join(map(repr, near))}?" if near else "Remove it."
        return key, f"{NAME}[{key!r}] is no setting.", hint
    return key, f"{NAME}[{key!r}] does not fit: {detail['msg']}.", f"It is of type {type(detail['input']).__name__}."


def _read() -> Settings:
    given = getattr(django_settings, NAME, {})
    for _key, message, hint in problems(given):
        raise SettingsError(message, hint=hint)
    return Settings.model_validate(given)


def _forget(*, setting: str, **_: Any) -> None:
    if setting == NAME:
        cast(_Lazy, settings).forget()


settings = cast(Settings, _Lazy())
"""What the host configured. Reading any key raises `SettingsError` while the setting is wrong."""

setting_changed.connect(_forget, dispatch_uid="pluginhub.conf")
