"""What a benchmark found: figures, as a table for people, JSON for programs, and a plot."""

import dataclasses
import html
import json
import math
import statistics


@dataclasses.dataclass
class Figure:
    """One measured thing. values: of each run; the median counts."""

    figure: str
    unit: str
    values: list
    better: str  # "higher" or "lower"
    target: float = None
    baseline: float = None  # of what it is compared with: see each benchmark

    @property
    def value(self):
        return statistics.median(self.values)

    @property
    def met(self):
        if self.target is None:
            return None
        return self.value >= self.target if self.better == "higher" else self.value <= self.target

    def to_json(self):
        return {
            "figure": self.figure,
            "unit": self.unit,
            "value": significant(self.value),
            "spread": [significant(min(self.values)), significant(max(self.values))],
            "baseline": None if self.baseline is None else significant(self.baseline),
            "target": self.target,
            "better": self.better,
            "met": self.met,
        }


def significant(number):
    """Four digits are more than these measurements hold."""
    return float(f"{number:.4g}")


def readable(number):
    if number is None:
        return "-"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.3g}"


def write(folder, name, figures):
    lines = ",\n".join("  " + json.dumps(figure.to_json()) for figure in figures)
    (folder / f"{name}.json").write_text(f"[\n{lines}\n]\n")
    (folder / f"{name}.svg").write_text(plot(name, figures))


def print_table(figures):
    head = ("figure", "value", "spread", "unit", "beside", "target", "")
    rows = [head]
    for figure in figures:
        verdict = {True: "met", False: "MISSED", None: ""}[figure.met]
        sign = "≥ " if figure.better == "higher" else "≤ "
        rows.append((
            figure.figure,
            readable(figure.value),
            f"{readable(min(figure.values))} - {readable(max(figure.values))}",
            figure.unit,
            readable(figure.baseline),
            "-" if figure.target is None else sign + readable(figure.target),
            verdict,
        ))
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    for number, row in enumerate(rows):
        cells = [cell.rjust(width) if i in (1, 2, 4, 5) else cell.ljust(width)
                 for i, (cell, width) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def plot(name, figures):
    """How far from the target, on a scale of factors: right of the line is better than it."""
    drawn = [figure for figure in figures if figure.target or figure.baseline]
    left, width, line, top = 460, 520, 26, 56
    height = top + line * len(drawn) + 30
    decades = 2.0

    def x_of(value, figure):
        reference = figure.target or (1 if figure.unit.startswith("x ") else figure.baseline)
        if not value or value <= 0:
            return left
        factor = value / reference if figure.better == "higher" else reference / value
        return left + width * (min(max(math.log10(factor), -decades), decades) + decades) / (2 * decades)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 170}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="22" font-size="15">patina bench {html.escape(name)}: factor to the target '
        '(right is better); grey: what it is compared with</text>',
    ]
    for power in (-2, -1, 0, 1, 2):
        x = left + width * (power + decades) / (2 * decades)
        parts.append(f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{top - 12}" y2="{height - 24}" '
                     f'stroke="{"#333" if power == 0 else "#ddd"}"/>')
        parts.append(f'<text x="{x:.0f}" y="{height - 8}" text-anchor="middle">{10.0 ** power:g}x</text>')
    for number, figure in enumerate(drawn):
        y = top + number * line
        one = left + width / 2
        end = x_of(figure.value, figure)
        colour = {True: "#2a7", False: "#c33", None: "#58a"}[figure.met]
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{html.escape(figure.figure)}</text>')
        parts.append(f'<rect x="{min(one, end):.1f}" y="{y - 7}" width="{max(abs(end - one), 2):.1f}" '
                     f'height="14" fill="{colour}"/>')
        if figure.baseline and figure.target and not figure.unit.startswith("x "):
            parts.append(f'<circle cx="{x_of(figure.baseline, figure):.1f}" cy="{y}" r="5" fill="#999"/>')
        parts.append(f'<text x="{left + width + 8}" y="{y + 4}">{readable(figure.value)} '
                     f'{html.escape(figure.unit)}</text>')
    return "\n".join(parts) + "\n</svg>\n"
