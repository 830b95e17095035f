"""The rows of one tenant, one file per family."""

from pluginhub.models.bindings import InterceptorBinding, PointBinding
from pluginhub.models.chains import Chain, Step
from pluginhub.models.compositions import Composition, Member
from pluginhub.models.jobs import Job
from pluginhub.models.revisions import Revision
from pluginhub.models.targets import Registration, Target
from pluginhub.models.tokens import AccessToken
from pluginhub.models.values import StoredValue

__all__ = [
    "AccessToken",
    "Chain",
    "Composition",
    "InterceptorBinding",
    "Job",
    "Member",
    "PointBinding",
    "Registration",
    "Revision",
    "Step",
    "StoredValue",
    "Target",
]
