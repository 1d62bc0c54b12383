# SPDX-License-Identifier: GPL-2.0-or-later
"""A drawing of pauses for docs/; see scripts/bench pause --plot."""

import math

WIDTH, HEIGHT, MARGIN_LEFT, MARGIN = 380, 300, 64, 44
COLORS = ('#1f6fb2', '#c1440e', '#4c8c2b')


def decades(values):
    """Powers of ten around @values."""
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values))), low + 1)
    return [10.0 ** power for power in range(low, high + 1)]


def scale(value, ticks, start, end):
    low, high = math.log10(ticks[0]), math.log10(ticks[-1])
    return start + (math.log10(value) - low) / (high - low) * (end - start)


def text(x, y, words, anchor='middle'):
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}">{words}</text>'


def chart(left, title, unit, xs, lines):
    """Both axes logarithmic; @lines: name -> microseconds at each of @xs."""
    xticks, yticks = list(xs), decades([value for line in lines.values() for value in line])
    x0, x1, y0, y1 = left + MARGIN_LEFT, left + WIDTH - 12, HEIGHT - MARGIN, MARGIN
    parts = [text((x0 + x1) / 2, 20, title), text((x0 + x1) / 2, HEIGHT - 8, unit)]
    for tick in yticks:
        y = scale(tick, yticks, y0, y1)
        parts.append(f'<line x1="{x0}" x2="{x1}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(text(x0 - 6, y + 4, f'{tick:g}', 'end'))
    for tick in xticks:
        parts.append(text(scale(tick, xticks, x0, x1), y0 + 16, f'{tick:g}'))
    for number, (name, values) in enumerate(lines.items()):
        color = COLORS[number]
        points = ' '.join(f'{scale(x, xticks, x0, x1):.1f},{scale(value, yticks, y0, y1):.1f}'
                          for x, value in zip(xs, values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" '
                     'stroke-width="2"/>')
        parts.append(f'<g fill="{color}">{text(x0 + 8, y1 + 14 + 15 * number, name, "start")}</g>')
    return parts


def pauses(tasks, stops):
    """@tasks: number -> (quiet, after a switch); @stops: vCPUs -> medians; in microseconds."""
    parts = chart(0, 'judging a guest that stands still, microseconds', 'tasks', list(tasks), {
        'nobody has run since the look before': [quiet for quiet, _ in tasks.values()],
        'one CPU has switched since': [busy for _, busy in tasks.values()]})
    width = WIDTH
    if stops:
        width += WIDTH
        parts += chart(WIDTH, 'stopping and resuming, microseconds', 'vCPUs (on two cores)',
                       list(stops), {
                           'QMP stop, cont': [stop['qmp'] for stop in stops.values()],
                           'kvm, with the tool': [stop['whole'] for stop in stops.values()],
                           'kvm, keeper alone': [stop['keeper'] for stop in stops.values()]})
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{HEIGHT}" '
            f'viewBox="0 0 {width} {HEIGHT}" font-family="sans-serif" font-size="12">\n'
            f'<rect width="{width}" height="{HEIGHT}" fill="white"/>\n' + '\n'.join(parts) +
            '\n</svg>\n')
