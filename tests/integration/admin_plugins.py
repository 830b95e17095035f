"""Plugins the admin's tests register: one with a secret, one that contains others, one that cannot be imported."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, SecretStr, model_validator

from pluginhub import CompositePlugin, Context, Plugin


class Greet(Plugin):
    """Put a greeting before a name."""

    class Config(BaseModel):
        greeting: str = Field("Hello", max_length=20)
        token: SecretStr | None = None

        @model_validator(mode="after")
        def _polite(self) -> Greet.Config:
            if self.greeting == "Oi":
                raise ValueError("Oi is no greeting")
            return self

    def process(self, value: Any, context: Context) -> Any:
        return f"{self.config.greeting} {value}"


class Louder(CompositePlugin):
    """Run the members and say it louder."""

    class Config(BaseModel):
        marks: int = Field(1, ge=1, le=3)

    async def process(self, value: Any, context: Context) -> Any:
        for child in self.children:
            value = await context.acall(child, value)
        return f"{value}{'!' * self.config.marks}"


class Wrap(Plugin):
    """Say when a call passes."""

    async def intercept(self, request: Any, call_next: Any) -> Any:
        return await call_next(request)
