#!/usr/bin/env python3
"""Draws docs/speed.svg from the measurements in docs/speed.json.

    docs/speed.py            writes the picture
    docs/speed.py --check    fails if the picture is not the one of the measurements

Nothing in the picture comes from anywhere but that file, which benches/compare.py writes:

    {
      "machine": "2 x the CPU's name, Linux 6.1",
      "date": "2026-01-31",
      "versions": {"ringtail": "…", "rabbitmq": "…"},
      "rate_for_latency": 10000,
      "ringtail": {
        "msgs_per_second_16B": 3.0, "p50_us": 1.0, "p99_us": 2.0,
        "runs": {"msgs_per_second": [1.0, 3.0, 4.0], "p50_us": […], "p99_us": […]},
        "instructions_per_message": 1, "idle_cpu_percent": 0.1
      },
      "rabbitmq": { … }, "relay": { … }
    }

The figures are the medians of the runs. `relay` is `loadgen ceiling`: the same octets through a relay
that is no broker. The last two keys of a broker may be absent or null. Every scale is logarithmic and
begins at a power of ten.
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
# A figure and the list of runs that it is the median of.
MEDIANS = {"msgs_per_second_16B": "msgs_per_second", "p50_us": "p50_us", "p99_us": "p99_us"}
EXTRAS = ("instructions_per_message", "idle_cpu_percent")


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
    expect_keys("the file", data, ["machine", "date", "versions", "rate_for_latency", *NAMES])
    datetime.date.fromisoformat(data["date"])
    expect_number("rate_for_latency", data["rate_for_latency"])
    if not data["machine"] or not data["versions"]:
        raise Wrong("machine and versions must be told")
    for broker in NAMES:
        check(broker, data[broker])
    return data


def check(broker, figures):
    """One broker's figures."""
    expect_keys(broker, figures, [*MEDIANS, "runs"], EXTRAS)
    expect_keys(f"{broker}: runs", figures["runs"], MEDIANS.values())
    for name, runs in MEDIANS.items():
        values = figures["runs"][runs]
        for value in values:
            expect_number(f"{broker}: a run of {runs}", value)
        if not values or figures[name] != statistics.median(values):
            raise Wrong(f"{broker}: {name} is not the median of the runs")
    if figures.get("instructions_per_message") is not None:
        expect_number(f"{broker}: instructions_per_message", figures["instructions_per_message"])


def expect_keys(what, found, wanted, allowed=()):
    """All of the wanted keys, and no others but those allowed."""
    wanted = set(wanted)
    if not isinstance(found, dict) or not wanted <= set(found) <= wanted | set(allowed):
        raise Wrong(f"{what} must have the keys {', '.join(sorted(wanted))}")


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
    rows = [row(data, b, NAMES[b], "msgs_per_second_16B") for b in NAMES]
    panel(paper, "Throughput, messages of 16 octets", "messages/s", "longer is better", rows)
    rows = [
        row(data, b, f"{NAMES[b]} {name}", f"{name}_us") for b in NAMES for name in ("p50", "p99")]
    title = f"Latency at {data['rate_for_latency']:,} messages/s"
    panel(paper, title, "µs", "shorter is better", rows)
    footer(paper, data)
    return wrap(paper)


def row(data, broker, name, figure_name):
    """What is told of a broker in a line of a panel."""
    figures = data[broker]
    return name, broker, figures[figure_name], figures["runs"][MEDIANS[figure_name]]


def panel(paper, title, unit, better, rows):
    """Bars on one scale."""
    scale = Scale([run for _, _, _, runs in rows for run in runs])
    paper.y += 20
    paper.text(6, paper.y, title, size=13, weight="bold")
    paper.text(WIDTH - 6, paper.y, better, size=10, anchor="end")
    top = paper.y + 8
    bottom = top + ROW * len(rows)
    for tick in scale.ticks():
        paper.line(scale.x(tick), top, scale.x(tick), bottom + 4, FAINT)
        paper.text(scale.x(tick), bottom + 15, short(tick), size=10, anchor="middle")
    for index, told_row in enumerate(rows):
        bar(paper, scale, top + ROW * index, told_row)
    paper.line(LEFT, top, LEFT, bottom + 4)
    paper.text((LEFT + RIGHT) / 2, bottom + 28, f"{unit}, logarithmic", size=10, anchor="middle")
    paper.y = bottom + 36


def bar(paper, scale, top, told_row):
    """A name, a bar, the runs as ticks on it, and the figure."""
    name, broker, value, runs = told_row
    base = top + ROW / 2 + 4
    paper.text(LEFT - 6, base, name, anchor="end")
    place = top + (ROW - BAR) / 2
    paper.bar(LEFT, place, scale.x(value) - LEFT, COLOURS[broker])
    for run in runs:
        # A light edge, or the stroke is lost on a dark bar.
        paper.line(scale.x(run), place, scale.x(run), place + BAR, "#ffffff", 3)
        paper.line(scale.x(run), place - 2, scale.x(run), place + BAR + 2)
    paper.text(WIDTH - 6, base, figure(value), anchor="end", weight="bold")


def footer(paper, data):
    """Where and when, what was compared, and what has no bar."""
    versions = ", ".join(
        f"{NAMES.get(name, name)} {version}" for name, version in data["versions"].items())
    runs = max(len(data[broker]["runs"]["msgs_per_second"]) for broker in NAMES)
    notes = [f"Medians of {runs} runs, which are the thin strokes. {data['machine']}, {data['date']}. "
             f"{versions}."]
    idle = told(data, "idle_cpu_percent", lambda value: f"{value:.3g} %")
    if idle:
        notes.append(f"CPU when idle: {idle}.")
    instructions = told(data, "instructions_per_message", figure)
    if instructions:
        notes.append(f"Instructions per message, without sockets: {instructions}.")
    paper.y += 16
    for line in (line for note in notes for line in lines(note, 66)):
        paper.text(6, paper.y, line, size=10)
        paper.y += 13


def told(data, name, form):
    """A figure of all brokers that have it."""
    known = [(NAMES[b], data[b][name]) for b in NAMES if data[b].get(name) is not None]
    return ", ".join(f"{broker} {form(value)}" for broker, value in known)


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
    title = "<title>Throughput and latency of Ringtail, RabbitMQ and a bare relay</title>"
    paper_colour = f'<rect width="{WIDTH}" height="{height:g}" fill="#ffffff"/>'
    return "\n".join([head, title, paper_colour, *paper.elements, "</svg>", ""])


if __name__ == "__main__":
    sys.exit(main())
