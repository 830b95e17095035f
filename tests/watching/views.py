"""What a process of a storm holds right now."""

from __future__ import annotations

import gc
import os

import psutil
from django.http import HttpRequest, JsonResponse

from pluginhub.plugins import Plugin
from pluginhub.registry import registry

__all__ = ["watch"]


def watch(request: HttpRequest) -> JsonResponse:
    """Tell pid, state, memory in bytes, and the versions of the plugin classes that are alive after a collection."""
    gc.collect()
    alive = [getattr(kind, "VERSION", 0) for kind in Plugin.__subclasses__()]  # it keeps weak references only
    return JsonResponse(
        {
            "pid": os.getpid(),
            "state": registry.state(),
            "resident": psutil.Process().memory_info().rss,
            "alive": sorted(version for version in alive if version),
        }
    )
