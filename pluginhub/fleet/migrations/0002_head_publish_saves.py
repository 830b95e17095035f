"""Tenants may publish every save."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pluginhub_fleet", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="head",
            name="publish_saves",
            field=models.BooleanField(default=False, help_text="Whether every save of the draft is published."),
        ),
    ]
