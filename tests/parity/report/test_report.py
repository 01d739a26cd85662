"""The reports: what they must show, whatever a run found and whatever its names are."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from parity.cause import Cause
from parity.comparison.findings import BACKWARDS, Place
from parity.report import html as report_html
from parity.report import json as report_json
from parity.report import plots as report_plots
from parity.report import text as report_text
from parity.report import words as words
from parity.result import Check, Finding, Report
from tests.parity.report import fake_reports as fake

REPORTS = {
    "passing": fake.passing, "failing": fake.failing, "failing in 50 layers": lambda: fake.failing(3),
    "not finite": fake.not_finite, "big": fake.big, "hostile": lambda: hostile(),
    "empty": lambda: dataclasses.replace(fake.passing(), checks=()),
}  # fmt: skip
HOSTILE = "<script>alert('&amp;\")</script>\x1b[2J\x00\ud800\n  {layer} " + 40 * "long name "
VOID = {"meta", "link", "col", "wbr"}


@pytest.fixture(params=REPORTS)
def report(request: pytest.FixtureRequest) -> Report:
    """Each kind of report in turn."""
    return REPORTS[request.param]()


def hostile() -> Report:
    """Names that try to be markup, commands for the terminal, or very long."""

    def spoil(text: str) -> str:
        return HOSTILE.replace("{layer}", text)

    checks = [
        dataclasses.replace(
            check, name=spoil(check.name), unit=spoil(check.unit),
            cause=Cause(spoil(""), spoil(check.cause.words if check.cause else "")),
            findings=tuple(dataclasses.replace(f, where=spoil(f.where)) for f in check.findings),
        )
        for check in fake.failing().checks
    ]  # fmt: skip
    return Report(spoil("resnet18"), {spoil("jax"): spoil("1")}, tuple(checks), 1.0, fake.TITLES)


def flat(text: str) -> str:
    """The text without the places where its lines break."""
    return re.sub(r"\s+", " ", text)


class Page(HTMLParser):
    """What a browser sees of a page: its elements, their nesting checked, and its text."""

    def __init__(self, source: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(source)
        self.close()
        assert self.open == []
        self.text = flat("".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def strict(text: str) -> Any:
    """Read JSON as other languages do, which know no NaN."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


def rebuild(content: dict[str, Any]) -> Report:
    """A report from its JSON."""
    checks = [
        Check(
            *(check[key] for key in ("level", "name", "precision", "unit")),
            tuple(Finding(f["where"], float(f["error"]), float(f["allowed"])) for f in check["findings"]),
            Cause(check["family"], check["cause"]) if check["cause"] else None,
        )
        for check in content["checks"]
    ]  # fmt: skip
    return Report(
        content["subject"], content["environment"], tuple(checks), float(content["seconds"]), fake.TITLES
    )


def test_json_has_every_bit_of_the_report(report: Report):
    content = strict(report_json.render(report))
    assert repr(rebuild(content)) == repr(report)  # repr: NaN equals itself, and every bit of a number counts
    assert content["passed"] is report.passed
    assert [check["passed"] for check in content["checks"]] == [check.passed for check in report.checks]


def test_json_writes_what_is_not_finite_as_words():
    check = Check(2, "n", "f32", "u", (Finding("a", math.nan, 1.0), Finding("b", np.float32(0.1), -math.inf)))
    report = Report("s", {}, (check,), 1.0, fake.TITLES)
    first, second = strict(report_json.render(report, [{"seconds": math.nan}]))["checks"][0]["findings"]
    assert first == {"where": "a", "error": "nan", "allowed": 1.0, "ratio": "inf"}
    assert second == {"where": "b", "error": float(np.float32(0.1)), "allowed": "-inf", "ratio": "inf"}


def test_json_has_the_planted_bugs():
    assert strict(report_json.render(fake.passing(), fake.mutants()))["mutants"] == fake.mutants()
    assert "mutants" not in strict(report_json.render(fake.passing()))


def test_text_fits_and_cannot_command_the_terminal(report: Report):
    text = report_text.render(report)
    assert max(map(len, text.split("\n"))) <= report_text.WIDTH
    assert all(line.isprintable() for line in text.split("\n"))


def test_text_has_one_line_per_check(report: Report):
    lines = [line for line in report_text.render(report).split("\n") if re.search("  (pass|FAIL)$", line)]
    assert len(lines) == len(report.checks)
    for line, check in zip(lines, report.checks, strict=True):
        assert line.split()[0] == str(check.level)
        assert line.endswith("pass" if check.passed else "FAIL")
        assert re.search(f"  {check.precision} ", line)
        assert words.margin(check.worst) in line
        assert words.printable(check.name)[:8] in line
        numbers = [re.escape(words.number(n)) for n in (check.worst.error, check.worst.allowed)]
        assert re.search(" " + " +".join(numbers) + " ", line)


def test_text_explains_every_failure(report: Report):
    text = flat(report_text.render(report))
    for check in report.checks:
        first = check.first_failure
        if first is not None and report.subject.startswith("resnet"):
            failed = sum(finding.ratio > 1 for finding in check.findings)
            count = f"{failed} of {len(check.findings)} comparisons fail."
            assert f"First in {first.where}: {words.of_budget(first, check.unit)}; {count}" in text
            assert f"Likely cause: {words.likely_cause(check)}" in text


def test_what_is_less_exact_is_not_called_within_its_budget():
    place = Place(
        "bn1 dbias", 2.26, 1.0, f"layer{BACKWARDS}", "bn1.bias", "bn1.bias", "", "f32", 9.0, 0, cleared=True
    )
    check = Check(4, "gradients", "f32", "", (Finding("conv1", 0.5, 1.0), place))
    report = dataclasses.replace(fake.passing(), checks=(check,))
    assert report.passed
    *_, line, _, _, verdict = report_text.render(report).splitlines()
    assert line.endswith("2.26× over  less exact")
    assert verdict == (
        "The two engines compute the same: 1 check, 2 comparisons, all within budget, but 1 less exact"
    )
    assert "✓ less exact" in report_html.render(report)


def test_text_ends_with_the_verdict():
    assert report_text.render(fake.passing()).split("\n")[-1] == (
        "The two engines compute the same: 22 checks, 719 comparisons, all within budget"
    )
    assert report_text.render(fake.failing()).split("\n")[-1] == (
        "NOT the same: 5 of 22 checks fail, first at level 3, in layer1.0.bn1.var"
    )
    assert report_text.render(fake.big()).split("\n")[-1] == (
        "NOT the same: 1 of 10 checks fails, first at level 2, in layer3.0.shortcut.bn"
    )
    assert report_text.render(REPORTS["empty"]()).split("\n")[-1].startswith("NOT the same: no check ran")


def test_colours_change_no_character(report: Report):
    coloured = report_text.render(report, colour=True)
    assert re.sub("\x1b\\[[0-9;]*m", "", coloured) == report_text.render(report)
    assert "\x1b[" in coloured


@pytest.mark.parametrize(
    ("terminal", "environment", "wanted"),
    [(True, {}, True), (False, {}, False), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False)],
)
def test_only_a_terminal_gets_colours(
    terminal: bool, environment: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
    assert report_text.use_colour(stream) is wanted


def test_the_page_is_well_formed_and_loads_nothing(report: Report):
    source = report_html.render(report, fake.mutants())
    page = Page(source)
    assert not {"script", "img", "iframe", "object", "base"} & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not {"src", "srcset", "style", "onload", "onclick"} & set(attributes)
    links = [attributes["href"] for _, attributes in page.elements if "href" in attributes]
    targets = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert all(link == "data:," or (link or "").removeprefix("#") in targets for link in links)
    assert not re.search(r"url\(|@import|https?:", source)
    assert "default-src 'none'" in source
    source.encode("utf-8")  # no lone surrogate


def test_the_page_shows_every_name_as_it_is(report: Report):
    text = Page(report_html.render(report)).text
    for check in report.checks:
        for name in (check.name, check.unit, check.worst.where if check.worst.error else ""):
            assert flat(words.printable(name)) in text
    assert flat(words.printable(report.subject)) in text


def test_the_page_explains_every_failure(report: Report):
    text = Page(report_html.render(report)).text
    failed = [check for check in report.checks if not check.passed]
    assert text.count("✗ FAIL") == len(failed)
    assert text.count("✓ pass") == len(report.checks) - len(failed)
    assert flat(words.verdict(report)) in text
    for check in failed:
        assert check.first_failure is not None
        budget = words.of_budget(check.first_failure, check.unit)
        cause = check.cause.words if check.cause else "none recognised"
        told = words.printable(f"First in {check.first_failure.where}: {budget}. Likely cause: {cause}")
        assert flat(told) in text


def test_every_plot_is_valid_xml(report: Report):
    plots = re.findall(r"<svg.*?</svg>", report_html.render(report), re.DOTALL)
    assert len(plots) >= len(report.checks)
    for plot in plots:
        ElementTree.fromstring(plot)


def test_every_layer_has_a_row_that_tells_its_numbers(report: Report):
    source = report_html.render(report)
    titles = {
        str(title.text)
        for plot in re.findall(r"<svg.*?</svg>", source, re.DOTALL)
        for title in ElementTree.fromstring(plot).iter("title")
    }
    steps = "\n".join(title for title in titles if title.startswith("step "))
    for check in report.checks:
        if report_plots.is_trajectory(check):
            for f in check.findings:
                assert re.search(
                    f"^{f.where} ·.* {check.precision}: {re.escape(words.of_budget(f))}", steps, re.M
                )
        elif report_plots.has_layers(check):
            for f in check.findings:
                start = words.printable(f"{f.where}: ")
                end = words.printable(f", {check.name}, {check.precision}")
                found = [t for t in titles if t.startswith(start) and t.endswith(end)]
                assert any(words.of_budget(f) in t for t in found), f


@pytest.mark.parametrize("make", [fake.passing, fake.failing, fake.not_finite])
def test_marks_lie_on_their_side_of_the_budget_in_the_order_of_the_ratios(make: Any):
    for check in make().checks:
        if not report_plots.has_layers(check):
            continue
        axis = report_plots.RatioAxis(check.findings, 100, 400)
        ordered = sorted(check.findings, key=lambda finding: finding.ratio)
        places = [axis(finding.ratio) for finding in ordered]
        assert places == sorted(places)
        assert all(100 < place < 400 for place in places)
        for finding, place in zip(ordered, places, strict=True):
            assert (place > axis(1)) == (finding.ratio > 1)


def test_the_axis_is_logarithmic_with_places_for_zero_and_infinity():
    axis = report_plots.RatioAxis([Finding("a", 1e-3, 1.0), Finding("b", 1e2, 1.0)], 0, 100 + 28)
    assert [axis(10.0**k) for k in range(-3, 3)] == pytest.approx([14, 34, 54, 74, 94, 114])
    assert axis(0) == 7
    assert axis(math.inf) == 121
    assert axis(1e-300) == axis(1e-3)  # what is beyond the axis is drawn at its end
    assert axis(1e300) == axis(1e2)


def test_failures_are_told_apart_by_shape_and_the_first_is_marked():
    check = fake.failing().checks[8]
    drawing = report_plots.layers([check])
    passed = list(drawing.iter("circle"))
    failed = [e for e in drawing.iter("path") if e.get("class") == "bad"]
    assert (len(passed), len(failed)) == (3, 37)
    marked = [e.text for e in drawing.iter("text") if (e.text or "").startswith("▸")]
    assert marked == [f"▸ {check.first_failure.where}"]
    crosses = report_plots.layers([fake.not_finite().checks[4]]).iter("path")
    assert [e.get("class") for e in crosses] == ["bad cross"] * 23


def test_checks_of_the_same_layers_stand_side_by_side():
    checks = [fake.per_layer(i, 2, f"check {i}", "f64", fake.layer_names()) for i in range(7)]
    other = fake.per_layer(9, 2, "other", "f64", ["a", "b"])
    parts = report_plots.abreast([*checks[:3], other, *checks[3:]])
    assert [[check.name for check in part] for part in parts] == [
        ["check 0", "check 1"], ["check 2", "check 3"], ["check 4", "check 5", "check 6"], ["other"],
    ]  # fmt: skip


def test_a_layer_that_was_compared_twice_has_one_row_with_two_dots():
    findings = tuple(Finding(where, error, 1.0) for error in (0.1, 0.2) for where in ("conv1", "bn1"))
    drawing = report_plots.layers([Check(2, "two sizes", "f64", "u", findings)])
    labels = [e.text for e in drawing.iter("text") if (e.get("class") or "").startswith("label")]
    assert labels == ["conv1", "bn1"]
    assert [len(list(row.iter("circle"))) for row in drawing.iter("g") if row.get("class") == "row"] == [2, 2]


def test_a_plot_of_trajectories_has_each_precision_once():
    runs = [fake.drift(0, 7, name, name[:3], 5) for name in ("f64 a", "f32 a", "f64 b", "f32 b", "f64 c")]
    plots = report_plots.together(runs)
    assert [[check.name for check in plot] for plot in plots] == [
        ["f64 a", "f32 a"], ["f64 b", "f32 b"], ["f64 c"],
    ]  # fmt: skip


def test_a_trajectory_draws_error_and_budget_per_step_and_breaks_at_zero_and_nan():
    errors = [0.0, 1e-12, 1e-11, math.nan, 1e-10]
    findings = tuple(Finding(f"step {i}", e, 1e-9) for i, e in enumerate(errors, 10))
    check = Check(7, "run", "f64", "u", findings)
    assert report_plots.is_trajectory(check)
    drawing = report_plots.trajectory([check])
    line, budget = (e.get("d") for e in drawing.iter("path") if "p-f64" in (e.get("class") or ""))
    assert [part[0] for part in re.findall(r"[ML][^ML]+", line)] == ["M", "L", "M"]
    points = re.findall(r"[ML]([\d.]+) ([\d.]+)", line)
    assert [x for x, _ in points] == ["209.5", "371.0", "694.0"]
    heights = [float(y) for _, y in points]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.11)  # decades are equal
    assert len({y for _, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", budget)}) == 1
    titles = [e.text for e in drawing.iter("title")]
    assert titles[3] == "step 13 · f64: error nan, allowed 1.00e-09 (not finite)"
    assert len(titles) == 5


def test_planted_bugs_that_nothing_caught_stand_out():
    page = Page(report_html.render(fake.passing(), fake.mutants()))
    assert "4 of 5 were caught, 3 with the right family of causes; 4.2 s each (median)" in page.text
    assert page.text.count("✗ not caught") == 1
    assert "expected crop" in page.text
    assert "expected bn-momentum" not in page.text
    assert "Planted bugs" not in Page(report_html.render(fake.passing())).text
    Page(report_html.render(fake.passing(), []))


def test_a_check_without_findings_is_shown_as_one():
    report = Report("s", {}, (Check(1, "nothing", "exact", "u", ()),), 1.0, fake.TITLES)
    assert "nothing compared" in report_text.render(report)
    assert "nothing was compared" in Page(report_html.render(report)).text
    assert strict(report_json.render(report))["checks"][0]["worst"] is None
    assert words.verdict(report).startswith("NOT the same")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (17.0, "17"), (1.234e-13, "1.23e-13"), (0.5, "5.00e-01"), (1e20, "1.00e+20"),
     (math.nan, "nan"), (math.inf, "inf")],
)  # fmt: skip
def test_numbers(value: float, text: str):
    assert words.number(value) == text


@pytest.mark.parametrize(
    ("error", "allowed", "text"),
    [(0, 0, "exact"), (0, 1, "exact"), (1, 4, "4.00×"), (1, 28, "28×"), (1, 1, "1.00×"), (3, 1, "3.00× over"),
     (4.1e9, 1, "4e9× over"), (1, 3e12, "3e12×"), (1, 0, "over"), (math.nan, 1, "not finite"),
     (math.inf, 1, "not finite"), (1, math.inf, "not finite"), (1e-320, 1e300, "inf×")],
)  # fmt: skip
def test_margins(error: float, allowed: float, text: str):
    assert words.margin(Finding("x", float(error), float(allowed))) == text


def test_a_shortened_name_keeps_both_ends():
    assert words.shorten("layer3.0.shortcut.conv.weight", 20) == "layer3.0.…onv.weight"
    assert words.shorten("short", 5) == "short"
