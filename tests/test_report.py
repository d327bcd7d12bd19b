"""The page of a run: whole, self-contained, honest about what the machine cannot do."""

import dataclasses
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from reverie.core.recipe import TrainingConfig
from reverie.data import DataConfig, open_data
from reverie.data.series import from_trials
from reverie.data.windows import Trial
from reverie.evaluation import Score
from reverie.models import MODELS
from reverie.recording import record
from reverie.report import motion, write_report
from reverie.report.dreams import nearest
from reverie.report.page import el, number, table
from reverie.report.records import command
from reverie.report.scene import Scene
from reverie.report.senses import jackknife_rmse
from reverie.report.world import odds
from reverie.run import Run
from reverie.training import fabric_for

EVERY = [
    "chance", "data", "learning", "dreams", "walk", "directions", "perceiving", "mending", "surprise",
    "curves", "scores", "settings",
]  # fmt: skip
VOID = {"meta", "img", "source", "br"}


class Page(HTMLParser):
    """Checks that what was opened is closed, in order, and keeps what tests ask about."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.sections: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.sections.append(dict(attrs)["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data if self.open and self.open[-1] != "style" else ""


def trained(folder, data, model, config=None, steps=12, **training):
    run = Run.create(folder, model, config or MODELS[model].Config(), TrainingConfig(steps, 32, **training), data, 3)
    for _ in record(run, data, fabric_for("cpu")):
        pass
    return Run.load(run.folder)


def vae(**knobs):
    return MODELS["vae"].Config(latent=4, width=16, **knobs)


SCORES = [
    Score("nats", 300.0, 4.0, "nats", "lower", 354.9, None, "IWAE-500"),
    Score("recall", 0.4, 0.02, "share", "higher", 0.0, 0.9, "k=5"),
]


@pytest.fixture(scope="module")
def digits():
    return open_data("digits")


@pytest.fixture(scope="module")
def written(tmp_path_factory, digits):
    run = trained(tmp_path_factory.mktemp("runs") / "vae", digits, "vae", vae(), light=0.1)
    return run, write_report(run, digits, SCORES).read_text("utf-8")


def test_a_vae_fills_every_room(written):
    page = Page(written[1])
    assert page.sections == EVERY
    assert "10154 different pictures" in page.text  # 256^64, the exponent raised
    assert "6.763 ± 0.090" in page.text  # the cost in the scores: 300 ± 4 nats over 64 entries


def test_the_page_is_alone_in_the_world(written):
    run, text = written
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        for name in ("src", "href", "srcset"):
            assert (attributes.get(name) or "data:").startswith("data:image/") or attributes.get(name) is None
        assert tag != "img" or attributes.get("alt") is not None
    assert dict(page.tags)["html"] == {"lang": "en"}
    style = re.search("<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    assert "http" not in re.sub(r"data:image/\w+;base64,[\w+/=]+", "", text)
    assert sorted(p.name for p in run.folder.iterdir() if p.name.startswith(".")) == []  # nothing half written


def test_the_same_run_gives_the_same_page_and_leaves_chance_alone(written, digits):
    run, text = written
    torch.manual_seed(5)
    before = torch.get_rng_state()
    assert write_report(Run.load(run.folder), digits, SCORES).read_text("utf-8") == text
    assert torch.equal(before, torch.get_rng_state())


def test_what_a_machine_lacks_is_no_room(tmp_path, digits):
    page = Page(write_report(trained(tmp_path / "n", digits, "noise"), digits, []).read_text("utf-8"))
    assert page.sections == ["chance", "data", "dreams", "mending", "surprise", "settings"]
    assert "knows nothing better" in page.text


def test_what_a_machine_saw_of_itself_is_drawn_and_the_best_weights_have_a_page_of_their_own(tmp_path, digits):
    config = MODELS["gan"].Config(latent=4, width=4, inversion=4)
    run = trained(tmp_path / "g", digits, "gan", config, steps=40, beta1=0.0)
    page = Page(write_report(run, digits, []).read_text("utf-8"))
    assert {"walk", "directions", "boldness", "inversion", "watched"} <= set(page.sections)
    assert "nearest to these examples" in page.text or "No earlier dreams lay nearer" in page.text
    assert "what one gains the other loses" in page.text
    best = Run.load(run.folder, best=True)
    path = write_report(best, digits, [])
    assert path.name == "best-report.html"
    assert "g (best)" in path.read_text("utf-8")


def test_points_are_scattered(tmp_path):
    rings = open_data("rings", count=200)
    run = trained(tmp_path / "p", rings, "vae", vae())
    page = Page(write_report(run, rings, []).read_text("utf-8"))
    assert page.sections == ["chance", "data", "learning", "dreams", "walk", "surprise", "curves", "settings"]


def test_bits_work_too(tmp_path):
    kirby = open_data("kirby", count=200)
    page = Page(write_report(trained(tmp_path / "k", kirby, "vae", vae()), kirby, []).read_text("utf-8"))
    assert page.sections == [name for name in EVERY if name != "scores"]
    assert "no machine can need less than" in page.text


def test_a_table_with_holes_has_other_worlds_it_can_be_asked_about(tmp_path):
    rows = [[f"{i % 7}.5", "xyz"[i % 3], ""][:: 1 if i % 2 else -1] for i in range(60)]
    text = "\n".join(",".join(row) for row in [["a", "b", "c"], *rows])
    (tmp_path / "t.csv").write_text(text)
    table = open_data(str(tmp_path / "t.csv"))
    assert table.space.kind == "mixed"
    page = Page(write_report(trained(tmp_path / "t", table, "vae", vae()), table, []).read_text("utf-8"))
    assert "shuffled" in page.text
    assert "inf" not in re.findall(r"\w+", page.text)


def test_text_from_outside_stays_text(tmp_path, digits):
    evil = dataclasses.replace(
        digits, name="<script>alert(1)</script>", skipped=(("<img src=x onerror=boo>", 'no & "picture"'),)
    )
    run = trained(tmp_path / "e", evil, "independent")
    text = write_report(run, evil, []).read_text("utf-8")
    page = Page(text)
    assert "<script" not in text
    assert "<img src=x" not in text
    assert "<script>alert(1)</script>" in page.text
    assert "<img src=x onerror=boo>" in page.text


def test_elements_escape_what_is_not_html():
    assert el("p", "a < b", el("b", '"&"'), title='"<') == '<p title="&quot;&lt;">a &lt; b<b>"&amp;"</b></p>'
    assert "<td>&lt;</td>" in table(["x", "y"], [["1", "<"]])


def test_numbers_show_what_their_errors_allow():
    assert number(0.123456, 0.01) == "0.123 ± 0.010"
    assert number(-2.5) == "−2.5"
    assert number(float("nan"), 1.0) == "–"
    assert number(12345.6, 100.0) == "12,346 ± 100"


def test_chance_and_machine_are_compared_as_they_should_be():
    found = odds(1920, 256, nats=1920 * 6 * math.log(2), error=10.0)
    assert found.pictures == pytest.approx(1920 * 8 * math.log10(2))
    assert found.gain == pytest.approx(1920 * 2 * math.log10(2))  # two bits a pixel
    assert odds(9, 2, nats=9 * math.log(2), error=0.0).gain == pytest.approx(0)


def test_the_nearest_training_picture_is_found_also_in_the_mirror(written, digits):
    run, _ = written
    scene = Scene(run, dataclasses.replace(digits, mirror=True), [])
    distance, which, looks = nearest(scene, scene.train[[5, 9]].flip(-1))
    assert which.tolist() == [5, 9]
    assert np.allclose(distance, 0, atol=0.1)
    assert torch.equal(looks, scene.train[[5, 9]].flip(-1))
    distance, _, looks = nearest(scene, scene.held[:4])
    assert np.allclose(distance, (looks - scene.held[:4]).flatten(1).square().mean(1).sqrt() * 127.5, atol=0.1)


def test_errors_of_mending_count_hidden_entries_alone():
    truth, where = torch.zeros(4, 1, 2, 2), torch.tensor([[[True, False], [True, False]]])
    guess = torch.tensor([[[1.0, 50.0], [1.0, 50.0]]]).expand(4, 1, 2, 2)
    (own, usual), (error, _) = jackknife_rmse(guess, truth, torch.full((1, 2, 2), 3.0), where, None)
    assert (own, usual, error) == (1.0, 3.0, 0.0)


def test_the_command_repeats_the_run(written, digits, tmp_path):
    told = command(Scene(written[0], digits, []))
    assert told.startswith("reverie train digits --model vae --steps 12 --seed 3 ")
    assert "--model.latent 4" in told
    assert "--training.light 0.1" in told
    run = written[0]
    run.config["command"] = "reverie train digits --minutes 5 --out 'my run' --resume"
    assert command(Scene(run, digits, [])) == "reverie train digits --steps 12 --out 'my run'"
    run.config["training"]["settled"] = [5, 9]  # rounds that were settled again on the way
    assert command(Scene(run, digits, [])) == "reverie train digits --steps 12 --training.settled 5 9 --out 'my run'"
    del run.config["command"], run.config["training"]["settled"]


@pytest.mark.parametrize("name", ["kirby", "digits"])
def test_a_machine_with_layers_shows_its_units(tmp_path, name, digits):
    data = digits if name == "digits" else open_data("kirby", count=200)
    config = MODELS["helmholtz"].Config(layers=(30, 4), draws=2)
    run = trained(tmp_path / "h", data, "helmholtz", config)
    page = Page(write_report(run, data, []).read_text("utf-8"))
    assert page.sections == [*EVERY[:6], "layers", *[room for room in EVERY[6:] if room != "scores"]]
    shown = [alt for tag, given in page.tags if tag == "img" and "fantasy" in (alt := given.get("alt") or "")]
    assert sum("of layer 1:" in alt for alt in shown) == 24  # the strongest of 30
    assert sum("of layer 2:" in alt for alt in shown) == 4
    assert "24 of 30 units" in page.text
    assert "All 4 units" in page.text


def test_fields_are_painted_grey_where_there_is_nothing(written, digits):
    scene = Scene(written[0], digits, [])
    field = torch.zeros(2, 1, 8, 8)
    field[0, 0, 0], field[0, 0, 1] = 3.0, -3.0
    painted = scene.paint_field(field)
    assert set(painted[0, 0, 0]) == {255}
    assert set(painted[0, 0, 1]) == {0}
    assert set(painted[0, 0, 2:].flatten()) == {128}
    assert set(painted[1].flatten()) == {128}  # a unit without weights


@pytest.mark.parametrize("cell", ["shallow", "gru"])
def test_a_machine_that_moves_shows_where_it_goes(tmp_path, cell):
    data = open_data("lorenz", count=900, window=30)
    config = MODELS["recurrent"].Config(cell=cell, hidden=6, members=2)
    run = trained(tmp_path / "m", data, "recurrent", config)
    page = Page(write_report(run, data, []).read_text("utf-8"))
    assert page.sections[:4] == ["data", "attractor", "rhythms", "beside"]
    assert "Lyapunov exponents" in page.text
    assert ("it begins at" in page.text) == (cell == "shallow")


def test_a_machine_that_runs_away_has_no_attractor(tmp_path):
    data = open_data("lorenz", count=900, window=30)
    run = trained(tmp_path / "m", data, "recurrent", MODELS["recurrent"].Config(hidden=6))
    run.model.diverged.fill_(True)
    scene = Scene(run, data, [])
    assert motion.attractor(scene) is motion.rhythms(scene) is motion.beside(scene) is None


def test_fixed_points_of_a_machine_are_told_in_the_units_of_the_world(tmp_path):
    """z' = z / 2 + 1/2 in every channel stands still at 1, which is a standard deviation above the mean."""
    data = open_data("lorenz", count=900, window=30)
    run = trained(tmp_path / "m", data, "recurrent", MODELS["recurrent"].Config(hidden=6))
    with torch.no_grad():
        for p in run.model.cell.parameters():
            p.zero_()
        run.model.cell.a.fill_(0.5)
        run.model.cell.h.fill_(0.5)
    text = Page(str(motion.attractor(Scene(run, data, [])))).text
    where = data.codec.to_world(torch.ones(1, 3))[0]
    assert ", ".join(f"{value:.3g}" for value in where.tolist()) in text
    assert "stable" in text
    assert "Neighbours do not part" in text


def test_a_cohort_shows_in_what_its_subjects_differ(tmp_path):
    trials = [
        Trial(np.random.default_rng(i).standard_normal((100, 2)).astype(np.float32), None, "ab"[i]) for i in range(2)
    ]
    data = from_trials("two", trials, {}, DataConfig(window=20, split="time"))
    run = trained(tmp_path / "m", data, "cohort", MODELS["cohort"].Config(classes=2, hidden=4, vector=3))
    page = Page(write_report(run, data, []).read_text("utf-8"))
    assert page.sections[:4] == ["data", "subjects", "attractor", "rhythms"]
    assert "2 subjects" in page.text


def test_a_driven_machine_has_no_attractor_but_a_day(tmp_path):
    data = open_data("spikes", window=20)
    run = trained(tmp_path / "m", data, "recurrent", MODELS["recurrent"].Config(inputs=1, hidden=4))
    page = Page(write_report(run, data, []).read_text("utf-8"))
    assert page.sections[:3] == ["data", "rhythms", "beside"]
    assert "acted on the world from outside" in page.text
