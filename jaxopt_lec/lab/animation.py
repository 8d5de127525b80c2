"""Pictures that move: the paths over a surface, growing step by step, as a GIF."""

import io
from collections.abc import Callable

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from jaxopt_lec.lab.drawing import Picture, prepare

__all__ = ["animate"]

MOST_FRAMES = 100


def animate(
    picture: Picture, *, seconds: float = 8.0, progress: Callable[[int, int], None] = lambda done, of: None
) -> bytes:
    """Return a GIF in which the paths grow step by step.

    Args:
        picture: what is drawn.
        seconds: how long it runs before it begins again.
        progress: called with the number of frames done, and of all.
    """
    figure, pens, marks = prepare(picture)
    figure.set_dpi(80)
    canvas = FigureCanvasAgg(figure)
    counter = figure.text(0.99, 0.015, "", ha="right", va="bottom", fontsize=10, family="monospace")
    # All that stays is drawn once; a frame is that and the lines above it.
    moving: list[Artist] = [counter, *marks, *(line for pen in pens for line in pen.lines)]
    moving.sort(key=lambda artist: artist.get_zorder())
    for artist in moving:
        artist.set_animated(True)
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)

    last = max(pen.steps for pen in pens)
    steps = np.unique(np.linspace(0, last, min(last + 1, MOST_FRAMES)).astype(int))
    frames = []
    for i, step in enumerate(steps):
        canvas.restore_region(background)
        counter.set_text(f"step {step}")
        for pen in pens:
            pen.show(int(step))
        for artist in moving:
            figure.draw_artist(artist)
        frames.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3]))
        progress(i + 1, len(steps))
    colours = frames[-1].quantize(256)  # the last frame has them all; with one palette nothing flickers
    frames = [frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in frames]
    each = round(1000 * seconds / (len(frames) + len(frames) // 5))
    durations = [*[each] * (len(frames) - 1), each * (1 + len(frames) // 5)]  # the end stays for a while
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return buffer.getvalue()
