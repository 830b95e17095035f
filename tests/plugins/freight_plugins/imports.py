"""The dataset in the tenant's own storage."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from pydantic import BaseModel, Field

from freight_plugins.airports import DATASET, by_icao
from pluginhub import Context, Plugin, job

__all__ = ["AirportsImport"]


class AirportsImport(Plugin):
    """Import the world's airports into storage, in batches, as the job `import`; run it to see what is there.

    A batch is one stored value, `batch:00001` and so on: 28,298 single rows would take minutes. Keys depend on
    nothing but the data, and a batch of the same dataset is not written again, so a job that was killed goes on where
    it was. Data of the job, all optional: `{"country": "CH"}`.
    """

    class Config(BaseModel):
        batch: int = Field(500, ge=1, le=5000, description="airports a batch")

    config: Config

    @job("import")
    def fetch(self, data: Any, context: Context) -> dict[str, Any]:
        country = (data or {}).get("country")
        label = f"{DATASET}, {country or 'all countries'}, {self.config.batch} a batch"
        airports: list[Any] = [each for each in by_icao().values() if country in (None, each["country"])]
        done = written = 0
        for number, batch in enumerate(_batches(airports, self.config.batch), start=1):
            key = f"batch:{number:05}"
            if context.storage.get(key, {}).get("dataset") != label:
                context.storage.set(key, {"dataset": label, "airports": batch})
                written += 1
            done += len(batch)
            context.progress(done, len(airports), f"{batch[-1]['name']}, {batch[-1]['country']}")
        self._drop_older(label, context)
        summary: dict[str, Any] = {"dataset": label, "airports": done, "written": written}
        context.storage.set("imported", summary)
        context.metrics.counter("airports_imported", "Airports written to storage").inc(done)
        return summary

    def process(self, value: Any, context: Context) -> Any:
        """What the last import left, or `None` before the first."""
        return context.storage.get("imported")

    def _drop_older(self, label: str, context: Context) -> None:
        """Remove batches that a larger import before this one left behind."""
        after = ""
        while page := context.storage.list("batch:", after=after, limit=50):
            for key, batch in page:
                if batch["dataset"] != label:
                    context.storage.delete(key)
            after = page[-1][0]


def _batches(airports: list[Any], size: int) -> Iterator[list[Any]]:
    rest = iter(airports)
    while batch := list(islice(rest, size)):
        yield batch
