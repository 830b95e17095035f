"""Which classes our admin stands on: the host's theme where it has one, else Django's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.apps import apps

__all__ = ["ModelAdmin", "TabularInline"]

if TYPE_CHECKING or not apps.is_installed("unfold"):
    from django.contrib.admin import ModelAdmin, TabularInline
else:
    from unfold.admin import ModelAdmin, TabularInline
