"""Plugins that quote air freight between the world's airports, one family a module."""
