"""The JSON schemas of a tenant's targets, from their plugins' pydantic models. Imports plugins at their first use."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from pluginhub import loading
from pluginhub.configuration import ChainSpec, CompositionSpec, Configuration
from pluginhub.exceptions import PluginHubError

__all__ = ["Schemas"]

Side = Literal["Input", "Output", "Params"]


class Schemas:
    """Collects what is referred to. Lives as long as one document is written."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self.components: dict[str, Any] = {}

    def of(self, target: str, side: Side) -> dict[str, Any]:
        """Return the schema of what a target takes or gives; one that fits anything where nobody said."""
        plugin = self._plugin(target, side)
        if plugin is None:
            return {}
        try:
            model = getattr(loading.load(plugin), side)
            return self._reference(f"{plugin}.{side}", model, side) if model else {}
        except PluginHubError as error:
            return {"description": f"Not known: {error}"}
        except (PydanticUserError, PydanticSchemaGenerationError) as error:
            return {"description": f"Not known: {type(error).__name__}"}

    def _plugin(self, target: str, side: Side) -> str | None:
        """Return the plugin a value meets first, or a result comes from last."""
        spec = self._configuration.spec(target)
        if isinstance(spec, ChainSpec):
            one = _end(spec, side)
            return self._plugin(one, side) if one else None
        if isinstance(spec, CompositionSpec):
            return spec.plugin or None
        return spec.plugin

    def _reference(self, name: str, model: type[BaseModel], side: Side) -> dict[str, Any]:
        name = _component(name)
        if name not in self.components:
            template = f"#/components/schemas/{name}.{{model}}"
            mode: Literal["validation", "serialization"] = "serialization" if side == "Output" else "validation"
            schema = model.model_json_schema(ref_template=template, mode=mode)
            for inner, definition in schema.pop("$defs", {}).items():
                self.components[f"{name}.{inner}"] = definition
            self.components[name] = schema
        return {"$ref": f"#/components/schemas/{name}"}


def _end(spec: ChainSpec, side: Side) -> str | None:
    """Return the target that surely takes what the chain takes, or gives what it gives, unless a plugin stops it."""
    if not spec.steps:
        return None
    step = spec.steps[0 if side == "Input" else -1]
    if side == "Input":
        return None if step.condition or step.input else step.target
    return None if step.condition or step.output or step.on_failure != "fail" else step.target


def _component(name: str) -> str:
    """A component's key may hold letters, digits and `.-_`."""
    return "".join(each if each.isascii() and (each.isalnum() or each in ".-_") else "_" for each in name)
