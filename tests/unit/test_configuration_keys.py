"""Keys of a configuration that its model drops in silence."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import AliasChoices, BaseModel, Field, RootModel, model_validator

from pluginhub.configuration.keys import unknown_keys


class Server(BaseModel):
    host: str = ""
    port: int = Field(25, alias="Port")
    user: str = Field("", validation_alias=AliasChoices("user", "login"))  # type: ignore[pydantic-alias]


class Open(BaseModel, extra="allow"):
    server: Server = Server()


class Servers(RootModel[dict[str, Server]]):
    pass


class Reshaped(BaseModel):
    host: str = ""

    @model_validator(mode="before")
    @classmethod
    def _from_address(cls, data: Any) -> Any:
        return {"host": data["address"]}


class Config(BaseModel):
    percent: float = 0
    server: Server | None = None
    servers: list[Server] = []
    named: Servers = Servers({})
    open: Open = Open()
    reshaped: Reshaped | None = None


def unknown(data: dict[str, Any]) -> list[str]:
    return [field for field, _ in unknown_keys(Config.model_validate(data), data)]


def test_a_typo_names_what_was_meant() -> None:
    data = {"precent": 3}
    assert [*unknown_keys(Config.model_validate(data), data)] == [
        ("config.precent", "There is no field 'precent'. Did you mean 'percent'?")
    ]


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"server": {"hots": "x"}}, "config.server.hots"),
        ({"servers": [{"host": "x"}, {"hots": "x"}]}, "config.servers.1.hots"),
        ({"named": {"main": {"hots": "x"}}}, "config.named.main.hots"),
        ({"open": {"server": {"hots": "x"}}}, "config.open.server.hots"),
    ],
)
def test_it_is_found_wherever_a_model_stands(data: dict[str, Any], field: str) -> None:
    assert unknown(data) == [field]


@pytest.mark.parametrize("data", [{"Port": 1}, {"port": 1}, {"user": "x"}, {"login": "x"}])
def test_fields_may_be_given_by_name_and_by_alias(data: dict[str, Any]) -> None:
    assert unknown({"server": data}) == []


def test_a_model_that_allows_more_or_reshapes_its_input_is_believed() -> None:
    assert unknown({"open": {"anything": 1}, "reshaped": {"address": "x"}}) == []
