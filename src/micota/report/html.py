"""Rendering of pages from the templates and styles in ``assets``; a page is self-contained and loads nothing."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

ASSETS = "assets"


def render(template: str, **values: Any) -> str:
    """Return a page of HTML; templates include a file of ``assets`` with ``asset(name)``."""
    loader = PackageLoader(__package__, ASSETS)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(template).render(
        asset=lambda file: loader.get_source(environment, file)[0], **values
    )
