"""What a tenant demands of a shipment."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from pluginhub import Context, Plugin, Refuse

__all__ = ["ValidateShipment"]

KINDS: dict[str, Any] = {"text": str, "number": float, "whole number": int, "yes or no": bool}


class Demand(BaseModel):
    """One field of the schema."""

    field: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    kind: Literal["text", "number", "whole number", "yes or no"] = "text"
    required: bool = True
    at_least: float | None = Field(None, description="a number's least value, or a text's least length")
    at_most: float | None = Field(None, description="a number's greatest value, or a text's greatest length")
    choices: list[str] = Field([], description="the only texts allowed; none: any")


class ValidateShipment(Plugin):
    """Check a shipment against a schema made in the form, and refuse it with what is wrong, field by field.

    Passes the value on as it came. There are no patterns: a tenant's regular expression could take for ever.
    """

    class Config(BaseModel):
        demands: list[Demand] = [
            Demand(field="origin", at_least=3, at_most=3),
            Demand(field="destination", at_least=3, at_most=3),
            Demand(field="weight_kg", kind="number", at_least=0.1, at_most=50_000),
        ]
        allow_others: bool = Field(True, description="whether further fields may be there")

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        settings = ConfigDict(strict=True, allow_inf_nan=False, extra="allow" if config.allow_others else "forbid")
        fields: dict[str, Any] = {demand.field: _field(demand) for demand in config.demands}
        self._schema = create_model("Shipment", __config__=settings, **fields)

    def process(self, value: Any, context: Context) -> Any:
        try:
            self._schema.model_validate(value)
        except ValidationError as error:
            errors = {".".join(map(str, each["loc"])): each["msg"] for each in error.errors(include_url=False)}
            raise Refuse("The shipment does not fit the schema.", errors=errors) from None
        return value


def _field(demand: Demand) -> tuple[Any, Any]:
    kind = KINDS[demand.kind]
    if demand.kind == "text":
        kind = Literal[tuple(demand.choices)] if demand.choices else Annotated[str, _length(demand)]
    elif kind is not bool:
        kind = Annotated[kind, Field(ge=demand.at_least, le=demand.at_most)]
    return (kind, ...) if demand.required else (kind | None, None)


def _length(demand: Demand) -> Any:
    low, high = (None if bound is None else int(bound) for bound in (demand.at_least, demand.at_most))
    return Field(min_length=low, max_length=high)
