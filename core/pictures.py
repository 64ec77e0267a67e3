"""What Pillow raises of a file that is no picture, or a damaged one."""

import struct

from PIL import Image

BROKEN_PICTURE: tuple[type[Exception], ...] = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    IndexError,
    struct.error,
    Image.DecompressionBombError,
)
