"""The order in which the draft's interceptors stand, as a picture and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.urls import reverse
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from pluginhub import configuration, loading, publishing
from pluginhub.admin.pictures import Ring, onion
from pluginhub.configuration import SCOPES, Configuration
from pluginhub.exceptions import PluginHubError
from pluginhub.loading import Entry
from pluginhub.models import InterceptorBinding, Registration
from pluginhub.ordering import Constraint, Layer, contradictions, decided, ordered
from pluginhub.types import Scope

__all__ = ["Onion", "adding", "choice", "onions"]

_CORES: dict[Scope, str | Promise] = {
    "request": gettext_lazy("the view"),
    "call": gettext_lazy("the target"),
    "job": gettext_lazy("the job"),
    "stream": gettext_lazy("the stream"),
}


@dataclass(frozen=True, slots=True)
class Onion:
    """What stands around one scope. `contradictions` are the draft's, in words; with any of them there is no picture.

    `live` says that what is live contradicts itself.
    """

    scope: Scope
    heading: str
    core: str
    rings: Sequence[Ring]
    picture: SafeString
    contradictions: Sequence[str]
    live: Sequence[str]


def onions(site: str) -> list[Onion]:
    """Return the order of each scope that has interceptors; `site` is the admin site's name."""
    rows = list(
        InterceptorBinding.objects.filter(enabled=True)
        .order_by("scope", "position", "pk")
        .select_related("registration")
        .prefetch_related("targets")
    )
    entries, live = loading.catalog(), _live()
    found = []
    for scope in SCOPES:
        bound = [_layer(row, entries) for row in rows if row.scope == scope]
        lost = _lost(live, scope)
        if bound or lost:
            found.append(_onion(scope, bound, lost, site))
    return found


def adding() -> list[str]:
    """Return the enabled registrations whose plugins add interceptors themselves, as their source says."""
    able = [entry.name for entry in loading.catalog().values() if entry.adds_middleware]
    return list(
        Registration.objects.filter(plugin__in=able, enabled=True).order_by("name").values_list("name", flat=True)
    )


def choice(row: InterceptorBinding) -> str:
    """Say what a binding wraps, of all that its scope has."""
    targets = " · ".join(target.name for target in row.targets.all())
    return " ".join(filter(None, [row.methods, row.path_prefix, targets])) or _("all")


def _layer(row: InterceptorBinding, entries: Mapping[str, Entry]) -> Layer[InterceptorBinding]:
    return configuration.layer(row, row.registration.name, row.registration.plugin, entries.get)


def _onion(scope: Scope, bound: Sequence[Layer[InterceptorBinding]], lost: Sequence[str], site: str) -> Onion:
    label = InterceptorBinding.Scope(scope).label
    heading, core = _("Around %s") % label, str(_CORES[scope])
    wrong = [configuration.around(scope, each) for each in contradictions(bound)]
    reasons = {} if wrong else decided(bound)
    rings = [_ring(layer, reasons.get(layer, ()), bound, site) for layer in (bound if wrong else ordered(bound))]
    picture = SafeString("") if wrong or not rings else _drawn(scope, heading, rings, core)
    return Onion(scope, heading, core, rings, picture, wrong, lost)


def _drawn(scope: Scope, heading: str, rings: Sequence[Ring], core: str) -> SafeString:
    """The words beside a picture are a list: its description need not repeat them."""
    names = ", ".join(ring.title for ring in rings)
    described = _("From the outside in: %(names)s. Inside of them is %(core)s.") % {"names": names, "core": core}
    return onion(rings, core, key=f"pluginhub-{scope}", title=heading, description=described)


def _ring(
    layer: Layer[InterceptorBinding],
    reasons: Sequence[Constraint],
    bound: Sequence[Layer[InterceptorBinding]],
    site: str,
) -> Ring:
    row = layer.binding
    return Ring(
        title=layer.name,
        url=reverse("admin:pluginhub_interceptorbinding_change", args=[row.pk], current_app=site),
        lines=(_("%(which)s, position %(number)s") % {"which": choice(row), "number": row.position},),
        reasons=tuple(_reason(layer, each, bound) for each in reasons),
        tag=_("required") if row.required else "",
    )


def _reason(layer: Layer[InterceptorBinding], said: Constraint, bound: Sequence[Layer[InterceptorBinding]]) -> str:
    """Say why a layer stands where its position does not put it."""
    is_outer = layer.plugin == said.outer
    plugin = said.inner if is_outer else said.outer
    others = ", ".join(dict.fromkeys(each.name for each in bound if each.plugin == plugin))
    if said.by == layer.plugin:
        words = _("its plugin puts it outside %s") if is_outer else _("its plugin puts it inside %s")
    else:
        words = _("the plugin of %s puts it outside") if is_outer else _("the plugin of %s puts it inside")
    return words % others


def _live() -> Configuration:
    try:
        return publishing.configuration_at("live")
    except PluginHubError:  # of a newer format, as the bar on top says
        return Configuration()


def _lost(live: Configuration, scope: Scope) -> list[str]:
    """Say how what is live contradicts itself since a plugin changed: positions alone decide there."""
    found = contradictions(configuration.layers(live, scope, loading.current().known))
    return [configuration.around(scope, each) for each in found]
