from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("pluginhub", "0002_revision_is_immutable")]

    operations = [
        migrations.AddField(
            model_name="member",
            name="private",
            field=models.BooleanField(default=False, help_text="Whether nothing else may use it, inside or outside."),
        ),
    ]
