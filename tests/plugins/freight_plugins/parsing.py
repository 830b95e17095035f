"""Shipments out of spreadsheets."""

from __future__ import annotations

import csv
import io
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from freight_plugins.shapes import Shipment
from pluginhub import Context, Plugin, Refuse

__all__ = ["ParseShipments"]


class ParseShipments(Plugin):
    """Read shipments from lines of CSV text, the first of which names the columns.

    Gives `{"shipments": […], "rejected": [{"line", "errors"}]}`; a line counts from 1, the head included.
    """

    class Config(BaseModel):
        delimiter: Literal[",", ";", "tab"] = ","
        on_error: Literal["collect", "refuse"] = Field("collect", description="refuse: all, if one line is wrong")
        most_lines: int = Field(10_000, ge=1)

    config: Config

    class Input(BaseModel):
        text: str

    class Output(BaseModel):
        shipments: list[dict[str, Any]]
        rejected: list[dict[str, Any]]

    def process(self, value: dict[str, Any], context: Context) -> dict[str, Any]:
        delimiter = "\t" if self.config.delimiter == "tab" else self.config.delimiter
        reader = csv.DictReader(io.StringIO(value["text"]), delimiter=delimiter, skipinitialspace=True)
        missing = [name for name in Shipment.model_fields if name not in (reader.fieldnames or ())]
        if missing:
            raise Refuse("The first line must name the columns.", errors=dict.fromkeys(missing, "Missing."))
        result: dict[str, Any] = {"shipments": [], "rejected": []}
        for count, row in enumerate(reader, start=1):
            if count > self.config.most_lines:
                raise Refuse(f"There are more than {self.config.most_lines:,} shipments.")
            self._take(reader.line_num, row, result)
        return result

    def _take(self, line: int, row: dict[str, Any], result: dict[str, Any]) -> None:
        row = {key: text for key, text in row.items() if key and text is not None}
        try:
            shipment = Shipment.model_validate_strings(row).model_dump()
        except ValidationError as error:
            errors = {".".join(map(str, each["loc"])): each["msg"] for each in error.errors(include_url=False)}
            if self.config.on_error == "refuse":
                raise Refuse(f"Line {line} is no shipment.", errors=errors) from None
            result["rejected"].append({"line": line, "errors": errors})
        else:
            result["shipments"].append(shipment)
