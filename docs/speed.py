#!/usr/bin/env python3
"""Draws docs/speed.svg from the measurements in docs/speed.json.

    docs/speed.py            writes the picture
    docs/speed.py --check    fails if the picture is not the one of the measurements

Nothing in the picture comes from anywhere but that file:

    {
      "machine": "CPU, cores, kernel, what else ran on it",
      "date": "2026-01-31",
      "versions": {"ringtail": "…", "rabbitmq": "…", "rustc": "…"},
      "ringtail": {
        "msgs_per_second_16B": {"median": 3.0, "runs": [1.0, 3.0, 4.0]},
        "p50_us": 1.0,
        "p99_us": 2.0,
        "instructions_per_message": null
      },
      "rabbitmq": { … }, "relay": { … }
    }

Rates are messages a second of 16 octets, latencies are at 10,000 messages a second. `relay` is
`loadgen ceiling`: the same octets through a relay that is no broker. `null` is what could not be
measured; a rate always is. Every scale is logarithmic and begins at a power of ten.
"""

import argparse
import datetime
import json
import math
import pathlib
import statistics
import sys
from xml.sax.saxutils import escape

HERE = pathlib.Path(__file__).resolve().parent
# From dark to light, so that they stay apart in grey; blue and orange for eyes that see no red.
COLOURS = {"ringtail": "#00507d", "rabbitmq": "#e69f00", "relay": "#d4d4d4"}
NAMES = {"ringtail": "Ringtail", "rabbitmq": "RabbitMQ", "relay": "relay"}
INK, FAINT = "#1a1a1a", "#c4c4c4"
WIDTH, LEFT, RIGHT = 400, 92, 326
ROW, BAR = 20, 13
FIGURES = ("msgs_per_second_16B", "p50_us", "p99_us", "instructions_per_message")


class Wrong(Exception):
    """The measurements do not have the form they must have."""


def main():
    """Writes the picture or compares it; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    parser.add_argument("--data", type=pathlib.Path, default=HERE / "speed.json")
    parser.add_argument("--picture", type=pathlib.Path, default=HERE / "speed.svg")
    options = parser.parse_args()
    try:
        picture = draw(read(options.data))
        if not options.check:
            options.picture.write_text(picture, encoding="utf-8")
        elif options.picture.read_text(encoding="utf-8") != picture:
            raise Wrong(f"{options.picture} is older than {options.data}: run docs/speed.py")
    except (OSError, ValueError, Wrong) as error:
        print(f"speed.py: {error}", file=sys.stderr)
        return 1
    return 0


# What was measured ------------------------------------------------------------------------------

def read(path):
    """The measurements, checked."""
    data = json.loads(path.read_text(encoding="utf-8"))
    expect_keys("the file", data, ["machine", "date", "versions", *NAMES])
    datetime.date.fromisoformat(data["date"])
    if not data["machine"] or not data["versions"]:
        raise Wrong("machine and versions must be told")
    for broker in NAMES:
        check(broker, data[broker])
    return data


def check(broker, figures):
    """One broker's figures."""
    expect_keys(broker, figures, FIGURES)
    rate = figures["msgs_per_second_16B"]
    expect_keys(f"{broker}: msgs_per_second_16B", rate, ["median", "runs"])
    for number in rate["runs"]:
        expect_number(f"{broker}: a run", number)
    if not rate["runs"] or rate["median"] != statistics.median(rate["runs"]):
        raise Wrong(f"{broker}: the median is not that of the runs")
    for name in FIGURES[1:]:
        if figures[name] is not None:
            expect_number(f"{broker}: {name}", figures[name])
    p50, p99 = figures["p50_us"], figures["p99_us"]
    if p50 is not None and p99 is not None and p50 > p99:
        raise Wrong(f"{broker}: p50 is above p99")


def expect_keys(what, found, wanted):
    """Exactly these keys."""
    if not isinstance(found, dict) or set(found) != set(wanted):
        raise Wrong(f"{what} must have the keys {', '.join(wanted)}")


def expect_number(what, value):
    """A number that a logarithm can take."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise Wrong(f"{what} is no number above 0: {value!r}")


# The picture ------------------------------------------------------------------------------------

class Scale:
    """Values to places, from one power of ten to another."""

    def __init__(self, values):
        # Somewhat below the least, so that the shortest bar is still a bar.
        self.low = math.floor(math.log10(min(values) / 1.5))
        self.high = max(math.ceil(math.log10(max(values))), self.low + 1)

    def x(self, value):
        """The place of a value."""
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return LEFT + share * (RIGHT - LEFT)

    def ticks(self):
        """The powers of ten."""
        return [10.0 ** power for power in range(self.low, self.high + 1)]


class Paper:
    """Elements below each other."""

    def __init__(self):
        self.elements, self.y = [], 0

    def text(self, x, y, words, size=11, anchor="start", weight="normal"):
        """A line of text."""
        self.elements.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(words)}</text>')

    def line(self, x1, y1, x2, y2, colour=INK, width=1):
        """A straight line."""
        self.elements.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" '
            f'stroke-width="{width}"/>')

    def bar(self, x, y, width, colour):
        """A bar with an outline, which paper shows even where the colour is light."""
        self.elements.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{BAR}" fill="{colour}" '
            f'stroke="{INK}" stroke-width="0.7"/>')


def draw(data):
    """The whole picture."""
    paper = Paper()
    rates = {broker: data[broker]["msgs_per_second_16B"] for broker in NAMES}
    rows = [(NAMES[b], b, rates[b]["median"], rates[b]["runs"]) for b in NAMES]
    panel(paper, "Throughput, messages of 16 octets", "messages/s", "longer is better", rows)
    rows = [
        (f"{NAMES[b]} {name}", b, data[b][f"{name}_us"], [])
        for b in NAMES for name in ("p50", "p99")]
    panel(paper, "Latency at 10,000 messages/s", "µs", "shorter is better", rows)
    rows = [(NAMES[b], b, data[b]["instructions_per_message"], []) for b in NAMES]
    panel(paper, "CPU work", "instructions/message", "shorter is better", rows)
    footer(paper, data)
    return wrap(paper)


def panel(paper, title, unit, better, rows):
    """Bars on one scale; nothing is drawn where nothing was measured."""
    known = [value for _, _, value, runs in rows if value is not None for value in [value, *runs]]
    if not known:
        return
    scale = Scale(known)
    paper.y += 20
    paper.text(6, paper.y, title, size=13, weight="bold")
    paper.text(WIDTH - 6, paper.y, better, size=10, anchor="end")
    top = paper.y + 8
    bottom = top + ROW * len(rows)
    for tick in scale.ticks():
        paper.line(scale.x(tick), top, scale.x(tick), bottom + 4, FAINT)
        paper.text(scale.x(tick), bottom + 15, short(tick), size=10, anchor="middle")
    for index, row in enumerate(rows):
        bar(paper, scale, top + ROW * index, row)
    paper.line(LEFT, top, LEFT, bottom + 4)
    paper.text((LEFT + RIGHT) / 2, bottom + 28, f"{unit}, logarithmic", size=10, anchor="middle")
    paper.y = bottom + 36


def bar(paper, scale, top, row):
    """A name, a bar, the runs as ticks on it, and the figure."""
    name, broker, value, runs = row
    base = top + ROW / 2 + 4
    paper.text(LEFT - 6, base, name, anchor="end")
    if value is None:
        paper.text(LEFT + 6, base, "not measured", size=10)
        return
    place = top + (ROW - BAR) / 2
    paper.bar(LEFT, place, scale.x(value) - LEFT, COLOURS[broker])
    for run in runs:
        # A light edge, or the stroke is lost on a dark bar.
        paper.line(scale.x(run), place, scale.x(run), place + BAR, "#ffffff", 3)
        paper.line(scale.x(run), place - 2, scale.x(run), place + BAR + 2)
    paper.text(WIDTH - 6, base, figure(value), anchor="end", weight="bold")


def footer(paper, data):
    """Where and when, and what was compared."""
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    words = f"{data['machine']}. {data['date']}. {versions}. Thin strokes: single runs."
    paper.y += 16
    for line in lines(words, 68):
        paper.text(6, paper.y, line, size=10)
        paper.y += 13


def lines(words, width):
    """Words in lines of at most so many characters."""
    line = ""
    for word in words.split():
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}".strip()
    yield line


def figure(value):
    """Three digits are as many as a measurement has."""
    if value >= 1000:
        digits = 10 ** (math.floor(math.log10(value)) - 2)
        return f"{round(value / digits) * digits:,}"
    return f"{value:.3g}"


def short(power):
    """1, 10, 100, 1k … 1M."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if power >= factor:
            return f"{power / factor:g}{unit}"
    return f"{power:g}"


def wrap(paper):
    """The document around the elements; white, so that it can be read on a dark page."""
    height = paper.y + 2
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" '
        f'width="{WIDTH}" height="{height:g}" role="img" '
        f'font-family="system-ui, Helvetica, Arial, sans-serif" fill="{INK}">')
    title = "<title>Throughput, latency and CPU work of Ringtail, RabbitMQ and a bare relay</title>"
    paper_colour = f'<rect width="{WIDTH}" height="{height:g}" fill="#ffffff"/>'
    return "\n".join([head, title, paper_colour, *paper.elements, "</svg>", ""])


if __name__ == "__main__":
    sys.exit(main())
