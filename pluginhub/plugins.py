"""What a plugin author subclasses. Read this file top to bottom: the hooks stand in the order they are called.

Every hook is optional and may be `def` or `async def`; both work in synchronous and in asynchronous hosts.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel

from pluginhub.exceptions import HookError

__all__ = ["HOOKS", "CompositePlugin", "Plugin", "Strategy", "hook_of", "job", "jobs_of"]

F = TypeVar("F", bound=Callable[..., Any])
P = TypeVar("P", bound="Plugin")

Strategy = Literal["sequence", "parallel", "first", "merge"]
"""How a composite's children run: one after the other, side by side (a list), first that succeeds, or side by side
into a mapping under each child's key."""

HOOKS = (
    "activate",
    "deactivate",
    "cache_key",
    "process",
    "stream",
    "intercept",
    "get_state",
    "restore_state",
    "health",
)


class Plugin:
    """One behaviour. An instance serves one registration of one tenant in one process, and many runs at once.

    Hooks, in the order they are called; define the ones you need:

    `activate(context)`
        Once, before the first run. Open resources here. May call `context.middleware.use(f, scope=…)`,
        `context.jobs.process(name, f)` and `context.provide(Type, instance)`. If it raises, the registration is not
        ready and `deactivate` is not called.
    `restore_state(state)`
        After `activate`, when an older instance of this registration handed its state over: what `get_state` returned,
        migrated to this class's `state_version`. If it raises, the older instance serves on.
    `cache_key(value, context)`
        Before `process`, where the operator has this registration's results kept: a `str` that tells this input's
        result from others, or `None` not to keep it. Without it the input as JSON is the key. Say here what else the
        result depends on, above all the caller: else what one may see is given to all.
    `process(value, context)`
        Each run: takes a value, returns the result. Raise `Refuse`, `RetryLater` or `Fatal` to choose what happens
        next; return or raise `Stop(value)` to end the chain.
    `stream(params, context)`
        A generator, sync or async; it is pulled as the client asks. Yield plain data, or `Item(data, cursor=…)`,
        and start after `context.cursor` when that is not `None`.
    `intercept(request, call_next)`
        For interceptors: around an HTTP request, a call, a job or a stream.
    `health()`
        Raise, or return `False`, when this instance cannot serve. Asked before it takes over from an older one.
    `get_state()`
        Before the instance is replaced: plain JSON for its successor. Reads only: the instance may have to serve on.
    `deactivate(context)`
        Once, after the last run; also when it came up but a child of it, or a later sibling, could not.

    Optional pydantic models, as nested classes: `Config` (the admin's form), `Input` and `Output` (checked around
    `process`), `Params` (checked before `stream`).
    """

    Config: ClassVar[type[BaseModel] | None] = None
    Input: ClassVar[type[BaseModel] | None] = None
    Output: ClassVar[type[BaseModel] | None] = None
    Params: ClassVar[type[BaseModel] | None] = None

    provides: ClassVar[tuple[type, ...]] = ()
    """The types that the tenant's other plugins may take in their constructors while this one is enabled. An instance
    of each is given by `context.provide` in `activate`, unless the plugin itself is one."""

    before: ClassVar[tuple[str, ...]] = ()
    """The plugins, by their names in the catalog, whose interceptors this one's stand outside of: a request reaches it
    earlier. Read without importing, so write strings: `before = ("signing",)`. Who is not bound does not count."""

    after: ClassVar[tuple[str, ...]] = ()
    """The plugins whose interceptors this one's stand inside of: a request reaches it later. Written like `before`."""

    config_version: ClassVar[int] = 1
    state_version: ClassVar[int] = 1

    def __init__(self, config: Any = None) -> None:
        """Keep the configuration; override to name the services you need, by type."""
        if config is None:  # a constructor that does not hand it on must not lose what the hub has put there
            config = vars(self).get("config")
        self.config: Any = config if config is not None or self.Config is None else self.Config()

    @classmethod
    def migrate_config(cls, data: dict[str, Any], from_version: int) -> dict[str, Any]:
        """Turn configuration stored by an older `config_version` into today's shape. Pure; called before validation."""
        return data

    @classmethod
    def migrate_state(cls, state: Any, from_version: int) -> Any:
        """Turn what `get_state` of another `state_version` returned into today's shape. Pure."""
        return state


class CompositePlugin(Plugin):
    """A parent with sub-plugins, activated parent first, then children in order, and torn down in reverse.

    Without a `process` of its own it runs its children by `strategy`. With one, call a child by
    `context.call(child, value)` or `await context.acall(child, value)`.
    """

    strategy: ClassVar[Strategy] = "sequence"

    def __init__(self, config: Any = None) -> None:
        super().__init__(config)

    @property
    def children(self) -> tuple[Plugin, ...]:
        """The sub-plugins, in order."""
        return tuple(member for _, member, _ in self._members)

    @property
    def members(self) -> tuple[tuple[str, Plugin, bool], ...]:
        """Each sub-plugin as `(key, plugin, required)`, in order."""
        return tuple(self._members)

    def add_plugin(self, plugin: P, *, key: str | None = None, required: bool = True) -> P:
        """Append a sub-plugin and return it. `key` (or its class name) names it in results and error places.

        An optional one (`required=False`) that fails is left out of the result instead of failing the parent.
        """
        if not isinstance(plugin, Plugin):
            raise HookError(
                f"{plugin!r} cannot be a sub-plugin of {type(self).__name__}: it is no Plugin instance.",
                hint="Pass an instance of a Plugin subclass.",
            )
        if plugin is self or (isinstance(plugin, CompositePlugin) and self in plugin.walk()):
            raise HookError(f"{type(plugin).__name__} cannot contain itself.", hint="A composition is a tree.")
        key = key or type(plugin).__name__
        if any(key == taken for taken, _, _ in self._members):
            raise HookError(
                f"{type(self).__name__} already has a sub-plugin with the key {key!r}.", hint="Pass another key=…."
            )
        self._members.append((key, plugin, required))
        return plugin

    def walk(self) -> Iterator[Plugin]:
        """Yield this plugin and all below it, in activation order."""
        yield self
        for child in self.children:
            yield from child.walk() if isinstance(child, CompositePlugin) else (child,)

    @property
    def _members(self) -> list[tuple[str, Plugin, bool]]:
        # Not set in __init__: an author's constructor need not call ours.
        members: list[tuple[str, Plugin, bool]] = self.__dict__.setdefault("_pluginhub_members", [])
        return members


def job(name: str) -> Callable[[F], F]:
    """Mark a method `(self, data, context)` as the handler of jobs named `<registration>.<name>`."""
    if not name or "." in str(name):
        raise HookError(f"@job needs a name without dots, not {name!r}.", hint='Write @job("import") above the method.')

    def keep(method: F) -> F:
        method.__pluginhub_job__ = name  # type: ignore[attr-defined]
        return method

    return keep


def jobs_of(plugin: Plugin | type[Plugin]) -> dict[str, str]:
    """Return the `@job` handlers of a plugin as `{job name: method name}`."""
    owner = plugin if isinstance(plugin, type) else type(plugin)
    return {
        member.__pluginhub_job__: name
        for name, member in inspect.getmembers(owner, callable)
        if hasattr(member, "__pluginhub_job__")
    }


def hook_of(plugin: Plugin, name: str) -> Callable[..., Any] | None:
    """Return the bound hook `name` of a plugin, or `None` where its author did not define it."""
    hook = getattr(plugin, name, None)
    if hook is not None and not callable(hook):
        raise HookError(f"{type(plugin).__name__}.{name} is a hook's name and must be a method, not {hook!r}.")
    return hook
