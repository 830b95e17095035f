from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("pluginhub", "0004_policies_breakers_caches")]

    operations = [
        migrations.AlterModelOptions(
            name="pointbinding", options={"ordering": ["point", "position"], "verbose_name_plural": "points"}
        ),
    ]
