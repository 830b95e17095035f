"""Whether plugins are there, take their configuration, get what they require, and understand one another in a chain."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from itertools import pairwise, product
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from pluginhub import injection, loading, providers
from pluginhub.configuration.constraints import Problem, used_in_order
from pluginhub.configuration.keys import FieldProblem, unknown_keys
from pluginhub.configuration.passing import end, stages
from pluginhub.configuration.values import ChainSpec, CompositionSpec, Configuration, RegistrationSpec
from pluginhub.encryption import SealError, unseal_config
from pluginhub.exceptions import DependencyError, NotReady
from pluginhub.injection import Missing, SeveralSuppliers, Suppliers, provided_by
from pluginhub.loading import Entry
from pluginhub.plugins import CompositePlugin, Plugin
from pluginhub.types import Tenant

__all__ = ["Plugins", "mismatch"]


class Plugins:
    """The plugins one tenant may use, as one validation sees them. Lives as long as that validation."""

    def __init__(
        self,
        tenant: Tenant,
        entries: Mapping[str, Entry],
        allowed: Collection[str] | None,
        live: Configuration | None,
    ) -> None:
        self._tenant = tenant
        self._entries = entries
        self._allowed = allowed
        self._live = live
        self._classes: dict[str, type[Plugin] | None] = {}

    def may_have(self, plugin: str, hook: str) -> bool:
        """Say whether a plugin has a hook, as far as its source tells; what cannot be read is believed."""
        entry = self._entries.get(plugin)
        if entry is None or entry.problem:
            return True
        return hook in entry.hooks or (hook == "process" and entry.is_composite)

    def problems(self, spec: RegistrationSpec | CompositionSpec) -> list[FieldProblem]:
        """Return what is wrong with the plugin a target names, or with its configuration."""
        if not spec.plugin:
            return []
        if self._allowed is not None and spec.plugin not in self._allowed:
            return [("plugin", f"This tenant may not use the plugin {spec.plugin!r}.")]
        absent = self._absent(spec.plugin)
        if absent:
            return [] if self._is_live(spec) else [("plugin", absent)]
        cls = self._classes[spec.plugin]
        if isinstance(spec, CompositionSpec) and not (cls and issubclass(cls, CompositePlugin)):
            return [("plugin", f"The plugin {spec.plugin!r} is no CompositePlugin and cannot be a parent.")]
        return [] if cls is None else self._unfit(cls, spec)

    def mismatches(self, configuration: Configuration, spec: ChainSpec | CompositionSpec) -> Iterator[tuple[str, str]]:
        """Yield `(field, message)`, such as `1.target`, for each that does not take what the one before it returns."""
        for index, (before, after) in enumerate(pairwise(stages(spec)), 1):
            for giver, (field, taker) in product(before.gives, after.takes.items()):
                reason = mismatch(self.output_of(configuration, giver), self.input_of(configuration, taker))
                if reason:
                    yield f"{index}.{field}", f"{taker!r} does not take what {giver!r} returns: {reason}"

    def unserved(self, configuration: Configuration) -> list[Problem]:
        """Return why plugins would not get what they require: from the hub, from one another, or from providers.

        Not of those that are live as they are: a lost provider must not keep an operator from publishing something
        else. Makes no service.
        """
        specs = {spec.name: spec for _, spec in configuration.targets() if spec.enabled}
        classes = {name: self._classes.get(getattr(spec, "plugin", "")) for name, spec in specs.items()}
        giving = [name for name, cls in classes.items() if cls is not None and provided_by(cls)]
        suppliers = Suppliers(
            lambda _: giving, classes.get, lambda name: used_in_order(specs[name]) if name in specs else ()
        )
        fresh = {name for name, spec in specs.items() if not self._serves(spec)}
        found: dict[Problem, None] = {}
        for name, cls in classes.items():
            for where, message in self._unserved(name, cls, suppliers, fresh) if cls is not None else ():
                found[(configuration.kind_of(where) or "", where, "plugin", message)] = None
        return list(found)

    def _unserved(
        self, name: str, cls: type[Plugin], suppliers: Suppliers, fresh: Collection[str]
    ) -> Iterator[tuple[str, str]]:
        """Yield each problem of one plugin, with the fresh registration that it comes from."""
        services = providers.of(self._tenant)

        def find(wanted: Any) -> None:
            try:
                suppliers.of(wanted, name)
            except Missing:
                services.check(wanted)

        for problem in injection.problems(cls, providers.OWN, find):
            involved = [*problem.names, name] if isinstance(problem, SeveralSuppliers) else [name]
            for where in [each for each in involved if each in fresh][:1]:
                yield where, str(problem)
        if name in fresh:
            yield from _circle(name, suppliers)

    def _serves(self, spec: RegistrationSpec | ChainSpec | CompositionSpec) -> bool:
        """Say whether a target is live as it is."""
        if isinstance(spec, ChainSpec) or not self._is_live(spec) or self._live is None:
            return False
        return self._live.spec(spec.name).enabled

    def _absent(self, plugin: str) -> str:
        """Return why a plugin cannot be used; else keep its class."""
        entry = self._entries.get(plugin)
        if entry is None:
            near = get_close_matches(plugin, sorted(self._entries), n=3, cutoff=0.5)
            guess = f" Did you mean {', '.join(map(repr, near))}?" if near else ""
            return f"No plugin named {plugin!r} is installed.{guess}"
        if entry.problem:
            return entry.problem
        try:
            self._classes[plugin] = loading.load(plugin)
        except NotReady as error:
            return str(error)
        return ""

    def _is_live(self, spec: RegistrationSpec | CompositionSpec) -> bool:
        if self._live is None or self._live.kind_of(spec.name) is None:
            return False
        live = self._live.spec(spec.name)
        return not isinstance(live, ChainSpec) and (live.plugin, live.config) == (spec.plugin, spec.config)

    def _unfit(self, cls: type[Plugin], spec: RegistrationSpec | CompositionSpec) -> list[FieldProblem]:
        try:
            data = unseal_config(spec.config, tenant=self._tenant, registration=spec.name)
            if spec.config_version != cls.config_version:
                data = cls.migrate_config(data, spec.config_version)
            if cls.Config is not None:
                fitted = cls.Config.model_validate(data)
                return [] if self._is_live(spec) else [*unknown_keys(fitted, data)]
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            return [(".".join(["config", *map(str, each["loc"])]), each["msg"]) for each in found]
        except SealError as error:
            return [("config", str(error))]
        except Exception as error:  # the author's migrate_config
            kind = type(error).__name__
            return [("config", f"migrate_config of {spec.plugin!r} failed with {kind}: {error}")]
        return []

    # What goes along a chain

    def input_of(self, configuration: Configuration, name: str) -> type[BaseModel] | None:
        """Return what a target takes, as far as it is known."""
        first = end(configuration, name, 0)
        cls = self._classes.get(first.plugin) if first else None
        return cls.Input if cls else None

    def output_of(self, configuration: Configuration, name: str) -> type[BaseModel] | None:
        """Return what a target gives, as far as it is known."""
        last = end(configuration, name, -1)
        cls = self._classes.get(last.plugin) if last else None
        return cls.Output if cls else None


def _circle(name: str, suppliers: Suppliers) -> Iterator[tuple[str, str]]:
    try:
        path = suppliers.cycle(name)
    except DependencyError:
        return  # told already
    if name in path:
        start = path.index(name)
        turned = [*path[start:-1], *path[:start], name]
        yield name, f"This needs itself: {' → '.join(turned)}."


def mismatch(gives: Any, takes: Any) -> str:
    """Return why values of one type cannot be those of the other, as far as their schemas surely tell."""
    if gives is None or takes is None or gives is takes or _is_kind_of(gives, takes):
        return ""
    given, taken = _schema(gives, "serialization"), _schema(takes, "validation")
    kinds = given.get("type"), taken.get("type")
    if all(kinds) and kinds[0] != kinds[1] and kinds != ("integer", "number"):
        return f"it is {kinds[0]}, not {kinds[1]}."
    offered: dict[str, Any] = given.get("properties", {})
    if kinds != ("object", "object") or given.get("additionalProperties"):
        return ""
    for field in taken.get("required", ()):
        if field not in offered:
            return f"the field {field!r} is missing."
    for field, wanted in taken.get("properties", {}).items():
        kinds = offered.get(field, {}).get("type"), wanted.get("type")
        if all(kinds) and kinds[0] != kinds[1] and kinds != ("integer", "number"):
            return f"the field {field!r} is {kinds[0]}, not {kinds[1]}."
    return ""


def _is_kind_of(gives: Any, takes: Any) -> bool:
    return isinstance(gives, type) and isinstance(takes, type) and issubclass(gives, takes)


def _schema(kind: Any, mode: Literal["serialization", "validation"]) -> dict[str, Any]:
    try:
        return TypeAdapter(kind).json_schema(mode=mode)
    except PydanticUserError:  # JSON knows nothing like it
        return {}
