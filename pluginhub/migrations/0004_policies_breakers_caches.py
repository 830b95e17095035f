from __future__ import annotations

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("pluginhub", "0003_member_private"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="step",
            name="pluginhub_step_on_failure",
        ),
        migrations.AddField(
            model_name="registration",
            name="breaker_calls",
            field=models.PositiveIntegerField(default=20, help_text="Of how many last calls the share is taken."),
        ),
        migrations.AddField(
            model_name="registration",
            name="breaker_rate",
            field=models.FloatField(
                blank=True,
                help_text="Opens the breaker: the share of failed calls, such as 0.5. Empty: none.",
                null=True,
            ),
        ),
        migrations.AddField(
            model_name="registration",
            name="breaker_seconds",
            field=models.FloatField(default=30, help_text="Seconds until a call is tried again."),
        ),
        migrations.AddField(
            model_name="registration",
            name="cache_failures",
            field=models.FloatField(
                blank=True, help_text="Seconds a failure is kept for the same input. Empty: not kept.", null=True
            ),
        ),
        migrations.AddField(
            model_name="registration",
            name="cache_seconds",
            field=models.FloatField(
                blank=True, help_text="Seconds a result is kept for the same input. Empty: not kept.", null=True
            ),
        ),
        migrations.AddField(
            model_name="step",
            name="condition",
            field=models.CharField(
                blank=True,
                help_text="JMESPath over the value; the step is left out where it is not true.",
                max_length=1000,
            ),
        ),
        migrations.AddField(
            model_name="step",
            name="fallback",
            field=models.ForeignKey(
                blank=True,
                help_text="What to call instead.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="stands_in",
                to="pluginhub.target",
            ),
        ),
        migrations.AddField(
            model_name="step",
            name="input",
            field=models.CharField(
                blank=True, help_text="JMESPath over the value: what the step takes.", max_length=1000
            ),
        ),
        migrations.AddField(
            model_name="step",
            name="output",
            field=models.CharField(
                blank=True, help_text="JMESPath over {input, result}: what the chain goes on with.", max_length=1000
            ),
        ),
        migrations.AlterField(
            model_name="step",
            name="on_failure",
            field=models.CharField(
                choices=[
                    ("fail", "fail the chain"),
                    ("skip", "go on with the input"),
                    ("default", "go on with the default"),
                    ("fallback", "call another target instead"),
                ],
                default="fail",
                max_length=8,
            ),
        ),
        migrations.AddConstraint(
            model_name="registration",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("breaker_rate__isnull", True),
                    models.Q(("breaker_rate__gt", 0), ("breaker_rate__lte", 1)),
                    _connector="OR",
                ),
                name="pluginhub_registration_breaker_rate",
                violation_error_message="A share of failed calls is more than 0 and at most 1.",
            ),
        ),
        migrations.AddConstraint(
            model_name="registration",
            constraint=models.CheckConstraint(
                condition=models.Q(("breaker_calls__gte", 1), ("breaker_calls__lte", 1000)),
                name="pluginhub_registration_breaker_calls",
                violation_error_message="A breaker looks at 1 to 1000 calls.",
            ),
        ),
        migrations.AddConstraint(
            model_name="registration",
            constraint=models.CheckConstraint(
                condition=models.Q(("breaker_seconds__gt", 0)),
                name="pluginhub_registration_breaker_seconds",
                violation_error_message="A breaker stays open for more than 0 seconds.",
            ),
        ),
        migrations.AddConstraint(
            model_name="registration",
            constraint=models.CheckConstraint(
                condition=models.Q(("cache_seconds__isnull", True), ("cache_seconds__gt", 0), _connector="OR"),
                name="pluginhub_registration_cache_seconds",
                violation_error_message="Results are kept for more than 0 seconds.",
            ),
        ),
        migrations.AddConstraint(
            model_name="registration",
            constraint=models.CheckConstraint(
                condition=models.Q(("cache_failures__isnull", True), ("cache_failures__gt", 0), _connector="OR"),
                name="pluginhub_registration_cache_failures",
                violation_error_message="Failures are kept for more than 0 seconds.",
            ),
        ),
        migrations.AddConstraint(
            model_name="step",
            constraint=models.CheckConstraint(
                condition=models.Q(("on_failure__in", ["fail", "skip", "default", "fallback"])),
                name="pluginhub_step_on_failure",
            ),
        ),
        migrations.AddConstraint(
            model_name="step",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("fallback__isnull", False), ("on_failure", "fallback")),
                    models.Q(models.Q(("on_failure", "fallback"), _negated=True), ("fallback__isnull", True)),
                    _connector="OR",
                ),
                name="pluginhub_step_fallback",
                violation_error_message="A fallback is named where another target is called instead, and only there.",
            ),
        ),
    ]
