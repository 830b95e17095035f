"""Everything a tenant has set up, as one value: read from its rows, compared, validated, published.

What is disabled on a point or as an interceptor is a matter of the draft, and not part of a configuration; disabled
targets are, since others may name them.
"""

from pluginhub.configuration.constraints import Problem, used_in_order
from pluginhub.configuration.differences import Change, Detail, details, difference
from pluginhub.configuration.formats import UnreadableFormat, stored, upgraded
from pluginhub.configuration.nesting import SCOPES, around, layer, layers, served
from pluginhub.configuration.reading import read
from pluginhub.configuration.references import redacted, reference_names, referring
from pluginhub.configuration.rewriting import rewrite, writable
from pluginhub.configuration.sealing import seal
from pluginhub.configuration.validation import validate
from pluginhub.configuration.values import (
    FORMAT,
    ChainSpec,
    CompositionSpec,
    Configuration,
    InterceptorSpec,
    MemberSpec,
    PointSpec,
    RegistrationSpec,
    StepSpec,
    TargetSpec,
)

__all__ = [
    "FORMAT",
    "SCOPES",
    "ChainSpec",
    "Change",
    "CompositionSpec",
    "Configuration",
    "Detail",
    "InterceptorSpec",
    "MemberSpec",
    "PointSpec",
    "Problem",
    "RegistrationSpec",
    "StepSpec",
    "TargetSpec",
    "UnreadableFormat",
    "around",
    "details",
    "difference",
    "layer",
    "layers",
    "read",
    "redacted",
    "reference_names",
    "referring",
    "rewrite",
    "seal",
    "served",
    "stored",
    "upgraded",
    "used_in_order",
    "validate",
    "writable",
]
