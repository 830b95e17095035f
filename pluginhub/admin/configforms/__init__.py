"""Ordinary Django forms made from pydantic models, and what they give back: plain JSON that the model accepts."""

from pluginhub.admin.configforms.forms import ConfigForm, form_for

__all__ = ["ConfigForm", "form_for"]
