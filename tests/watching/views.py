"""What a process of a storm holds right now."""

from __future__ import annotations

import gc
import os

import psutil
from django.http import HttpRequest, JsonResponse

from pluginhub import loading
from pluginhub.plugins import Plugin

__all__ = ["watch"]


def watch(request: HttpRequest) -> JsonResponse:
    """Tell pid, generation, memory in bytes, and which versions of plugin classes live after a collection."""
    gc.collect()
    alive = [getattr(kind, "VERSION", 0) for kind in Plugin.__subclasses__()]  # it keeps weak references only
    return JsonResponse(
        {
            "pid": os.getpid(),
            "generation": loading.current().number,
            "resident": psutil.Process().memory_info().rss,
            "alive": sorted(version for version in alive if version),
        }
    )
