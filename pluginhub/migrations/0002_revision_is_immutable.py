from __future__ import annotations

from django.db import migrations

# Runs once per tenant: without a schema in front, function and trigger go where the tenant's tables are.
REFUSE_UPDATE = """
CREATE FUNCTION pluginhub_refuse_revision_update() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'revision % is published and cannot be changed', OLD.number
        USING ERRCODE = 'restrict_violation', HINT = 'Publish a new revision.';
END
$$;
CREATE TRIGGER pluginhub_revision_is_immutable BEFORE UPDATE ON pluginhub_revision
    FOR EACH ROW EXECUTE FUNCTION pluginhub_refuse_revision_update();
"""
ALLOW_UPDATE = """
DROP TRIGGER pluginhub_revision_is_immutable ON pluginhub_revision;
DROP FUNCTION pluginhub_refuse_revision_update();
"""


class Migration(migrations.Migration):
    dependencies = [("pluginhub", "0001_initial")]

    operations = [migrations.RunSQL(REFUSE_UPDATE, ALLOW_UPDATE)]
