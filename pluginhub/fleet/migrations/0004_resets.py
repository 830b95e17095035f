from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("pluginhub_fleet", "0003_generation_packages"),
    ]

    operations = [
        migrations.AddField(
            model_name="head",
            name="resets",
            field=models.PositiveBigIntegerField(default=0, help_text="Counts the tenant's resets."),
        ),
        migrations.CreateModel(
            name="Reset",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("schema", models.CharField(max_length=63)),
                ("registration", models.CharField(max_length=63)),
                ("breaker", models.PositiveBigIntegerField(default=0)),
                ("cache", models.PositiveBigIntegerField(default=0)),
                ("author", models.CharField(blank=True, help_text="Of the last one.", max_length=200)),
                ("updated", models.DateTimeField(auto_now=True)),
            ],
            options={
                "ordering": ["schema", "registration"],
                "constraints": [models.UniqueConstraint(fields=("schema", "registration"), name="pluginhub_reset")],
            },
        ),
    ]
