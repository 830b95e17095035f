"""What spans tenants: an app of its own, in SHARED_APPS, with its rows in the public schema."""
