"""How the two tenants of the demo are set up: the same product, two customers, one name for two different chains."""

from __future__ import annotations

from typing import Any

from pluginhub.configuration import (
    ChainSpec,
    CompositionSpec,
    Configuration,
    InterceptorSpec,
    MemberSpec,
    PointSpec,
    RegistrationSpec,
    StepSpec,
)

__all__ = ["SETUPS"]


def acme() -> Configuration:
    """Air freight by weight and distance, dearer where the air is thin, rounded as in Switzerland.

    Where the price by distance fails, the one by zone stands in. What a customer asks again is not measured again.
    """
    return _configuration(
        _registration("resolve", "resolve-airports", title="Look up both airports"),
        RegistrationSpec(name="distance", plugin="great-circle", title="Great-circle distance", cache_seconds=3600),
        _registration("rate", "rate-by-weight", title="Price by weight and distance", per_1000_km=0.35, minimum=45.0),
        _registration("zones", "flat-zones", title="Price by zone", currency="EUR"),
        _registration("thin-air", "elevation-surcharge", title="Thin-air surcharge", above_ft=5000.0, percent=12.5),
        _registration("round", "round-price", title="Round to five centimes", to="0.05"),
        _registration("hours", "transport-hours", title="Hours from door to door"),
        _chain(
            "quote",
            "resolve",
            "distance",
            StepSpec(target="rate", on_failure="fallback", fallback="zones"),
            "thin-air",
            "round",
            title="Quote by weight and distance",
        ),
        _chain("eta", "resolve", "distance", "hours", title="Hours from door to door"),
        _registration("timing", "server-timing", title="Say how long a page took", metric="acme"),
        interceptors=[InterceptorSpec(registration="timing", scope="request")],
        points={"freight.quote": "quote", "freight.eta": "eta"},
    )


def globex() -> Configuration:
    """Parcels by zone, or by weight where that is cheaper, with a fee for crews who work at night."""
    return _configuration(
        _registration("resolve", "resolve-airports", title="Look up both airports"),
        _registration("zones", "flat-zones", title="Price by zone", intercontinental=270.0, parcel_kg=40.0),
        _registration("distance", "great-circle", title="Great-circle distance"),
        _registration("rate", "rate-by-weight", title="Price by weight and distance", currency="USD", per_1000_km=1.15),
        _chain("by-weight", "distance", "rate", title="Offer by weight"),
        CompositionSpec(
            name="offers",
            title="The cheapest of two offers",
            strategy="parent",
            plugin="cheapest-offer",
            config={"currency": "USD"},
            members=(MemberSpec(target="zones"), MemberSpec(target="by-weight")),
        ),
        _registration("night-crew", "time-zone-surcharge", title="Fee across time zones", intercontinental=55.0),
        _registration("round", "round-price", title="Round up to the dollar", to="1", mode="up"),
        _chain("quote", "resolve", "offers", "night-crew", "round", title="Cheapest of two offers"),
        _registration("audit", "audit-calls", title="Count and log each call"),
        interceptors=[InterceptorSpec(registration="audit", scope="call")],
        points={"freight.quote": "quote"},
    )


SETUPS = {"acme": acme, "globex": globex}
"""By schema: what makes the tenant's configuration."""


def _configuration(
    *targets: RegistrationSpec | ChainSpec | CompositionSpec,
    interceptors: list[InterceptorSpec],
    points: dict[str, str],
) -> Configuration:
    """Put the targets together, with what both tenants have: the airports as a stream and as a job."""
    every = [
        *targets,
        _registration("airports", "airports", title="The world's airports, one by one"),
        _registration("atlas", "airports-import", title="The world's airports, in this tenant's storage"),
    ]
    return Configuration(
        registrations={spec.name: spec for spec in every if isinstance(spec, RegistrationSpec)},
        chains={spec.name: spec for spec in every if isinstance(spec, ChainSpec)},
        compositions={spec.name: spec for spec in every if isinstance(spec, CompositionSpec)},
        interceptors=tuple(interceptors),
        points={point: PointSpec(point=point, targets=(target,)) for point, target in points.items()},
    )


def _registration(name: str, plugin: str, *, title: str, **config: Any) -> RegistrationSpec:
    return RegistrationSpec(name=name, plugin=plugin, title=title, config=config)


def _chain(name: str, *steps: str | StepSpec, title: str) -> ChainSpec:
    """A step that has no policy of its own is just its target's name."""
    every = (StepSpec(target=step) if isinstance(step, str) else step for step in steps)
    return ChainSpec(name=name, title=title, steps=tuple(every))
