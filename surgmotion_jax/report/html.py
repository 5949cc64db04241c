"""The page: escaping, the frame around the sections, tables. Nothing here knows about runs."""

from __future__ import annotations

import html as standard_html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surgmotion_jax.report.style import STYLE

# Whatever slips through escaping, a browser loads nothing from elsewhere and runs no script.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True)
class Section:
    """One part of the report: a plain-text title, and finished (already escaped) HTML."""

    title: str
    html: str


def escape(text: object) -> str:
    """Text made harmless for HTML content and quoted attributes; unprintable characters become U+FFFD."""
    return standard_html.escape(_CONTROL.sub("\ufffd", str(text)), quote=True)


def plain(value: Any) -> str:
    """A JSON value as (unescaped) text: lists joined by commas, numbers grouped, nothing rounded."""
    if isinstance(value, Mapping):
        value = [f"{key}: {plain(part)}" for key, part in value.items()]
    if isinstance(value, list | tuple):
        return ", ".join(plain(part) for part in value) or "(empty)"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else "not a number"
    return str(value) or "(empty)"


def sentence(text: str) -> str:
    """One quiet paragraph, escaped."""
    return f'<p class="quiet">{escape(text)}</p>'


def within(name: str) -> str:
    """A title as it reads inside a sentence: lower case, unless its first word is a name such as RankMe or EMA."""
    first = name.split(maxsplit=1)[0] if name.strip() else ""
    return name if any(letter.isupper() for letter in first[1:]) else name[:1].lower() + name[1:]


def pairs_table(pairs: Iterable[tuple[str, Any]], caption: str = "") -> str:
    """Two columns: name, value."""
    head = f"<caption>{escape(caption)}</caption>" if caption else ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(plain(value))}</td></tr>' for name, value in pairs
    )
    return f'<table class="pairs">{head}<tbody>{rows}</tbody></table>'


def folded(summary: str, body_html: str, *, is_open: bool = False) -> str:
    """A collapsible block that needs no script."""
    state = " open" if is_open else ""
    return f"<details{state}><summary>{escape(summary)}</summary>{body_html}</details>"


def anchor(title: str) -> str:
    """The fragment name of a section."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "section"


def page(title: str, subtitle: str, sections: Sequence[Section], kind: str = "pretraining report") -> str:
    """The whole document; section titles, page title, subtitle and kind are escaped here."""
    links = "".join(f'<a href="#{anchor(part.title)}">{escape(part.title)}</a>' for part in sections)
    body = "".join(
        f'<section id="{anchor(part.title)}"><h2>{escape(part.title)}</h2>\n{part.html}\n</section>\n'
        for part in sections
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)} · {escape(kind)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        f'<header><p class="eyebrow">SurgMotion {escape(kind)}</p><h1>{escape(title)}</h1>'
        f'<p class="subtitle">{escape(subtitle)}</p><nav aria-label="Sections">{links}</nav></header>\n'
        f"{body}</main>\n</body>\n</html>\n"
    )
