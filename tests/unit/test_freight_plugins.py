"""The example plugins do what their docstrings say, alone and in chains. No service is needed."""

from __future__ import annotations

import asyncio
import csv
import io
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import airportsdata
import freight_plugins
import pytest
from django.http import HttpRequest, HttpResponse
from freight_plugins.airports import by_iata, by_icao
from freight_plugins.alternatives import NearbyAirports
from freight_plugins.audits import AuditCalls
from freight_plugins.counting import CountQuotes
from freight_plugins.deduplication import Deduplicate
from freight_plugins.distances import GreatCircle, kilometres
from freight_plugins.embargoes import Embargo
from freight_plugins.enrichment import EnrichShipment
from freight_plugins.exchange import ConvertCurrency, ExampleRates, ExchangeRates
from freight_plugins.imports import AirportsImport
from freight_plugins.offers import CheapestOffer
from freight_plugins.parsing import ParseShipments
from freight_plugins.rates import FlatZones, RateByWeight, zone_of
from freight_plugins.redaction import Redact
from freight_plugins.requests import ServerTiming
from freight_plugins.resolving import ResolveAirports
from freight_plugins.rounding import RoundPrice
from freight_plugins.scoring import RiskScore
from freight_plugins.slowness import SlowCalls
from freight_plugins.streams import AirportPages, Airports
from freight_plugins.surcharges import ElevationSurcharge, TimeZoneSurcharge
from freight_plugins.transport import TransportHours
from freight_plugins.validation import ValidateShipment
from prometheus_client import REGISTRY
from pydantic import ValidationError

from pluginhub import Fatal, Item, Plugin, Refuse, chains, loading
from pluginhub.context import Storage
from pluginhub.exceptions import InvalidInput
from pluginhub.interceptors import Invocation, compose
from pluginhub.ordering import Layer, ordered
from pluginhub.plugins import jobs_of
from pluginhub.testing import MemoryJobs, MemoryStorage, active, build, context
from pluginhub.types import HOST

ZURICH_LA_PAZ = {"origin": "ZRH", "destination": "LPB", "weight_kg": 120}
ZURICH_NEW_YORK = {"origin": "ZRH", "destination": "JFK", "weight_kg": 120}
ZURICH_GENEVA = {"origin": "ZRH", "destination": "GVA", "weight_kg": 10}


def resolved(shipment: dict[str, Any]) -> dict[str, Any]:
    """A shipment with airports and distance."""
    value: dict[str, Any] = chains.execute([ResolveAirports(), GreatCircle()], shipment)
    return value


def priced(price: float, currency: str = "EUR") -> dict[str, Any]:
    line = {"text": "Carriage", "amount": price}
    return {**resolved(ZURICH_LA_PAZ), "price": price, "currency": currency, "lines": [line]}


def by_weight() -> list[Plugin]:
    return [ResolveAirports(), GreatCircle(), build(RateByWeight), build(ElevationSurcharge)]


def by_zone() -> list[Plugin]:
    return [ResolveAirports(), GreatCircle(), build(FlatZones), build(RoundPrice)]


class TestDistribution:
    def test_every_entry_point_is_listed_without_problem_and_loads(self) -> None:
        ours = [e for e in loading.catalog().values() if e.distribution == "pluginhub-freight-plugins"]
        assert len(ours) == 25
        assert [e.problem for e in ours if e.problem] == []
        assert all(e.doc for e in ours)
        assert {loading.load(e.name).__name__ for e in ours} == {e.qualname for e in ours}

    def test_what_the_catalog_read_is_what_the_classes_say(self) -> None:
        for entry in loading.catalog().values():
            plugin = loading.load(entry.name)
            models = {name for name in ("Config", "Input", "Output", "Params") if getattr(plugin, name) is not None}
            assert (set(entry.has), set(entry.jobs)) == (models, set(jobs_of(plugin)))
            assert (entry.before, entry.after) == (plugin.before, plugin.after)
            assert {hook for hook in entry.hooks if not callable(getattr(plugin, hook))} == set()
            assert entry.doc.splitlines()[0] in (plugin.__doc__ or "")

    def test_both_colours_are_there(self) -> None:
        colours = {colour for e in loading.catalog().values() for colour in e.colours.values()}
        assert colours == {"sync", "async"}

    def test_every_default_configuration_is_valid(self) -> None:
        for entry in loading.catalog().values():
            config = loading.load(entry.name).Config
            assert config is None or config() is not None

    def test_no_data_file_is_shipped(self) -> None:
        folder = Path(freight_plugins.__file__).parent
        assert {path.suffix for path in folder.iterdir() if path.is_file()} == {".py", ".typed"}

    def test_the_dataset_is_the_real_one(self) -> None:
        assert len(by_icao()) == len(airportsdata.load("ICAO")) > 28_000
        assert by_iata()["ZRH"]["icao"] == "LSZH"


class TestChains:
    def test_two_chains_answer_the_same_request_differently(self) -> None:
        weight = chains.execute(by_weight(), ZURICH_LA_PAZ)
        zone = chains.execute(by_zone(), ZURICH_LA_PAZ)
        assert (weight["price"], weight["currency"]) == (747.66, "EUR")
        assert (zone["price"], zone["currency"]) == (870.0, "USD")
        assert [line["text"] for line in weight["lines"]] == [
            "120 kg at 1.9 EUR",
            "10,395 km",
            "LPB lies 13,355 ft high",
        ]
        assert [line["text"] for line in zone["lines"]] == ["3 × 50 kg, intercontinental"]

    @pytest.mark.parametrize("chain", [by_weight, by_zone])
    @pytest.mark.parametrize("shipment", [ZURICH_LA_PAZ, ZURICH_NEW_YORK, ZURICH_GENEVA])
    def test_a_price_is_the_sum_of_its_lines(self, chain: Callable[[], list[Plugin]], shipment: dict[str, Any]) -> None:
        quote = chains.execute(chain(), shipment)
        assert quote["price"] == pytest.approx(sum(line["amount"] for line in quote["lines"]), abs=0.001)

    async def test_they_run_in_asynchronous_code_alike(self) -> None:
        shipment = {**ZURICH_NEW_YORK, "contact": "me@example.com"}
        plugins = [*by_weight(), EnrichShipment(), build(Redact)]
        expected = await asyncio.to_thread(chains.execute, plugins, shipment)
        assert await chains.aexecute(plugins, shipment) == expected
        assert expected["contact"] == "***"
        assert expected["route"]["to"] == "New York, US"

    def test_the_hours_of_transport(self) -> None:
        plugins = [ResolveAirports(), GreatCircle(), build(TransportHours)]
        assert chains.execute(plugins, ZURICH_GENEVA)["hours"] == 10.3
        assert chains.execute(plugins, ZURICH_LA_PAZ)["hours"] == 24.9

    def test_the_value_given_is_left_as_it_is(self) -> None:
        shipment = dict(ZURICH_LA_PAZ)
        chains.execute(by_weight(), shipment)
        assert shipment == ZURICH_LA_PAZ


class TestResolving:
    def test_codes_in_lower_case_are_understood(self) -> None:
        value = chains.execute([ResolveAirports()], {**ZURICH_NEW_YORK, "origin": " zrh "})
        assert value["origin"] == "ZRH"
        assert value["airports"]["origin"]["city"] == "Zurich"

    def test_unknown_codes_are_refused_by_field_with_near_misses(self) -> None:
        with pytest.raises(Refuse) as caught:
            chains.execute([ResolveAirports()], {"origin": "ZRR", "destination": "Q0Q", "weight_kg": 1})
        assert set(caught.value.errors) == {"origin", "destination"}
        assert caught.value.errors["origin"].startswith("No airport has the code 'ZRR'. Did you mean ")

    def test_a_city_leads_to_its_airport(self) -> None:
        with pytest.raises(Refuse) as caught:
            chains.execute([ResolveAirports()], {**ZURICH_NEW_YORK, "origin": "Zurich"})
        assert caught.value.errors == {"origin": "No airport has the code 'ZURICH'. Did you mean ZRH?"}

    @pytest.mark.parametrize("field", ["origin", "destination", "weight_kg"])
    def test_a_missing_field_is_named(self, field: str) -> None:
        shipment = {key: value for key, value in ZURICH_NEW_YORK.items() if key != field}
        with pytest.raises(InvalidInput) as caught:
            chains.execute([ResolveAirports()], shipment)
        assert set(caught.value.errors) == {field}

    @pytest.mark.parametrize("weight", ["120", 0, -1, float("nan"), float("inf"), 1e9, None, True])
    def test_a_weight_that_is_none_is_named(self, weight: Any) -> None:
        with pytest.raises(InvalidInput) as caught:
            chains.execute([ResolveAirports()], {**ZURICH_NEW_YORK, "weight_kg": weight})
        assert set(caught.value.errors) == {"weight_kg"}


class TestDistances:
    @pytest.mark.parametrize(
        ("a", "b", "expected"), [("ZRH", "JFK", 6322), ("SYD", "LHR", 17020), ("ZRH", "ZRH", 0), ("AKL", "SCL", 9664)]
    )
    def test_known_distances(self, a: str, b: str, expected: float) -> None:
        assert kilometres(by_iata()[a], by_iata()[b]) == pytest.approx(expected, rel=0.005, abs=0.1)

    def test_it_is_the_same_both_ways_and_at_most_half_the_globe(self) -> None:
        codes = list(by_iata())[::400]
        for a in codes:
            for b in codes:
                there, back = kilometres(by_iata()[a], by_iata()[b]), kilometres(by_iata()[b], by_iata()[a])
                assert there == pytest.approx(back)
                assert there <= 20_016


class TestRates:
    @pytest.mark.parametrize(("weight", "per_kg"), [(99.9, 3), (100, 2), (499, 2), (500, 1)])
    def test_the_tier_follows_from_the_weight(self, weight: float, per_kg: float) -> None:
        tiers = [{"from_kg": 500, "per_kg": 1}, {"from_kg": 0, "per_kg": 3}, {"from_kg": 100, "per_kg": 2}]
        plugin = build(RateByWeight, {"tiers": tiers, "per_1000_km": 0})
        value = plugin.process({**resolved(ZURICH_GENEVA), "weight_kg": weight}, context())
        assert value["price"] == pytest.approx(weight * per_kg)

    def test_a_small_shipment_costs_the_minimum(self) -> None:
        value = build(RateByWeight).process(resolved(ZURICH_GENEVA), context())
        assert value["price"] == 45.0
        assert value["lines"][-1]["text"] == "Up to the minimum charge"

    def test_tiers_that_leave_a_weight_out_are_refused(self) -> None:
        with pytest.raises(ValidationError, match="one tier must begin at 0 kg"):
            build(RateByWeight, {"tiers": [{"from_kg": 5, "per_kg": 1}]})

    @pytest.mark.parametrize(
        ("a", "b", "zone"),
        [
            ("Europe/Zurich", "Europe/Zurich", "local"),
            ("Europe/Zurich", "Europe/London", "regional"),
            ("Europe/Zurich", "America/New_York", "intercontinental"),
        ],
    )
    def test_the_zone_follows_from_the_time_zones(self, a: str, b: str, zone: str) -> None:
        assert zone_of(a, b) == zone

    def test_a_parcel_begun_counts_whole(self) -> None:
        value = {**resolved(ZURICH_GENEVA), "weight_kg": 50.1}
        assert build(FlatZones, {"local": 10}).process(value, context())["price"] == 20


class TestOnTop:
    def test_only_high_airports_are_charged_for(self) -> None:
        value = build(ElevationSurcharge, {"percent": 10}).process(priced(200.0), context())
        assert value["price"] == 220.0
        assert len(value["lines"]) == 2

    def test_each_high_end_is_charged_from_the_same_price(self) -> None:
        plugin = build(ElevationSurcharge, {"percent": 10, "above_ft": 0})
        assert plugin.process(priced(200.0), context())["price"] == 240.0

    def test_time_zones_are_charged_for(self) -> None:
        plugin = build(TimeZoneSurcharge, {"intercontinental": 7})
        assert plugin.process(priced(200.0), context())["price"] == 207.0
        local = {**resolved(ZURICH_GENEVA), "price": 1.0, "currency": "EUR", "lines": []}
        assert plugin.process(local, context()) is local

    @pytest.mark.parametrize(
        ("to", "mode", "price", "expected"),
        [
            ("0.05", "half up", 747.67, 747.65),
            ("0.05", "up", 747.66, 747.70),
            ("1", "half even", 2.5, 2.0),
            ("10", "half up", 745.0, 750.0),
            ("0.05", "half up", 747.65, 747.65),
        ],
    )
    def test_prices_are_rounded(self, to: str, mode: str, price: float, expected: float) -> None:
        value = build(RoundPrice, {"to": to, "mode": mode}).process(priced(price), context())
        assert value["price"] == expected

    def test_a_service_of_the_host_is_injected(self) -> None:
        plugin = build(
            ConvertCurrency, {"currency": "CHF"}, provide={ExchangeRates: ExchangeRates({"EUR": 1, "CHF": 2})}
        )
        value = plugin.process(priced(10.0), context())
        assert (value["price"], value["currency"], value["lines"][0]["amount"]) == (20.0, "CHF", 20.0)

    def test_a_currency_without_a_rate_is_fatal(self) -> None:
        plugin = build(ConvertCurrency, provide={ExchangeRates: ExchangeRates()})
        with pytest.raises(Fatal, match="no exchange rate for CHF"):
            plugin.process(priced(10.0), context())

    def test_the_example_provider_makes_rates(self) -> None:
        from dishka import make_container

        container = make_container(ExampleRates())
        assert container.get(ExchangeRates).convert(1.0, "EUR", "JPY") == 160.0
        container.close()


class TestValidation:
    def test_the_default_schema_takes_a_shipment_and_passes_it_on(self) -> None:
        assert build(ValidateShipment).process(ZURICH_GENEVA, context()) is ZURICH_GENEVA

    def test_each_wrong_field_is_named(self) -> None:
        with pytest.raises(Refuse) as caught:
            build(ValidateShipment).process({"origin": "ZRHH", "weight_kg": 60_000}, context())
        assert set(caught.value.errors) == {"origin", "destination", "weight_kg"}

    @pytest.mark.parametrize("value", [None, [], "text", 3])
    def test_what_is_no_object_is_refused(self, value: Any) -> None:
        with pytest.raises(Refuse):
            build(ValidateShipment).process(value, context())

    def test_the_schema_is_the_tenants_own(self) -> None:
        demands = [
            {"field": "mode", "choices": ["air", "sea"]},
            {"field": "pieces", "kind": "whole number", "required": False, "at_least": 1},
            {"field": "fragile", "kind": "yes or no", "required": False},
        ]
        check = build(ValidateShipment, {"demands": demands, "allow_others": False})
        check.process({"mode": "air"}, context())
        check.process({"mode": "sea", "pieces": 2, "fragile": True}, context())
        for wrong in (
            {"mode": "rail"},
            {"mode": "air", "pieces": 0},
            {"mode": "air", "pieces": 1.5},
            {"mode": "air", "x": 1},
        ):
            with pytest.raises(Refuse):
                check.process(wrong, context())

    def test_rules_add_up_to_a_score(self) -> None:
        value = {**resolved(ZURICH_LA_PAZ), "declared_value": 60_000}
        risk = build(RiskScore).process(value, context())["risk"]
        assert (risk["points"], risk["review"]) == (80, True)
        assert risk["reasons"][-1] == "elevation_ft is 13355, above 8000: +15"
        assert build(RiskScore).process(resolved(ZURICH_GENEVA), context())["risk"]["points"] == 0


class TestRedaction:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("write to me@example.com now", "write to *** now"),
            ("a.b+c@mail.example.co.uk", "***"),
            ("card 4111 1111 1111 1111.", "card ***."),
            ("card 4111-1111-1111-1112", "card 4111-1111-1111-1112"),
            ("order 123456789012", "order 123456789012"),
            ("nothing", "nothing"),
        ],
    )
    def test_personal_data_is_masked(self, text: str, expected: str) -> None:
        assert build(Redact).process(text, context()) == expected

    def test_it_finds_texts_wherever_they_stand(self) -> None:
        value = {"a": [1, None, "x@y.org"], "b": {"c": "x@y.org"}}
        assert build(Redact, {"mask": "?"}).process(value, context()) == {"a": [1, None, "?"], "b": {"c": "?"}}

    def test_only_the_kinds_chosen(self) -> None:
        text = "x@y.org 4111111111111111"
        assert build(Redact, {"kinds": ["card"]}).process(text, context()) == "x@y.org ***"

    @pytest.mark.parametrize(
        "text", ["a" * 200_000, "1 " * 100_000, "a@" * 100_000, "a@" + "b." * 100_000, "@" * 200_000]
    )
    def test_no_text_takes_long(self, text: str) -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(build(Redact).process, text, context()).result(timeout=5)


class TestParsing:
    def test_lines_become_shipments_and_wrong_ones_are_reported(self) -> None:
        text = "origin,destination,weight_kg,note\nZRH,JFK,120,fragile\nZRH,,x,\nGVA,LHR,5\n"
        result = build(ParseShipments).process({"text": text}, context())
        assert result["shipments"] == [
            {"origin": "ZRH", "destination": "JFK", "weight_kg": 120.0, "note": "fragile"},
            {"origin": "GVA", "destination": "LHR", "weight_kg": 5.0},
        ]
        assert [(each["line"], set(each["errors"])) for each in result["rejected"]] == [(3, {"weight_kg"})]

    def test_a_missing_column_is_named(self) -> None:
        with pytest.raises(Refuse) as caught:
            build(ParseShipments).process({"text": "origin,weight_kg\nZRH,1"}, context())
        assert caught.value.errors == {"destination": "Missing."}

    def test_one_wrong_line_may_refuse_all(self) -> None:
        plugin = build(ParseShipments, {"delimiter": ";", "on_error": "refuse"})
        with pytest.raises(Refuse, match="Line 2 is no shipment"):
            plugin.process({"text": "origin;destination;weight_kg\nZRH;JFK;-1"}, context())

    def test_too_many_lines_are_refused(self) -> None:
        text = "origin,destination,weight_kg\n" + "ZRH,JFK,1\n" * 3
        with pytest.raises(Refuse, match="more than 2 shipments"):
            build(ParseShipments, {"most_lines": 2}).process({"text": text}, context())

    def test_a_thousand_real_lines_go_through_a_chain(self) -> None:
        codes = list(by_iata())[:1001]
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(["origin", "destination", "weight_kg"])
        writer.writerows([a, b, 10 + i] for i, (a, b) in enumerate(pairwise(codes)))
        parsed = build(ParseShipments).process({"text": out.getvalue()}, context())
        chain = chains.Chain(by_weight())
        assert len(parsed["shipments"]) == 1000
        assert all(chain.execute(shipment)["price"] >= 45 for shipment in parsed["shipments"])


class TestStorageAndCache:
    def test_the_same_shipment_passes_once(self) -> None:
        plugin, storage = build(Deduplicate), MemoryStorage()
        assert asyncio.run(plugin.process(ZURICH_GENEVA, context(storage=storage))) == ZURICH_GENEVA
        with pytest.raises(Refuse, match="sent before"):
            asyncio.run(plugin.process(dict(reversed(ZURICH_GENEVA.items())), context(storage=storage)))
        asyncio.run(plugin.process(ZURICH_NEW_YORK, context(storage=storage)))

    async def test_of_two_at_once_one_passes(self) -> None:
        plugin, storage = build(Deduplicate, {"on_duplicate": "mark"}), MemoryStorage()
        runs = [plugin.process(ZURICH_GENEVA, context(storage=storage)) for _ in range(10)]
        assert sum("duplicate" not in result for result in await asyncio.gather(*runs)) == 1

    async def test_chosen_fields_make_it_the_same(self) -> None:
        plugin, storage = build(Deduplicate, {"fields": ["origin", "destination"]}), MemoryStorage()
        await plugin.process(ZURICH_GENEVA, context(storage=storage))
        with pytest.raises(Refuse):
            await plugin.process({**ZURICH_GENEVA, "weight_kg": 11}, context(storage=storage))

    async def test_after_the_window_it_passes_again(self) -> None:
        plugin, storage = build(Deduplicate, {"window_hours": 1}), MemoryStorage()
        await plugin.process(ZURICH_GENEVA, context(storage=storage))
        [(key, seen)] = storage.list()
        storage.set(key, {**seen, "at": seen["at"] - 3601})
        await plugin.process(ZURICH_GENEVA, context(storage=storage))

    async def test_a_customers_record_is_added(self) -> None:
        storage = MemoryStorage()
        storage.shared.set("customer:7", {"name": "Muster AG"})
        value = {**resolved(ZURICH_LA_PAZ), "customer": 7}
        result = await EnrichShipment().process(value, context(storage=storage))
        assert result["customer_record"] == {"name": "Muster AG"}
        assert result["route"] == {
            "from": "Zurich, CH",
            "to": "La Paz / El Alto, BO",
            "crosses_border": True,
            "climb_ft": 11939.0,
        }

    def test_nearby_airports_are_measured_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        plugin, within = build(NearbyAirports, {"within_km": 100, "most": 3}), context()
        first = plugin.process({"airport": "zrh"}, within)
        assert [each["km"] for each in first["nearby"]] == sorted(each["km"] for each in first["nearby"])
        assert 0 < len(first["nearby"]) <= 3
        monkeypatch.delattr(plugin.__class__, "_nearby")
        assert plugin.process({"airport": "ZRH"}, within) == first

    def test_an_unknown_airport_has_no_neighbours(self) -> None:
        with pytest.raises(Refuse, match="no such airport"):
            build(NearbyAirports).process({"airport": "ZRR"}, context())


class TestStreams:
    def test_all_airports_come_in_order(self) -> None:
        items = list(Airports().stream(Airports.Params(), context()))
        assert [item.cursor for item in items] == sorted(by_icao())

    def test_a_stream_resumes_after_its_cursor(self) -> None:
        swiss = Airports.Params(country="CH")
        whole = list(Airports().stream(swiss, context()))
        rest = list(Airports().stream(swiss, context(cursor=whole[9].cursor)))
        assert whole[:10] + rest == whole
        assert {item.data["country"] for item in whole} == {"CH"}

    async def test_pages_hold_the_same_airports(self) -> None:
        params = AirportPages.Params(country="CH", size=7)
        pages = [page async for page in AirportPages().stream(params, context())]
        assert [len(page.data) for page in pages[:-1]] == [7] * (len(pages) - 1)
        single = Airports().stream(Airports.Params(country="CH"), context())
        assert [each for page in pages for each in page.data] == [item.data for item in single]

    async def test_pages_resume_after_a_cursor(self) -> None:
        params = AirportPages.Params(country="CH", size=7)
        pages = [page async for page in AirportPages().stream(params, context())]
        rest = [page async for page in AirportPages().stream(params, context(cursor=pages[1].cursor))]
        assert rest == pages[2:]

    @pytest.mark.parametrize("cursor", [5, ["LSZH"], {}])
    def test_a_cursor_of_another_kind_is_refused(self, cursor: Any) -> None:
        with pytest.raises(Refuse, match="no cursor of this stream"):
            next(Airports().stream(Airports.Params(), context(cursor=cursor)))

    def test_a_cursor_beyond_the_end_ends_it(self) -> None:
        stream: Any = Airports().stream(Airports.Params(), context(cursor="zzzz"))
        assert next(stream, None) is None

    def test_items_are_items(self) -> None:
        assert isinstance(next(Airports().stream(Airports.Params(), context())), Item)


class TestImport:
    def test_it_stores_all_airports_in_batches_with_progress(self) -> None:
        storage, said = MemoryStorage(), []
        within = context(storage=storage, report=lambda *said_now: said.append(said_now))
        summary = build(AirportsImport).fetch(None, within)
        batches = storage.list("batch:")
        assert (summary["airports"], summary["written"]) == (len(by_icao()), len(batches))
        assert sum(len(batch["airports"]) for _, batch in batches) == len(by_icao())
        assert [done for done, _, _ in said] == sorted(done for done, _, _ in said)
        assert said[-1][:2] == (len(by_icao()), len(by_icao()))

    def test_done_again_it_writes_nothing(self) -> None:
        within, plugin = context(), build(AirportsImport)
        plugin.fetch({"country": "CH"}, within)
        assert plugin.fetch({"country": "CH"}, within)["written"] == 0
        assert plugin.process(None, within)["airports"] == sum(a["country"] == "CH" for a in by_icao().values())

    def test_a_smaller_import_leaves_nothing_of_a_larger_one(self) -> None:
        storage = MemoryStorage()
        build(AirportsImport, {"batch": 10}).fetch({"country": "CH"}, context(storage=storage))
        build(AirportsImport, {"batch": 100}).fetch({"country": "LI"}, context(storage=storage))
        left = {a["country"] for _, batch in storage.list("batch:") for a in batch["airports"]}
        assert left <= {"LI"}

    def test_before_the_first_import_there_is_none(self) -> None:
        assert build(AirportsImport).process(None, context()) is None


class TestInterceptors:
    def request(self, **headers: str) -> HttpRequest:
        request = HttpRequest()
        request.META = {f"HTTP_{name.upper()}": text for name, text in headers.items()}
        return request

    def test_a_response_says_how_long_it_took(self) -> None:
        timed = build(ServerTiming, {"metric": "hub"})
        response = timed.intercept(self.request(), lambda _: HttpResponse("ok"))
        assert (response.status_code, response.content) == (200, b"ok")
        assert response["Server-Timing"].startswith("hub;dur=")

    @pytest.mark.parametrize(("given", "kept"), [("abc-1.2_3", True), ("a" * 65, False), ("a b", False), ("", False)])
    def test_a_sane_request_id_is_kept(self, given: str, kept: bool) -> None:
        response = build(ServerTiming).intercept(self.request(x_request_id=given), lambda _: HttpResponse())
        assert (response["X-Request-ID"] == given) is kept
        assert response["X-Request-ID"]

    def test_a_blocked_user_agent_gets_403_and_the_view_is_not_called(self) -> None:
        plugin = build(ServerTiming, {"blocked_agents": ["BadBot", ""]})
        response = plugin.intercept(self.request(user_agent="Mozilla badbot/1.0"), lambda _: pytest.fail("called"))
        assert response.status_code == 403
        assert response["Content-Type"] == "application/problem+json"
        assert plugin.intercept(self.request(user_agent="curl"), lambda _: HttpResponse()).status_code == 200

    def test_calls_are_counted_timed_logged_and_kept(self, caplog: pytest.LogCaptureFixture) -> None:
        storage = MemoryStorage()
        audit = build(AuditCalls, {"durable": True}, provide={Storage: storage})
        labels = {"plugin": "tested", "tenant": "tested"}
        before = REGISTRY.get_sample_value("plugin_audited_calls_total", labels) or 0.0
        with caplog.at_level(logging.INFO, "pluginhub.plugins.tested"):
            composed = compose(audit)
            assert composed(Invocation("quote", 20, HOST), lambda request: request.value + 1) == 21
            with pytest.raises(ZeroDivisionError):
                composed(Invocation("quote", 0, HOST), lambda request: 1 / request.value)
        assert storage.get("calls:quote") == 2
        assert REGISTRY.get_sample_value("plugin_audited_calls_total", labels) == before + 2
        assert [record.message.rpartition(": ")[2] for record in caplog.records] == ["succeeded", "failed"]
        assert caplog.records[0].message.startswith("host by host called quote in ")

    @pytest.mark.parametrize(
        ("shipment", "refused"),
        [
            ({"origin": "ZRH", "destination": "lpb"}, {"destination": "Nothing goes by LPB."}),
            ({"origin": "LPB"}, {"origin": "Nothing goes by LPB."}),
            ({"origin": "ZRH", "destination": "JFK", "airports": "LPB"}, {}),
            ("LPB", {}),
        ],
        ids=["to", "from", "elsewhere", "no shipment"],
    )
    def test_an_embargo_refuses_what_goes_to_or_comes_from_an_airport(
        self, shipment: Any, refused: dict[str, str]
    ) -> None:
        guarded, request = compose(build(Embargo, {"airports": ["lpb", "SVO"]})), Invocation("quote", shipment, HOST)
        if not refused:
            assert guarded(request, lambda inner: inner.value) == shipment
            return
        with pytest.raises(Refuse) as caught:
            guarded(request, lambda _: pytest.fail("called"))
        assert caught.value.extra["errors"] == refused

    def test_an_embargo_stands_inside_of_an_audit_that_is_bound_further_in(self) -> None:
        entries = loading.catalog()
        embargo, audit = (
            Layer(name, name, name, entries[name].before, entries[name].after) for name in ("embargo", "audit-calls")
        )
        assert ordered([embargo, audit]) == [audit, embargo]

    def test_slow_calls_are_watched_without_a_binding(self) -> None:
        jobs, storage = MemoryJobs(), MemoryStorage()
        within = context(jobs=jobs, storage=storage)
        with active(build(SlowCalls, {"from_ms": 0}), within) as plugin:
            [(scope, watch)] = within.middleware.added
            assert scope == "call"
            watch(Invocation("quote", 1, HOST, "r1"), lambda request: request.value)
            jobs.handlers["report"](None, within)
        assert [(call["target"], call["run"]) for call in storage.get("slowest")] == [("quote", "r1")]
        assert plugin.process(None, within) == storage.get("slowest")


class TestComposition:
    def parent(self) -> CheapestOffer:
        parent = build(CheapestOffer)
        parent.add_plugin(build(RateByWeight), key="weight")
        parent.add_plugin(build(FlatZones, {"currency": "EUR"}), key="zones")
        return parent

    def test_the_cheapest_offer_wins_and_all_are_shown(self) -> None:
        value = chains.execute([ResolveAirports(), GreatCircle(), self.parent()], ZURICH_LA_PAZ)
        assert (value["offer"], value["price"]) == ("weight", 664.59)
        assert value["offers"] == {"weight": 664.59, "zones": 870.0}

    def test_an_offer_in_another_currency_is_left_out(self) -> None:
        parent = self.parent()
        parent.add_plugin(build(FlatZones, {"currency": "USD", "intercontinental": 1}), key="cheap")
        assert set(chains.execute([parent], resolved(ZURICH_LA_PAZ))["offers"]) == {"weight", "zones"}

    def test_an_optional_child_may_fail_and_a_required_one_may_not(self) -> None:
        class Broken(Plugin):
            def process(self, value: Any, context: Any) -> Any:
                raise ZeroDivisionError

        parent = self.parent()
        parent.add_plugin(Broken(), key="broken", required=False)
        assert set(chains.execute([parent], resolved(ZURICH_LA_PAZ))["offers"]) == {"weight", "zones"}
        parent.add_plugin(Broken(), key="needed")
        with pytest.raises(ZeroDivisionError):
            chains.execute([parent], resolved(ZURICH_LA_PAZ))

    def test_without_offers_it_refuses(self) -> None:
        with pytest.raises(Refuse, match="Nobody offers this in EUR"):
            chains.execute([build(CheapestOffer)], resolved(ZURICH_LA_PAZ))


class TestState:
    def test_counts_move_to_the_next_instance(self) -> None:
        old, new = CountQuotes(), CountQuotes()
        for _ in range(3):
            old.process(ZURICH_GENEVA, context())
        new.restore_state(old.get_state())
        assert new.process(ZURICH_GENEVA, context())["asked"] == 4

    def test_counts_of_the_first_version_are_understood(self) -> None:
        new = CountQuotes()
        new.restore_state(CountQuotes.migrate_state({"ZRH-GVA": 3}, 1))
        assert new.health()
        assert new.process(ZURICH_GENEVA, context())["asked"] == 4

    def test_counts_that_cannot_be_are_not_healthy(self) -> None:
        new = CountQuotes()
        new.restore_state({"counts": {"ZRH-GVA": -1}})
        assert not new.health()

    def test_many_threads_lose_no_count(self) -> None:
        plugin = CountQuotes()
        threads = [
            threading.Thread(target=lambda: [plugin.process(ZURICH_GENEVA, context()) for _ in range(200)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert plugin.get_state() == {"counts": {"ZRH-GVA": 1600}}
