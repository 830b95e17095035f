"""What the product's own code may listen to."""

from __future__ import annotations

from django.dispatch import Signal

__all__ = ["published"]

published = Signal()
"""A revision was published by this process: sent after the commit with `sender` the `Revision` class, and `tenant`,
`revision` (its number) and `changes`. Other processes follow by the fleet's heads and send nothing."""
