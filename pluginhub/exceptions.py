"""Every error PluginHub raises: what was wrong, where, and what to do about it.

Each carries the objects it speaks of and renders itself as a problem detail (RFC 9457), so that HTTP, websocket,
jobs and the admin tell the same story. Errors raised by plugin code travel as themselves; `mark` notes on them
where they passed, and `problem_of` renders any of them without a traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, final

from pluginhub.types import Place

__all__ = [
    "BreakerOpen",
    "CachedFailure",
    "CachedFatal",
    "CachedRefusal",
    "Conflict",
    "DeadlineExceeded",
    "DependencyError",
    "Fatal",
    "Forbidden",
    "HookError",
    "InterceptorError",
    "InvalidInput",
    "MalformedInput",
    "NoTenant",
    "NotFound",
    "NotReady",
    "PluginHubError",
    "PublishRefused",
    "RateLimited",
    "Refuse",
    "RetryLater",
    "Stop",
    "TenantMismatch",
    "TooLarge",
    "Unauthenticated",
    "UnknownTarget",
    "mark",
    "place_of",
    "problem_of",
    "set_place",
    "survivable",
]

_PLACE = "__pluginhub_place__"


class PluginHubError(Exception):
    """Root of all errors of this library. `hint` says the way out; `extra` joins the problem detail."""

    status: ClassVar[int] = 500
    title: ClassVar[str] = "PluginHub failed"

    def __init__(self, detail: str, *, hint: str = "", **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.hint = hint
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.detail} {self.hint}".strip()

    def problem(self) -> dict[str, Any]:
        """Return the error as RFC 9457 members; `errors` maps field path to message where there are any."""
        members = {"type": "about:blank", "title": self.title, "status": self.status, "detail": self.detail}
        if self.hint:
            members["hint"] = self.hint
        return members | self.extra


class MalformedInput(PluginHubError):
    """The body or frame is not JSON that we accept: syntax, NaN, NUL, depth."""

    status = 400
    title = "Malformed input"


class Unauthenticated(PluginHubError):
    status = 401
    title = "Authentication needed"


class Forbidden(PluginHubError):
    status = 403
    title = "Not allowed"


class NotFound(PluginHubError):
    status = 404
    title = "Not found"


class UnknownTarget(NotFound):
    """No such target, stream or handler is enabled for this tenant. Names near misses."""

    title = "Unknown target"

    def __init__(self, name: str, known: Iterable[str] = (), *, kind: str = "target") -> None:
        near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
        hint = f"Did you mean {', '.join(map(repr, near))}?" if near else ""
        super().__init__(f"No {kind} named {name!r} is enabled here.", hint=hint, near_misses=near)
        self.name = name


class Conflict(PluginHubError):
    """The write was made against something that has changed since it was read."""

    status = 409
    title = "Conflict"


class TooLarge(PluginHubError):
    status = 413
    title = "Too large"


class InvalidInput(PluginHubError):
    """A value does not fit a schema. `errors` maps a dotted field path (`""` for the whole) to what is wrong."""

    status = 422
    title = "Invalid input"

    def __init__(self, detail: str, *, errors: Mapping[str, str] | None = None, hint: str = "") -> None:
        super().__init__(detail, hint=hint, errors=dict(errors or {}))
        self.errors = dict(errors or {})


class Refuse(InvalidInput):
    """Raise in a plugin to refuse the input, in words meant for the caller: HTTP 422.

    `raise Refuse("Unknown airport.", errors={"origin": "No airport has the code XXX."})`
    """

    title = "Refused"


class RateLimited(PluginHubError):
    status = 429
    title = "Too many requests"

    def __init__(self, detail: str, *, retry_after: float) -> None:
        super().__init__(detail, retry_after=round(retry_after, 3))
        self.retry_after = retry_after


class InterceptorError(PluginHubError):
    """An interceptor broke the rules of the onion: wrong kind, `call_next` twice, or left before it settled."""

    title = "Interceptor failed"


class DependencyError(PluginHubError):
    """A plugin asks for a service nobody provides, or providers form a cycle."""

    status = 503
    title = "Missing dependency"


class HookError(PluginHubError):
    """A plugin declares a hook that cannot work: wrong kind, wrong signature, used outside its time."""

    title = "Broken hook"


class NotReady(PluginHubError):
    """The target exists but cannot be brought to life: package missing, import failed, configuration unfit."""

    status = 503
    title = "Not ready"


class BreakerOpen(NotReady):
    """Too many calls of a registration failed of late: it is left alone for `retry_after` seconds."""

    title = "Circuit breaker open"

    def __init__(self, detail: str, *, retry_after: float, hint: str = "") -> None:
        super().__init__(detail, hint=hint, retry_after=round(retry_after, 3))
        self.retry_after = retry_after


class DeadlineExceeded(PluginHubError):
    """The run's deadline passed, or a step's time limit did."""

    status = 504
    title = "Deadline exceeded"


class RetryLater(PluginHubError):
    """Raise in a plugin when trying again after `delay` seconds may help: the step's or job's attempts decide."""

    status = 503
    title = "Try again later"

    def __init__(self, detail: str = "The plugin asks to try again later.", *, delay: float | None = None) -> None:
        super().__init__(detail)
        if delay is not None:
            self.extra["retry_after"] = delay
        self.delay = delay


class Fatal(PluginHubError):
    """Raise in a plugin when trying again cannot help: no further attempt is made."""

    title = "A plugin gave up"


class CachedFailure(PluginHubError):
    """What a registration failed with before, kept by its cache: the same problem again, without another try.

    `kind` is the class's name of the first error. `members` are its problem; an unforeseen error has none.
    """

    def __init__(self, kind: str, members: Mapping[str, Any] | None) -> None:
        known = dict(members or {"detail": f"{kind}, kept by the cache."})
        own = {name: known.pop(name, None) for name in ("type", "title", "status", "detail", "hint")}
        PluginHubError.__init__(self, own["detail"], hint=own["hint"] or "", **known)
        self.kind = kind
        self.members = None if members is None else dict(members)
        if members is not None:
            vars(self).update(status=own["status"], title=own["title"], errors=dict(known.get("errors") or {}))

    def problem(self) -> dict[str, Any]:
        return _unforeseen(self.kind, place_of(self)) if self.members is None else dict(self.members)


class CachedRefusal(CachedFailure, Refuse):
    """A refusal that was kept."""


class CachedFatal(CachedFailure, Fatal):
    """What no further attempt can help, kept."""


@final
class Stop(Exception):
    """Return or raise in a step to end its chain at once, with `value` as the chain's result. Has no subclasses."""

    def __init__(self, value: Any = None) -> None:
        super().__init__(value)
        self.value = value

    def __init_subclass__(cls) -> None:
        # Each step looks at its result's type: one of another would go on as a value.
        raise HookError(f"{cls.__name__} cannot be a subclass of Stop.", hint="Raise Stop(value).")


class NoTenant(PluginHubError):
    """Tenant data was asked for where no tenant has been entered."""

    title = "No tenant"


class TenantMismatch(PluginHubError):
    """A row, key or connection belongs to another tenant than the current one."""

    title = "Tenant mismatch"


class PublishRefused(PluginHubError):
    """The draft does not make a valid configuration.

    `problems` is a list of `(kind, name, field, message)`: the row each problem belongs to, for the admin to lead to.
    """

    status = 422
    title = "Publish refused"

    def __init__(self, problems: Sequence[tuple[str, str, str, str]]) -> None:
        self.problems = list(problems)
        lines = [
            f"{kind} {name!r}{', ' + field if field else ''}: {message}" for kind, name, field, message in problems
        ]
        errors = {f"{kind}.{name}.{field}".strip("."): message for kind, name, field, message in problems}
        super().__init__("; ".join(lines), errors=errors)


def mark(
    error: BaseException,
    *,
    chain: str | None = None,
    step: str = "",
    registration: str | None = None,
    plugin: str | None = None,
    run: str = "",
) -> None:
    """Note on a travelling error where it passed: a step goes before the steps noted further in.

    What another run noted is dropped: plugins may raise one instance many times.
    """
    before = place_of(error)
    if run and before.run and before.run != run:
        before = Place()
    steps = before.steps if chain is None else ((chain, step), *before.steps)
    set_place(error, Place(steps, before.registration or registration, before.plugin or plugin, before.run or run))


def set_place(error: BaseException, place: Place) -> None:
    try:
        setattr(error, _PLACE, place)
    except AttributeError:  # an exception with __slots__ cannot carry its place
        return


def survivable(error: BaseException) -> BaseException:
    """Return what to raise for what plugin code raised: nothing of a plugin's may end the process or a generator."""
    if isinstance(error, SystemExit):
        instead: BaseException = Fatal("The plugin tried to end the process.", hint="Raise Fatal in its place.")
    elif isinstance(error, StopIteration | StopAsyncIteration):
        instead = RuntimeError(f"The plugin raised {type(error).__name__}.")
    else:
        return error
    instead.__cause__ = error
    return instead


def place_of(error: BaseException) -> Place:
    """Return where an error passed, as `mark` noted it."""
    place = getattr(error, _PLACE, None)
    return place if isinstance(place, Place) else Place()


def problem_of(error: BaseException) -> dict[str, Any]:
    """Render any error as problem members, never with a traceback or the text of an unforeseen error.

    `chain` and `step` are the innermost ones; `path` lists all, outermost first.
    """
    place = place_of(error)
    members = error.problem() if isinstance(error, PluginHubError) else _unforeseen(type(error).__name__, place)
    if place.steps:
        members["chain"], members["step"] = place.steps[-1]
        members["path"] = [f"{chain} › {step}" for chain, step in place.steps]
    if place.registration:
        members["registration"] = place.registration
    if place.plugin:
        members["plugin"] = place.plugin
    return members


def _unforeseen(kind: str, place: Place) -> dict[str, Any]:
    where = f" at {place}" if place.steps or place.plugin else ""
    return {
        "type": "about:blank",
        "title": "A plugin failed" if place.plugin else "Internal error",
        "status": 500,
        "detail": f"{kind}{where}.",
    }
