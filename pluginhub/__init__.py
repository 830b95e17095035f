"""Plugins for multi-tenant Django products: what plugin authors import."""

from pluginhub.context import Context
from pluginhub.exceptions import Fatal, Refuse, RetryLater, Stop
from pluginhub.plugins import CompositePlugin, Plugin, job
from pluginhub.types import Item

__all__ = ["CompositePlugin", "Context", "Fatal", "Item", "Plugin", "Refuse", "RetryLater", "Stop", "job"]
