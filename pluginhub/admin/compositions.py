"""Compositions, with their members in order, and the configuration of a parent plugin."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Prefetch, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from pluginhub.admin.choosing import choices
from pluginhub.admin.configured import ConfiguredAdmin, ConfiguredForm
from pluginhub.admin.ordering import OrderedInline
from pluginhub.admin.targets import OPEN, TargetAdmin, joined
from pluginhub.models import Composition, Member

__all__ = ["CompositionAdmin"]


class MemberInline(OrderedInline):
    model = Member
    fk_name = "composition"  # its target may be a composition, too
    fieldsets = ((None, {"fields": ["position", "target", "key", "required", "private"]}),)


class CompositionForm(ConfiguredForm):
    """The plugin's fields appear once the plugin is chosen and saved."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if "plugin" in self.fields:
            parents = choices(self.instance.plugin, where=lambda entry: entry.is_composite)
            self.fields["plugin"] = forms.ChoiceField(
                choices=parents,
                required=False,
                label=_("Parent plugin"),
                help_text=_("Only for the strategy “as the parent plugin says”. Its settings appear once it is saved."),
            )

    def save(self, commit: bool = True) -> Any:
        if "plugin" in self.changed_data:  # what was set up for one plugin means nothing to another
            self.configuration = None
            self.instance.config = {}
        return super().save(commit)

    def clean(self) -> dict[str, Any]:
        if "plugin" in self.changed_data:
            self.configuration = None
        return super().clean()


@admin.register(Composition)
class CompositionAdmin(TargetAdmin, ConfiguredAdmin):
    form = CompositionForm
    columns = ("strategy", "shown_members")
    list_filter = ("strategy", "enabled")
    fieldsets = ((None, {"fields": ["name", "title", "enabled", "strategy", "plugin"]}), OPEN)
    inlines = (MemberInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        members = Prefetch("members", Member.objects.select_related("target").order_by("position"))
        return super().get_queryset(request).prefetch_related(members)

    @admin.display(description=_("Members"))
    def shown_members(self, row: Composition) -> str:
        return joined([_shown(member) for member in row.members.all()], "·")


def _shown(member: Member) -> str:
    return f"{member.target.name} ({_('private')})" if member.private else member.target.name
