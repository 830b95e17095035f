"""The services of the host and of plugin packages, resolved by dishka.

They live as long as the process, as long as a tenant is in use here, or as long as one run. What nobody asks for is
never made.
"""

from pluginhub.providers.graphs import ProvidersError
from pluginhub.providers.own import OWN
from pluginhub.providers.processes import close, overridden, overriding
from pluginhub.providers.running import ended
from pluginhub.providers.sources import GROUP, host_problems
from pluginhub.providers.tenants import TenantServices, of, sources_of
from pluginhub.scopes import LIFETIMES, PROCESS, RUN, TENANT

__all__ = [
    "GROUP",
    "LIFETIMES",
    "OWN",
    "PROCESS",
    "RUN",
    "TENANT",
    "ProvidersError",
    "TenantServices",
    "close",
    "ended",
    "host_problems",
    "of",
    "overridden",
    "overriding",
    "sources_of",
]
