"""Image files: read as they are to be shown, or refused with what is wrong; their size without decoding them."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from posestill.files import check_readable, read_bytes
from posestill.schema import UserError, printable
from posestill.types import Size

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MOST_PIXELS = 1 << 28
"""more than any camera's; a file that declares more would fill the memory before anything is known of it"""
_DARK = 1 << 12
"""a picture of 16 bits without a value from here on is nearly black as one of 8 bits"""
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_PNG = b"\x89PNG\r\n\x1a\n"
_TURN: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.transpose(1, 0, 2),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).transpose(1, 0, 2),
    8: lambda image: np.rot90(image, 1),
}
"""EXIF orientation -> how an (H, W, 3) image is turned to be shown"""


@dataclass(frozen=True)
class Header:
    """What the beginning of an image file declares."""

    format: str
    stored: Size
    """(height, width) as the pixels lie in the file"""
    orientation: int = 1
    """EXIF's, 1 to 8: how the picture is turned to be shown"""

    @property
    def shown(self) -> Size:
        """(height, width) as the picture is shown and read."""
        return self.stored[::-1] if self.orientation >= 5 else self.stored


def read_image(path: Path | str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image file, turned as EXIF says, or a `UserError` that says what is wrong with it."""
    return decode_image(read_bytes(Path(path), what="image"), where=f"image {printable(path)}")


def decode_image(data: bytes, *, where: str) -> np.ndarray:
    """(H, W, 3) uint8 RGB of an image file's bytes; `where` opens the message of a `UserError`.

    Of 16 bits a channel the upper 8 are taken. Transparency is left out.
    """
    import cv2

    if not data:
        raise UserError(f"{where} is empty: fetch it again")
    header = _header(BytesIO(data))
    _refuse_size(header, where)
    if is_cut_off(data):
        raise UserError(f"{where} is cut off: fetch it again")
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_ANYDEPTH
    turned_here = header is not None and header.format != "TIFF"  # which is turned by its own library
    if turned_here:
        flags |= cv2.IMREAD_IGNORE_ORIENTATION
    try:
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        decoded = None
    if decoded is None or decoded.ndim != 3:
        raise UserError(f"{where} cannot be decoded: fetch it again, or save it anew as PNG or JPEG")
    if decoded.dtype == np.uint16:
        decoded = _upper_bits(decoded, where)
    if decoded.dtype != np.uint8:
        raise UserError(f"{where} holds {decoded.dtype} numbers: save it with 8 bits a channel")
    if header is not None and turned_here and header.orientation in _TURN:
        decoded = _TURN[header.orientation](decoded)
    if header is not None and decoded.shape[:2] != header.shown:
        raise UserError(f"{where} cannot be turned as its EXIF block says: save it anew as PNG or JPEG")
    return np.ascontiguousarray(decoded)


def read_header(path: Path | str) -> Header | None:
    """What an image file declares; None for a format that only a decoder knows. A `UserError` names what is no file."""
    check_readable(Path(path), what="image")
    try:
        with Path(path).open("rb") as handle:
            return _header(handle)
    except OSError as error:
        raise UserError(f"image {printable(path)} cannot be read ({error.strerror})") from None


def image_size(path: Path | str) -> Size:
    """(height, width) as `read_image` gives it (turned as EXIF says), from the header where there is one."""
    header = read_header(path)
    if header is None:
        height, width = read_image(path).shape[:2]
        return height, width
    _refuse_size(header, f"image {printable(path)}")
    return header.shown


def bits_of(data: bytes) -> int:
    """How many bits a channel of a PNG or TIFF file has; 8 for other formats."""
    if data[:8] == _PNG and len(data) > 24:
        return data[24]
    try:
        return (_tiff_fields(BytesIO(data)) or {}).get(258, 8)
    except struct.error:
        return 8


def is_cut_off(data: bytes) -> bool:
    """True for a JPEG, PNG or WebP file that ends within its picture: some decoders fill the rest and say nothing."""
    if data[:2] == b"\xff\xd8":
        place = 2
        while found := _JPEG_MARKER.search(data, place):
            marker, place = data[found.start() + 1], found.end()
            if marker == 0xD9 or (marker == 0xDA and data.endswith(b"\xff\xd9")):
                return False  # of what follows a scan's beginning only the picture's end reads FF D9
            if marker != 0xD8:
                place += int.from_bytes(data[place : place + 2], "big")
        return True
    if data[:8] == _PNG:
        place = 8
        while place + 12 <= len(data):
            if data[place + 4 : place + 8] == b"IEND":
                return False
            place += 12 + int.from_bytes(data[place : place + 4], "big")
        return True
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return 8 + int.from_bytes(data[4:8], "little") > len(data)
    return False


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """Give a JPEG file's bytes an EXIF block that says, by an `orientation` of 1 to 8, how the picture is shown."""
    directory = struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 0)  # one tag, one short, nothing after it
    block = b"Exif\0\0MM" + struct.pack(">HI", 42, 8) + directory
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


def _refuse_size(header: Header | None, where: str) -> None:
    if header is not None and 0 in header.stored:
        raise UserError(f"{where} cannot be decoded, as it declares no pixels: fetch it again")
    if header is not None and header.stored[0] * header.stored[1] > MOST_PIXELS:
        height, width = header.shown
        most = MOST_PIXELS // 10**6
        raise UserError(f"{where} declares {width} x {height} px, and {most} million are read at most: shrink it")


def _upper_bits(decoded: np.ndarray, where: str) -> np.ndarray:
    highest = int(decoded.max())
    if 0 < highest < _DARK:
        raise UserError(
            f"{where} has 16 bits a channel and uses the lower {highest.bit_length()}: its upper 8 are nearly black. "
            "Stretch its values, and save it with 8 bits"
        )
    upper: np.ndarray = (decoded >> 8).astype(np.uint8)
    return upper


def _header(handle: BinaryIO) -> Header | None:
    try:
        start = handle.read(32)
        if start[:2] == b"\xff\xd8":
            return _jpeg(handle)
        if start[:8] == _PNG:
            return _png(handle, start)
        if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
            return _webp(handle, start)
        if start[:2] == b"BM" and struct.unpack("<I", start[14:18])[0] >= 40:
            width, height = struct.unpack("<ii", start[18:26])
            return Header("BMP", (abs(height), abs(width)))
        fields = _tiff_fields(handle)
        if fields is not None and {256, 257} <= set(fields):
            return Header("TIFF", (fields[257], fields[256]), _valid(fields.get(0x0112, 1)))
    except struct.error:  # it ends before all is said
        pass
    return None


def _jpeg(handle: BinaryIO) -> Header | None:
    """From the frame header, before which EXIF's block stands."""
    place, orientation = 2, 1
    while True:
        handle.seek(place)
        head = handle.read(2)
        if len(head) < 2 or head[0] != 0xFF:
            return None
        marker = head[1]
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8:
            place += 1 if marker == 0xFF else 2
            continue
        if marker in (0xD9, 0xDA):
            return None
        (length,) = struct.unpack(">H", handle.read(2))
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack(">xHH", handle.read(5))
            return Header("JPEG", (height, width), orientation)
        if marker == 0xE1:
            block = handle.read(length - 2)
            if block[:6] == b"Exif\0\0":
                orientation = _orientation_in(block[6:])
        place += 2 + length


def _png(handle: BinaryIO, start: bytes) -> Header:
    """EXIF's block may stand before the pixels or after them."""
    width, height = struct.unpack(">II", start[16:24])
    place, orientation = 8, 1
    while True:
        handle.seek(place)
        head = handle.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            return Header("PNG", (height, width), orientation)
        (length,) = struct.unpack(">I", head[:4])
        if head[4:] == b"eXIf":
            orientation = _orientation_in(handle.read(min(length, 1 << 20)))
        place += 12 + length


def _webp(handle: BinaryIO, start: bytes) -> Header | None:
    if start[12:16] == b"VP8 ":
        width, height = struct.unpack("<HH", start[26:30])
        return Header("WebP", (height & 0x3FFF, width & 0x3FFF))
    if start[12:16] == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        return Header("WebP", ((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1))
    if start[12:16] != b"VP8X":
        return None
    width, height = (1 + int.from_bytes(start[at : at + 3], "little") for at in (24, 27))
    place, orientation = 12, 1
    while True:
        handle.seek(place)
        head = handle.read(8)
        if len(head) < 8:
            return Header("WebP", (height, width), orientation)
        (length,) = struct.unpack("<I", head[4:])
        if head[:4] == b"EXIF":
            orientation = _orientation_in(handle.read(min(length, 1 << 20)).removeprefix(b"Exif\0\0"))
        place += 8 + length + length % 2


def _orientation_in(block: bytes) -> int:
    """The orientation (tag 0x0112 of the first directory) that an EXIF block names; 1 where it names none."""
    try:
        return _valid((_tiff_fields(BytesIO(block)) or {}).get(0x0112, 1))
    except struct.error:
        return 1


def _valid(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1


def _tiff_fields(handle: BinaryIO) -> dict[int, int] | None:
    """Tag -> its first value, of the short and long numbers in the first directory; None where there is no TIFF."""
    handle.seek(0)
    head = handle.read(8)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None or len(head) < 8:
        return None
    (start,) = struct.unpack(order + "I", head[4:])
    handle.seek(start)
    (count,) = struct.unpack(order + "H", handle.read(2))
    entries, fields = handle.read(12 * count), {}
    for place in range(0, len(entries) - 11, 12):
        tag, kind, number = struct.unpack(order + "HHI", entries[place : place + 8])
        value = entries[place + 8 : place + 12]
        if kind == 3 and number > 2:  # several shorts lie elsewhere
            handle.seek(struct.unpack(order + "I", value)[0])
            value = handle.read(2)
        if kind in (3, 4):
            (fields[tag],) = struct.unpack(order + ("H" if kind == 3 else "I"), value[: 2 if kind == 3 else 4])
    return fields
