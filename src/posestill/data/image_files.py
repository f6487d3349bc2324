"""What an image file says about itself without decoding its pixels: its size, how it is turned, whether it is whole."""

from __future__ import annotations

import struct
from pathlib import Path

from posestill.schema import UserError
from posestill.types import Size

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_HEADER_BYTES = 1 << 18
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def image_size(path: Path) -> Size:
    """(height, width) as OpenCV will decode it (turned as EXIF says), from the header of a PNG or JPEG file."""
    try:
        with Path(path).open("rb") as handle:
            head = handle.read(_HEADER_BYTES)
    except FileNotFoundError:
        raise UserError(f"image {path} does not exist") from None
    size = _png_size(head) or _jpeg_size(head)
    if size is None:
        from posestill.data.coco import read_image

        height, width = read_image(path).shape[:2]
        return height, width
    return size


def is_cut_off(data: bytes) -> bool:
    """True for a JPEG whose last scan has no end: decoders fill the missing rest with grey and say nothing."""
    return data[:2] == b"\xff\xd8" and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Give a JPEG file's bytes an EXIF block that says, by an `orientation` of 1 to 8, how the picture is shown."""
    directory = struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)  # one tag, one short, nothing after it
    block = b"Exif\0\0MM" + struct.pack(">HI", 42, 8) + directory
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


def _png_size(head: bytes) -> Size | None:
    if head[:8] != b"\x89PNG\r\n\x1a\n" or len(head) < 24:
        return None
    width, height = struct.unpack(">II", head[16:24])
    return height, width


def _jpeg_size(head: bytes) -> Size | None:
    """From the frame header; None when it is not among the bytes."""
    if head[:2] != b"\xff\xd8":
        return None
    place, turned = 2, False
    while place + 9 < len(head):
        if head[place] != 0xFF:
            return None
        marker = head[place + 1]
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8:
            place += 1 if marker == 0xFF else 2
            continue
        length = struct.unpack(">H", head[place + 2 : place + 4])[0]
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", head[place + 5 : place + 9])
            return (width, height) if turned else (height, width)
        if marker == 0xE1 and head[place + 4 : place + 10] == b"Exif\0\0":
            turned = _exif_turns(head[place + 10 : place + 2 + length])
        place += 2 + length
    return None


def _exif_turns(block: bytes) -> bool:
    """True when orientation (tag 0x0112 of the first directory) exchanges height and width."""
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 10:
        return False
    (start,) = struct.unpack(order + "I", block[4:8])
    if start + 2 > len(block):
        return False
    (count,) = struct.unpack(order + "H", block[start : start + 2])
    for entry in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, _, _, value = struct.unpack(order + "HHIH", block[entry : entry + 10])
        if tag == 0x0112:
            return 5 <= value <= 8
    return False
