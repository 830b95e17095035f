"""What the product's own code may listen to."""

from __future__ import annotations

from django.dispatch import Signal

__all__ = ["published", "swapped"]

published = Signal()
"""A revision was published by this process: sent after the commit with `sender` the `Revision` class, and `tenant`,
`revision` (its number) and `changes`. Other processes follow by the fleet's heads and send nothing."""

swapped = Signal()
"""A tenant's runtime was replaced in this process: sent after the swap with `sender` the `Runtime` class, and `tenant`,
`revision` and `generation` (their numbers). The one that is loaded at a tenant's first call replaces none."""
