"""The page of a comparison: it holds what the table holds, needs nothing else, and shows text as text."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from agent.surfaces.tables import print_comparison
from tuning import page, plots

EVIL = '<script>alert("1")</script> & "quoted"'
VOID = {"meta"}


class Read(HTMLParser):
    """Elements with their attributes, the text of each, and whether every one of them is closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def difference(before: float, after: float, n: int = 40) -> dict[str, Any]:
    return {"n": n, "champion": before, "challenger": after, "delta": after - before, "low": after - before - 0.04,
            "high": after - before + 0.04}


@pytest.fixture
def table() -> dict[str, Any]:
    bins = [{"confidence": 0.55, "right": 0.5, "n": 10}, {"confidence": 0.95, "right": 0.97, "n": 90}]
    arm = {"must_say": 0.71, "bleu": 0.2, "length": 18.5, "unsupported_numbers": 0, "bleu_signature": "nrefs:1"}
    return {
        "domain": "shop", "champion": "shop@0003", "challenger": "shop@0004", "changed": ["generator", "router"],
        "evaluated": "c0ffee" * 8,
        "figures": [{"part": "router", **difference(0.9, 0.96), "champion_interval": [0.8, 0.95],
                     "challenger_interval": [0.9, 0.99], "few_shot": None},
                    {"part": "general", **difference(0.41, 0.40), "few_shot": None}],
        "slices": [{"part": "router", "slice": "intent", "value": "refund", **difference(0.93, 0.2, 15)},
                   {"part": "router", "slice": "length", "value": "short", **difference(0.8, 0.8, 9)},
                   {"part": "oos", "slice": "source", "value": "near", **difference(0.5, 0.75, 30)}],
        "router": {"champion": {"accuracy": 0.9, "reliability": bins}, "challenger": {"accuracy": 0.96, "reliability": bins}},
        "generator": {"champion": arm, "challenger": arm | {"must_say": 0.83}, "few_shot": arm, "base": arm},
        "confusions": [{"intent": "refund", "routed": "return_policy", "champion": 1, "challenger": 12}],
        "gained": [{"part": "oos", "id": "oos:4", "asked": "sing me a song", "wanted": "none", "champion": "refund",
                    "challenger": "none"}],
        "lost": [{"part": "router", "id": "intents:3", "asked": EVIL, "wanted": "refund", "champion": EVIL,
                  "challenger": EVIL}],
        "verdict": {"decision": "refuse", "why": f"intent=refund: 0.93 to 0.20 over 15 pairs {EVIL}",
                    "slice": "router intent=refund", "further_pairs": 1234, "seed": 1,
                    "findings": [{"kind": "harm", "slice": "router intent=refund", "pairs": 15, "champion": 0.93,
                                  "challenger": 0.2, "delta": -0.73, "lower": -0.9, "upper": -0.5, "p": 0.001, "passed": False,
                                  "further_pairs": None, "words": EVIL}]},
        "curves": [{"stage": "router", "done": step, "loss": 2 / step, "held_out": 1.0 if step == 9 else None}
                   for step in range(1, 10)],
        "rows": {"router": {"seed": 200, "intent": 31, EVIL: 1}, "authors": 4, "hash": "abc"},
    }


def test_every_element_is_closed_in_order(table: dict):
    read = Read(page.page(table))
    assert read.wrong == [] and read.open == []


def test_the_page_needs_nothing_but_itself(table: dict):
    text = page.page(table)
    read = Read(text)
    assert not {"script", "link", "img", "iframe", "object", "base"} & {tag for tag, _ in read.elements}
    assert not {"src", "href", "srcset"} & {name for _, attributes in read.elements for name in attributes}
    assert "http" not in text and "url(" not in text and "@import" not in text


def test_text_of_a_row_is_shown_and_never_run(table: dict):
    text = page.page(table)
    assert "<script" not in text and EVIL not in text
    assert "".join(Read(text).text).count(EVIL) == 6  # asked, both answers, the verdict, a finding, a signal


def test_names_are_text_too(table: dict):
    hostile = "</title><script>x</script>"
    table |= {"domain": hostile, "champion": hostile, "challenger": hostile,
              "slices": [{"part": "router", "slice": "intent", "value": hostile, **difference(0.9, 0.1)}],
              "generator": {hostile: {"must_say": 0.5}},
              "curves": [{"stage": hostile, "done": 1, "loss": 1.0, "held_out": None}],
              "confusions": [{"intent": hostile, "routed": hostile, "champion": 1, "challenger": 2}]}
    read = Read(page.page(table))
    assert "script" not in {tag for tag, _ in read.elements} and read.wrong == [] == read.open


def test_the_verdict_stands_first_in_words_with_what_is_missing(table: dict):
    said = " ".join("".join(Read(page.page(table)).text).split())
    assert said.index("Refused") < said.index("Key figures")
    assert "intent=refund: 0.93 to 0.20 over 15 pairs" in said and "About 1,234 more pairs" in said


def test_figures_are_shown_with_their_intervals(table: dict):
    said = "".join(Read(page.page(table)).text)
    for figure in ("90.0", "80.0 to 95.0", "96.0", "90.0 to 99.0", "+6.0", "+2.0 to +10.0", "-1.0", "-5.0 to +3.0"):
        assert figure in said, figure


def test_each_plot_has_a_title_and_what_did_not_move_is_not_drawn(table: dict):
    text = page.page(table)
    titles = [attributes["aria-label"] for attributes in Read(text).all("svg")]
    assert titles == ["Loss of router by step", "Share of right rows over confidence", "Difference by slice"]
    assert "router intent=refund (15)" in text and "router length=short" not in text
    assert "Not drawn: 1 that did not move." in text


def test_a_point_of_the_forest_lies_left_of_zero_when_the_slice_lost():
    drawn = plots.forest("t", [{"name": "worse", "n": 9, "delta": -0.5, "low": -0.7, "high": -0.3},
                               {"name": "better", "n": 9, "delta": 0.5, "low": 0.3, "high": 0.7},
                               {"name": "same", "n": 9, "delta": 0.0, "low": -0.1, "high": 0.1}])
    zero = float(re.search(r'class="axis" x1="([\d.]+)"', drawn)[1])
    dots = {style: float(x) for style, x in re.findall(r'class="(\w+) dot" cx="([\d.]+)"', drawn)}
    assert dots["lost"] < zero < dots["gain"] and dots["even"] == zero


def test_a_curve_leaves_out_what_is_no_number_and_falls_when_the_loss_does():
    drawn = plots.curves("t", {"training": [(1, 2.0), (2, float("nan")), (3, 1.0)], "held out": []})
    (first, last) = re.search(r'class="a" points="([^"]+)"', drawn)[1].split()
    assert float(first.split(",")[1]) < float(last.split(",")[1])  # y grows downwards
    assert plots.curves("t", {"training": [(1, float("inf"))]}) == ""


def test_perfect_confidence_lies_on_the_diagonal():
    drawn = plots.reliability("t", [{"confidence": 0.0, "right": 0.0, "n": 1}, {"confidence": 1.0, "right": 1.0, "n": 1}], [])
    ends = re.search(r'class="axis dash" x1="([\d.]+)" y1="([\d.]+)" x2="([\d.]+)" y2="([\d.]+)"', drawn)
    points = re.search(r'class="a" points="([\d.]+),([\d.]+) ([\d.]+),([\d.]+)"', drawn)
    assert [float(each) for each in ends.groups()] == [float(each) for each in points.groups()]


def test_what_is_not_there_is_left_out():
    empty = Read(page.page({"domain": "shop", "champion": "shop@0001", "challenger": "shop@0002", "figures": [], "slices": []}))
    assert empty.wrong == [] and not empty.all("svg") and not empty.all("table") and not empty.all("h2")


def test_both_files_are_whole_and_replace_older_ones(table: dict, tmp_path: Path):
    page.write_report(tmp_path / "deep" / "bundle", {"domain": "old"})
    page.write_report(tmp_path / "deep" / "bundle", table)
    folder = tmp_path / "deep" / "bundle"
    assert {file.name for file in folder.iterdir()} == {"report.json", "report.html"}
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == table
    assert (folder / "report.html").read_text(encoding="utf-8") == page.page(table)


def test_a_comparison_fits_one_screen_and_ends_with_the_verdict(table: dict, capsys: pytest.CaptureFixture[str],
                                                                monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "120")
    table["slices"] = [{"part": "router", "slice": "intent", "value": f"i{n}", **difference(0.5, 0.5 + (n - 20) / 50)}
                       for n in range(40)]
    print_comparison(table | {"champion": "[red]shop"})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24 and "[red]shop" in lines[0]
    assert "Refused." in " ".join(lines[-4:]) and "About 1234 more pairs" in " ".join(lines[-4:])
    shown = [line for line in lines if "intent=i" in line]
    assert "intent=i0" in shown[0] and "intent=i39" in shown[-1] and len(shown) == 6
