"""Constructors that name what they need by type, and the order in which plugins that need one another come up.

The resolver builds plugins; where a service is asked for that the hub does not have itself, `provide` is asked:
another plugin, the providers of the host and of plugin packages, or the overrides of a test.
"""

from pluginhub.injection.missing import Missing, RunOnly
from pluginhub.injection.needs import Need, name_of, needs_of, requirements
from pluginhub.injection.resolving import build, problems
from pluginhub.injection.suppliers import SeveralSuppliers, Suppliers, provided_by

__all__ = [
    "Missing",
    "Need",
    "RunOnly",
    "SeveralSuppliers",
    "Suppliers",
    "build",
    "name_of",
    "needs_of",
    "problems",
    "provided_by",
    "requirements",
]
