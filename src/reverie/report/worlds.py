"""Chance, the data, and the numbers."""
# ruff: noqa: E501 (sentences for people are not cut at a column)

import math

from reverie.core.abilities import dream
from reverie.core.model import Surprised
from reverie.models import MODELS
from reverie.report import page
from reverie.report.page import Html, el, say, section
from reverie.report.view import View


def opening(view: View, title: str) -> Html:
    """The title, the figures that matter, and a few dreams."""
    facts = []
    for name, words in (("bits_per_dim", "bits for each entry of a held-out example"), ("memorisation", "times as far from the training examples as new ones are")):
        if (score := view.score(name)) is not None:
            facts.append(el("div", el("b", page.number(score.value, score.error)), el("span", words), class_="fact"))
    strip = None
    if view.pictures:
        picture = page.pictures.strip(view.pixels(dream(view.model, 10)), 3, view.scale)
        strip = page.image(picture, "ten dreams")
    return el("header", el("p", "Reverie", class_="house"), el("h1", title), strip, el("div", *facts, class_="facts"), class_="opening")


def chance(view: View) -> Html | None:
    """Truly random examples beside real ones, and how likely the real ones are."""
    if not view.pictures or not isinstance(view.model, Surprised):
        return None
    space = view.data.space
    noise = MODELS["noise"](MODELS["noise"].Config(), space)
    random, real = view.pixels(noise.sample(8)), view.pixels(view.different(8))
    levels = 256 if space.kind == "byte" else 2
    if space.lattice is None:
        return None
    found = view.model.surprise(view.data.test.x(100), draws=100)
    nats = float(found.value.mean())
    by_chance, by_model = -space.dims * math.log10(levels), -nats / math.log(10)
    bits = nats / math.log(2) / space.dims
    return section(
        "chance", "What chance makes",
        page.figure(page.rows({"chance": random, view.data.name: real}, "pictures", view.scale), "Above, pictures whose every entry was drawn blindly. Below, held-out pictures the machine has never seen."),
        say("There are ", el("b", f"{levels}", el("sup", f"{space.dims:,}")), " = ", page.power(-by_chance), " possible pictures of this size, and blind chance makes each of them as often as any other: a given one turns up once in ", page.power(-by_chance), " tries."),
        say("This machine expects the held-out pictures: it gives one of them, on (geometric) average, a probability of ", page.power(by_model), ". That is ", el("b", page.power(by_model - by_chance), " times"), f" what chance gives it. It spends {bits:.2f} bits on an entry instead of {math.log2(levels):g}; a world described so well fills about ", page.power(by_chance - by_model), " of the space of all pictures, which is why nobody has ever met a face in noise."),
        say(f"({found.method}, {len(found.value)} held-out pictures; where it is an importance-weighted estimate, the true probability is on average no smaller.)"),
    )  # fmt: skip


def shown(view: View) -> Html | None:
    """The data as the model sees them."""
    data = view.data
    counts = f"{len(data.train):,} examples to learn from, {len(data.valid):,} to choose by, {len(data.test):,} kept for the final measurement."
    told = [say(counts, f" Each has {data.space.dims:,} {data.space.kind} entries, {' × '.join(map(str, data.space.shape))}.")]
    if data.skipped:
        told.append(say(f"{len(data.skipped)} files could not be used: ", "; ".join(f"{n} ({why})" for n, why in data.skipped[:6]), "."))
    if view.points:
        world = data.train.raw(slice(0, 2000)).numpy()
        return section("data", "The world", *told, page.drawing(lambda ink: page.curves.scatter({data.name: world}, ink), "training points"))
    if not view.pictures:
        return section("data", "The world", *told)
    rows = {"as they are": view.bytes(data.train.raw(slice(0, 8)))}
    if view.model.learners():
        batch = next(data.batches(min(8, len(data.train)), view.run.seed, config=view.run.training))
        rows["as it sees them"] = view.pixels(batch.x)
    words = "Training examples, and others as the loader hands them over: moved, lit or mirrored as the settings say."
    return section("data", "The world", page.figure(page.rows(rows, "training pictures", view.scale), words), *told)


def curves(view: View) -> Html | None:
    """How the losses fell."""
    log = [row for row in view.run.log if row["losses"]]
    if len(log) < 3:
        return None
    losses = {name: [row["losses"][name] for row in log] for name in log[0]["losses"]}
    held = [row for row in log if row.get("valid")]
    valid = {name: [row["valid"][name] for row in held] for name in held[0]["valid"]} if held else {}
    dims = view.data.space.dims if isinstance(view.model, Surprised) else None

    def draw(ink: page.Ink) -> page.Figure:
        return page.curves.learning([r["step"] for r in log], losses, [r["step"] for r in held], valid, dims, ink)

    words = "The bound on surprise, falling. Validation is measured on the averaged weights, without what the loader does to training pictures."
    return section("curves", "How it learned", page.figure(page.drawing(draw, "learning curves"), words, "chart"))


def scores(view: View) -> Html | None:
    """Every score between its floor and its ceiling."""
    if not view.scores:
        return None
    head = ("score", "value", "floor", "ceiling", "unit", "better", "how it was measured")
    lines = [
        (s.name.replace("_", " "), page.number(s.value, s.error), page.number(s.floor), page.number(s.ceiling), s.unit, s.better, s.method)
        for s in view.scores
    ]
    words = "The floor is what noise scores, the ceiling what real examples score that the machine has not seen. Errors are one standard error."
    return section("scores", "Scores", say(words), page.table(head, lines, "scores"))


def settings(view: View) -> Html:
    """All that is needed to do it again."""
    config = {k: v for k, v in view.run.config.items() if k != "command"}
    command = view.run.config.get("command")
    again = [say("This command makes the run again:"), el("pre", el("code", command))] if command else []
    return section("settings", "Every setting", *again, el("details", el("summary", "all of them"), page.settings(config)))

