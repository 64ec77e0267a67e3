"""An image that a caller gives for another to be made from."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ReferenceImage:
    """A checked image in a file of its own, which whoever was handed it removes. `frames` 1: a still image.

    `size` in bytes, `width` and `height` in pixels.
    """

    path: Path
    mime_type: str
    width: int
    height: int
    frames: int
    size: int

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Limits:
    """Of one image, before anything of it is decoded. `pixels` counts all frames together."""

    bytes: int
    pixels: int
    frames: int


@dataclass(frozen=True)
class Shape:
    """What the structure of a file says. `end`: where the image ends, in bytes from the start."""

    mime_type: str
    width: int
    height: int
    frames: int
    end: int
