"""What `make demo` does: two tenants set up differently, a proof that they work, and what to try next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from django.contrib.auth.models import User

from pluginhub import access, publishing, tenancy
from pluginhub.models import AccessToken
from pluginhub.types import PUBLIC, Tenant
from tenants import installation
from tenants.freight import Shipment, default_quote
from tenants.proofs import Client, ProofFailed, follow_job, pull
from tenants.setups import SETUPS

__all__ = ["USER", "Demonstration"]

USER = PASSWORD = "admin"
TOKEN = "demo"

SHIPMENT = {"origin": "ZRH", "destination": "LPB", "weight_kg": 120.0}
AIRPORTS = 28_298


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One showing, on the site that answers at `port`. `say` takes one line."""

    port: int
    say: Callable[[str], None]

    def set_up(self) -> dict[str, Client]:
        """Create what is missing, and return a client for each tenant. Keeps what an operator changed."""
        installation.migrate()
        installation.create_public_site()
        tenancy.gate(PUBLIC, _ensure_user)
        for schema in SETUPS:
            installation.create_tenant(schema)
        tenancy.forget()
        return {schema: Client(schema, self.port, _set_up_tenant(tenancy.find(schema))) for schema in SETUPS}

    def prove(self, clients: dict[str, Client], *, web: int, worker: int) -> None:
        """Run, enqueue and stream as clients do. `web` and `worker` are the processes' ids, to say what ran where."""
        self._prove_runs(clients, web)
        self._prove_job(clients["acme"], worker)
        self._prove_stream(clients["globex"], web)

    def _prove_runs(self, clients: dict[str, Client], web: int) -> None:
        self.say(f"\n1. A run: {_words(SHIPMENT)}")
        default = default_quote(Shipment.model_validate(SHIPMENT))
        self.say(f"   without plugins  {default.price:>10,.2f} {default.currency}   by the product's own code")
        prices = {default.price}
        for schema, client in clients.items():
            answer = client.call("POST", "/hub/run/quote/", SHIPMENT)
            result, where = answer["result"], f"revision {answer['revision']} in web process {web}"
            prices.add(result["price"])
            took = f"run {answer['run'][:8]}, {where}, {answer['duration_ms']:.1f} ms"
            self.say(f"   {schema:<15}  {result['price']:>10,.2f} {result['currency']}   {took}")
            for line in result["lines"]:
                self.say(f"   {'':<15}  {line['amount']:>10,.2f}       {line['text']}")
        if len(prices) != len(clients) + 1:
            raise ProofFailed(f"The tenants and the product's own code should differ, but their prices are {prices}.")

    def _prove_job(self, client: Client, worker: int) -> None:
        self.say(f"\n2. A job: {client.schema} imports the world's airports into its storage")
        for said in follow_job(client, "atlas.import", {}):
            progress = said["progress"] or {}
            done, total = progress.get("done") or 0, progress.get("total") or 0
            self.say(f"   {said['status']:<10} {done:>7,} of {total:,}   {progress.get('note') or ''}".rstrip())
            result = said["result"]
        self.say(f"   {result}, by worker process {worker}")
        if result["airports"] != AIRPORTS:
            raise ProofFailed(
                f"The import should have brought {AIRPORTS:,} airports, and brought {result['airports']:,}."
            )

    def _prove_stream(self, client: Client, web: int) -> None:
        self.say(f"\n3. A stream: {client.schema} pulls the airports of Switzerland over a websocket")
        sent = 0
        for n, items in zip([2, 3], pull(client, "airports", {"country": "CH"}, [2, 3]), strict=True):
            self.say(f"   asked for {n}:")
            for item in items:
                sent += 1
                airport = item["data"]
                self.say(f"   {item['seq']:>3}  {airport['icao']}  {airport['name']}, {airport['elevation']:,.0f} ft")
        self.say(f"   {sent} items on request, none before, from web process {web}; then cancelled")

    def explain(self, clients: dict[str, Client]) -> None:
        """Print the addresses, the user, the tokens, and commands that work as printed."""
        self.say(
            f"\nSide by side    http://localhost:{self.port}/    installation: http://localhost:{self.port}/admin/"
        )
        for schema, client in clients.items():
            site = f"http://{client.host}:{self.port}"
            self.say(f"{schema.title():<15} {site}/    admin: {site}/admin/    hub: {site}/hub/")
        self.say(f"\nUser {USER}, password {PASSWORD}, everywhere. Access tokens:")
        for schema, client in clients.items():
            self.say(f"  {schema:<8} {client.token}")
        self.say("\nTry:")
        for command in self._commands(clients["acme"]):
            self.say(f"  {command}")

    def _commands(self, acme: Client) -> list[str]:
        site, host = f"http://127.0.0.1:{self.port}", f"-H 'Host: {acme.host}'"
        bearer = f"{host} -H 'Authorization: Bearer {acme.token}'"
        shipment = '{"origin": "ZRH", "destination": "JFK", "weight_kg": 80}'
        return [
            f"curl {host} '{site}/quote/?from=ZRH&to=JFK&kg=80'",
            f"curl {bearer} -d '{shipment}' {site}/hub/run/quote/",
            f"curl {bearer} -d '{{}}' {site}/hub/jobs/atlas.import/",
            f"curl {bearer} -N '{site}/hub/stream/airports/?params=%7B%22country%22%3A%22CH%22%7D'",
            f"curl {site}/readyz",
            ".venv/bin/python manage.py pluginhub_list --tenant acme",
        ]


def _set_up_tenant(tenant: Tenant) -> str:
    """Publish the tenant's configuration unless it has one, and return a new access token; older ones end."""
    with tenancy.visit(tenant):
        user = _ensure_user()
        if publishing.live() is None:
            publishing.apply_configuration(SETUPS[tenant.schema](), author=USER, note="Set up by the demo")
        AccessToken.objects.filter(user=user, name=TOKEN).delete()
        return access.issue_token(user, TOKEN)


def _ensure_user() -> User:
    user = User.objects.filter(username=USER).first()
    return user or User.objects.create_superuser(USER, email="admin@localhost", password=PASSWORD)


def _words(shipment: dict[str, object]) -> str:
    return f"{shipment['weight_kg']:g} kg from {shipment['origin']} to {shipment['destination']}"
