"""The report's HTML: elements that escape their text, pictures that carry their own bytes."""

import html
from collections.abc import Callable, Iterable
from importlib.resources import files

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from reverie.plots import curves, pictures
from reverie.plots.curves import Ink
from reverie.plots.pictures import Pixels

VOID = ("img", "meta", "source", "br")


class Html(str):
    """Text that is HTML already; any other text is escaped when it is put into an element."""

    def __add__(self, other: str) -> "Html":
        return Html(str(self) + str(join(other)))


Child = str | None | Iterable["Child"]


def el(name: str, /, *children: Child, **attributes: object) -> Html:
    """An element. Children that are not Html are escaped; None is nothing; `class_` is the attribute class.

    >>> el("p", "2 < 3, ", el("em", "surely"), class_="note")
    '<p class="note">2 &lt; 3, <em>surely</em></p>'
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Html(f"<{name}{told}>")
    return Html(f"<{name}{told}>{join(children)}</{name}>")


def join(children: Child) -> Html:
    """Html of a text, an element, or any nesting of them."""
    if children is None:
        return Html("")
    if isinstance(children, Html):
        return children
    if isinstance(children, str):
        return Html(html.escape(children, quote=False))
    return Html("".join(map(join, children)))


def document(title: str, description: str, kind: str, *body: Child) -> Html:
    """The whole page, with its style inside; `kind` is the body's class."""
    style = (files("reverie") / "report.css").read_text(encoding="utf-8")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="description", content=description),
        el("title", title),
        el("style", Html(style)),
    )
    return Html("<!doctype html>\n" + el("html", head, "\n", el("body", *body, class_=kind), lang="en") + "\n")


def section(key: str, title: str, *children: Child) -> Html:
    """A numbered room of the catalogue."""
    return Html("\n") + el(
        "section", el("header", el("h2", title)), el("div", *children, class_="room"), id=key, aria_label=title
    )


def say(*children: Child) -> Html:
    return el("p", *children)


def figure(picture: Child, caption: Child, kind: str = "plate") -> Html:
    """Something to look at, with one or two sentences below."""
    return el("figure", picture, el("figcaption", caption), class_=kind)


def image(picture: Image.Image, alt: str, shrink: int = 1) -> Html:
    """One crisp picture at `1 / shrink` of its pixels."""
    wide, high = picture.width // shrink, picture.height // shrink
    source = pictures.data_uri(pictures.png(picture), "image/png")
    return el("img", src=source, alt=alt, width=wide, height=high, class_="crisp")


def drawing(draw: Callable[[Ink], Figure], alt: str) -> Html:
    """A matplotlib figure, once for light and once for dark paper."""
    light, dark = (pictures.data_uri(curves.figure_png(draw(ink)), "image/png") for ink in (curves.LIGHT, curves.DARK))
    return el(
        "picture",
        el("source", media="screen and (prefers-color-scheme: dark)", srcset=dark),
        el("img", src=light, alt=alt, class_="drawing"),
    )


def tile(x: Pixels, alt: str, scale: int, *notes: Child) -> Html:
    """One picture (C, H, W), or several (n, C, H, W) one below the other, with small notes under it."""
    stack = x if x.ndim == 4 else x[None]
    made = pictures.grid(stack, 1, 0 if len(stack) == 1 else 3, scale)
    made = made.convert("L" if stack.shape[1] == 1 else "RGB") if len(stack) == 1 else made
    return el("li", image(made, alt), [el("small", note) for note in notes])


def tiles(items: Iterable[Html], width: int) -> Html:
    """Tiles that flow into as many columns as the page is wide."""
    return el("ul", *items, class_="tiles", style=f"--w:{width}px")


def rows(labelled: dict[str, Pixels], alt: str, scale: int, gap: int = 4) -> Html:
    """Rows of pictures, columns aligned, each row (n, C, H, W) with its name at the left."""
    count = max(len(x) for x in labelled.values())
    body = [
        el(
            "tr",
            el("th", name, scope="row"),
            el("td", image(pictures.strip(_filled(x, count), gap, scale), f"{alt}: {name}")),
        )
        for name, x in labelled.items()
    ]
    return el("table", el("tbody", *body), class_="rows")


def _filled(x: Pixels, count: int) -> Pixels:
    return np.concatenate([x, x[-1:].repeat(count - len(x), 0)]) if len(x) < count else x


def table(head: Iterable[Child], body: Iterable[Iterable[Child]], kind: str = "") -> Html:
    heads = el("thead", el("tr", *(el("th", cell, scope="col") for cell in head)))
    lines = [
        el("tr", *(el("th", c, scope="row") if i == 0 else el("td", c) for i, c in enumerate(line))) for line in body
    ]
    return el("div", el("table", heads, el("tbody", *lines)), class_=f"wide {kind}".strip())


def settings(values: dict[str, object]) -> Html:
    """Names and values; a value that is itself a table is nested."""
    lines = [
        el("div", el("dt", key.replace("_", " ")), el("dd", settings(v) if isinstance(v, dict) else plain(v)))
        for key, v in values.items()
    ]
    return el("dl", *lines, class_="settings")


def plain(value: object) -> str:
    """A setting as a person writes it."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " × ".join(map(plain, value))
    return f"{value:,}" if isinstance(value, int) and abs(value) >= 10_000 else str(value)


def power(exponent: float) -> Html:
    """10 to the exponent, as a person writes it: ten followed by a raised whole number, or the number itself.

    >>> power(-1234.4), power(2.7092699609758306)
    ('10<sup>−1,234</sup>', '512')
    """
    if 0 <= exponent < 6:
        return Html(f"{float(f'{10**exponent:.3g}'):,g}")
    return Html("10") + el("sup", f"{round(exponent):,}".replace("-", "−"))


def number(value: float | None, error: float | None = None) -> str:
    """A value to the digits that its error leaves meaning.

    >>> number(5.82341, 0.0412), number(1234.56, 12.0), number(0.5), number(None)
    ('5.823 ± 0.041', '1,235 ± 12', '0.5', '–')
    """
    if value is None or not np.isfinite(value):
        return "–"
    if error is None or not np.isfinite(error) or error <= 0:
        text = f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
        return text.replace("-", "−")
    digits = int(np.clip(1 - np.floor(np.log10(error)), 0, 6))
    return f"{value:,.{digits}f} ± {error:,.{digits}f}".replace("-", "−")
