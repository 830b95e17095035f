"""Who the current tenant is, and how a thread's connection follows.

The current tenant is a value in a context variable. A connection's schema is a mood of whoever used the thread last,
so nothing here reads it to decide anything; it is only set, compared and restored:

- `enter` sets the context variable; `visit` also moves this thread's connection; both restore on leaving;
- `gate` and `agate` visit, call and restore within a single thread hop, and let nothing lazy out;
- the fence compares the two on every query inside runs and gates, and refuses where they differ.
"""

from pluginhub.tenancy.current import current, current_or_none, enter, value_of
from pluginhub.tenancy.fence import TenantCrossing, fenced, install
from pluginhub.tenancy.gates import agate, around_thread, gate, in_transaction, visit
from pluginhub.tenancy.lookup import find, forget, resolve, tenants

__all__ = [
    "TenantCrossing",
    "agate",
    "around_thread",
    "current",
    "current_or_none",
    "enter",
    "fenced",
    "find",
    "forget",
    "gate",
    "in_transaction",
    "install",
    "resolve",
    "tenants",
    "value_of",
    "visit",
]
