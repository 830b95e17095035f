"""Many threads, tasks, sockets and processes against real servers, and ledgers that count outcomes: `make figures`.

A storm needs models, and so Django set up: with the tests' settings, also when no test run has done so.
"""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()
