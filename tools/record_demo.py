#!/usr/bin/env python3
"""Draws a real run of the demo as an animated terminal picture. usage: record_demo.py OUT.svg COMMAND...

Runs COMMAND in a terminal of its own, notes when each line was complete, and writes an SVG whose lines appear in that order (long waits and
long texts are shortened in time, not in content). A viewer without animation shows the last screen. Only the standard library.
"""
import fcntl
import html
import os
import pty
import re
import struct
import sys
import termios
import time

COLUMNS, ROWS = 110, 34
CELL_W, CELL_H, PAD = 8.4, 18, 14
MAX_WAIT = 0.6  # seconds that one pause takes in the picture
COLOURS = {"31": "#f28b82", "32": "#81c995", "33": "#fdd663", "34": "#8ab4f8", "35": "#d7aefb", "36": "#78d9ec"}


def record(command):
    """[(seconds, line)] of everything the command printed."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(COLUMNS), LINES=str(ROWS))
        os.environ.pop("NO_COLOR", None)
        os.execvp(command[0], command)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    started, text, lines = time.monotonic(), b"", []
    while True:
        try:
            data = os.read(fd, 65536)
        except OSError:  # what a pty says when the other side is closed
            break
        if not data:
            break
        text += data
        while b"\n" in text:
            line, text = text.split(b"\n", 1)
            lines.append((time.monotonic() - started, line.decode("utf-8", "replace")))
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status != 0:
        sys.exit(f"record_demo: the command ended with exit {status}")
    return lines


def clean(line):
    """What stays of a line after carriage returns and cursor movements; colours are kept."""
    line = [part for part in line.rstrip("\r").split("\r") if part][-1:] or [""]
    return re.sub(r"\x1b\[[0-9;?]*[A-LN-Za-ln-z]", "", line[0])


def spans(line):
    """The line as SVG text spans."""
    out, style, used = [], {}, 0
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        if part.startswith("\x1b["):
            for code in (part[2:-1] or "0").split(";"):
                style = {} if code == "0" else {**style, "w": "bold"} if code == "1" else {**style, "o": "0.6"} if code == "2" else \
                    {**style, "f": COLOURS[code]} if code in COLOURS else style
        elif part:
            part = part[:max(0, COLUMNS - used)]
            used += len(part)
            attributes = "".join(f' {name}="{style[key]}"' for key, name in (("w", "font-weight"), ("o", "opacity"), ("f", "fill")) if key in style)
            out.append(f"<tspan{attributes}>{html.escape(part, quote=False)}</tspan>")
    return "".join(out)


def shorten(lines):
    """The same order with every pause cut to MAX_WAIT."""
    clock, last, out = 0.3, 0.0, []
    for seconds, line in lines:
        clock += min(max(seconds - last, 0.04), MAX_WAIT)
        last = seconds
        out.append((clock, line))
    return out


def draw(lines, prompt):
    lines = [(0.0, f"\x1b[1m$ {prompt}\x1b[0m")] + shorten([(t, clean(line)) for t, line in lines])
    total = lines[-1][0]
    width, height = COLUMNS * CELL_W + 2 * PAD, ROWS * CELL_H + 2 * PAD
    steps = [(t, max(0, i + 1 - ROWS)) for i, (t, _) in enumerate(lines)]
    frames = "".join(f"{100 * t / total:.3f}%{{transform:translateY({-n * CELL_H}px)}}" for t, n in steps if n)
    last = steps[-1][1] * CELL_H
    body = "\n".join(f'<text x="{PAD}" y="{PAD + (i + 0.75) * CELL_H:.1f}" style="animation:show .01s linear {t:.2f}s backwards" xml:space="preserve">{spans(line)}</text>'
                     for i, (t, line) in enumerate(lines) if line)
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="a terminal running {html.escape(prompt)}">
<style>
text {{ font: 14px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #e8eaed; }}
#roll {{ transform: translateY({-last}px); animation: roll {total:.2f}s step-end 0s 1 backwards; }}
@keyframes show {{ from {{ opacity: 0 }} to {{ opacity: 1 }} }}
@keyframes roll {{ 0%{{transform:translateY(0)}}{frames} }}
</style>
<clipPath id="screen"><rect width="{width:.0f}" height="{height - PAD / 2:.0f}" y="{PAD / 2:.0f}"/></clipPath>
<rect width="{width:.0f}" height="{height:.0f}" rx="10" fill="#1e1f22"/>
<g clip-path="url(#screen)"><g id="roll">
{body}
</g></g>
</svg>
"""


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__.split("\n")[0])
    command = sys.argv[2:]
    text = draw(record(command), " ".join(command))
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        f.write(text)


if __name__ == "__main__":
    main()
