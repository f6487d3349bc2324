import io
import os
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from posestill.data.image_files import (
    MOST_PIXELS,
    bits_of,
    decode_image,
    image_size,
    is_cut_off,
    read_header,
    read_image,
    with_orientation,
)
from posestill.draw import encode_image, write_image
from posestill.schema import UserError

CORNER = np.zeros((20, 40, 3), dtype=np.uint8)
CORNER[:10, :10] = 255
"""(20, 40): white at the top left"""
TOP_LEFT_BECOMES = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("top", "left"), 6: ("top", "right"), 7: ("bottom", "right"), 8: ("bottom", "left"),
}  # fmt: skip
"""EXIF orientation -> where the stored picture's top left corner is shown"""
NOISE = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)


def saved(image, kind, **options):
    """The bytes of an image file that another library writes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned(image, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image, kind, exif=exif, **({"lossless": True} if kind == "WebP" else {}))


def png_of(width, height, *chunks):
    """A PNG file that declares a size and has hardly any pixels."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), *chunks]
    parts += [(b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    made = [
        struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body)) for tag, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def jpeg_of(width, height):
    """A JPEG file that declares another size than it has."""
    made = bytearray(encode_image(NOISE))
    at = made.index(b"\xff\xc0") + 5
    made[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(made)


def bmp_of(width, height):
    made = bytearray(cv2.imencode(".bmp", NOISE)[1].tobytes())
    made[18:26] = struct.pack("<ii", width, height)
    return bytes(made)


def tiff_of(width, height):
    made = bytearray(saved(Image.fromarray(NOISE), "TIFF"))
    (start,) = struct.unpack("<I", made[4:8])
    for at in range(start + 2, start + 2 + 12 * struct.unpack("<H", made[start : start + 2])[0], 12):
        tag = struct.unpack("<H", made[at : at + 2])[0]
        if tag in (256, 257):
            made[at : at + 12] = struct.pack("<HHII", tag, 4, 1, width if tag == 256 else height)
    return bytes(made)


def test_a_size_is_read_from_the_header_as_opencv_decodes(sample_folder):
    sizes = set()
    for path in (sample_folder / "train").iterdir():
        sizes.add((path.suffix, image_size(path)))
        assert image_size(path) == cv2.imread(str(path)).shape[:2]
    assert sizes == {(".jpg", (240, 320)), (".jpg", (320, 240)), (".png", (240, 320))}


def test_the_pixels_are_those_that_opencv_decodes(sample_folder):
    for path in sorted((sample_folder / "val").iterdir()):
        np.testing.assert_array_equal(read_image(str(path)), cv2.imread(str(path))[:, :, ::-1])


def test_the_size_of_other_kinds_of_files_is_that_of_the_decoded_picture(tmp_path):
    cv2.imwrite(str(tmp_path / "a.ppm"), CORNER)
    assert read_header(tmp_path / "a.ppm") is None
    assert image_size(tmp_path / "a.ppm") == (20, 40)


@pytest.mark.parametrize("orientation", TOP_LEFT_BECOMES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_photograph_of_every_kind_is_shown_as_its_exif_block_says(tmp_path, orientation, kind, mode):
    path = tmp_path / f"a.{kind.lower()}"
    path.write_bytes(turned(Image.fromarray(CORNER).convert(mode), kind, orientation))
    shown = read_image(path)
    assert image_size(path) == shown.shape[:2] == ((40, 20) if orientation > 4 else (20, 40))
    assert read_header(path).stored == (20, 40)
    row, column = np.unravel_index(cv2.blur(shown[..., 0], (7, 7)).argmax(), shown.shape[:2])
    where = ("top" if row < shown.shape[0] / 2 else "bottom", "left" if column < shown.shape[1] / 2 else "right")
    assert where == TOP_LEFT_BECOMES[orientation]


def test_our_own_exif_block_turns_a_jpeg(tmp_path):
    (tmp_path / "a.jpg").write_bytes(with_orientation(encode_image(CORNER), 6))
    assert read_header(tmp_path / "a.jpg").orientation == 6
    assert read_image(tmp_path / "a.jpg").shape == (40, 20, 3)


def test_an_exif_block_behind_the_pixels_of_a_png_turns_it_too(tmp_path):
    whole = turned(Image.fromarray(CORNER), "PNG", 6)
    at = whole.index(b"eXIf") - 4
    length = 12 + int.from_bytes(whole[at : at + 4], "big")
    moved = whole[:at] + whole[at + length : -12] + whole[at : at + length] + whole[-12:]
    (tmp_path / "a.png").write_bytes(moved)
    assert image_size(tmp_path / "a.png") == read_image(tmp_path / "a.png").shape[:2] == (40, 20)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path, orientation):
    (tmp_path / "a.jpg").write_bytes(with_orientation(encode_image(CORNER), orientation))
    assert image_size(tmp_path / "a.jpg") == read_image(tmp_path / "a.jpg").shape[:2] == (20, 40)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF", "BMP"])
def test_colours_of_every_mode_are_read_as_another_library_reads_them(tmp_path, mode, kind):
    colours = np.zeros((32, 48, 3), dtype=np.uint8)
    colours[:16, :24], colours[16:, 24:], colours[16:, :24] = (255, 0, 0), (0, 0, 255), (0, 255, 0)
    image = Image.fromarray(colours).convert(mode)
    try:
        (tmp_path / "a").write_bytes(saved(image, kind, **({"quality": 100} if kind in ("JPEG", "WebP") else {})))
    except (OSError, ValueError):
        pytest.skip(f"{kind} has no {mode}")
    wanted = np.asarray(Image.open(tmp_path / "a").convert("RGB")).astype(int)
    assert np.abs(read_image(tmp_path / "a") - wanted)[2:-2, 2:-2].mean() < 4


def test_of_sixteen_bits_the_upper_eight_are_taken():
    values = (np.arange(256, dtype=np.uint16).reshape(16, 16) * 257).repeat(2, axis=1)
    for kind in ("PNG", "TIFF"):
        data = saved(Image.fromarray(values), kind)
        assert bits_of(data) == 16
        np.testing.assert_array_equal(decode_image(data, where="a")[:, :, 0], values >> 8)
    assert bits_of(encode_image(CORNER)) == bits_of(saved(Image.fromarray(CORNER), "PNG")) == 8
    assert bits_of(b"II*\0\xff\xff\xff\xff") == bits_of(b"") == 8


@pytest.mark.parametrize(("highest", "bits"), [(4095, 12), (1023, 10), (255, 8), (1, 1)])
def test_sixteen_bits_of_which_only_lower_ones_are_used_are_refused_as_nearly_black(highest, bits):
    values = np.zeros((16, 16), dtype=np.uint16)
    values[3, 3] = highest
    with pytest.raises(UserError, match=f"a.png has 16 bits a channel and uses the lower {bits}: its upper 8 are"):
        decode_image(saved(Image.fromarray(values), "PNG"), where="a.png")
    assert not decode_image(saved(Image.fromarray(values * 0), "PNG"), where="a.png").any()  # black is black


def test_numbers_of_32_bits_are_refused():
    with pytest.raises(UserError, match="a.tif (holds float32 numbers|cannot be decoded)"):
        decode_image(saved(Image.fromarray(np.ones((9, 9), np.float32)), "TIFF"), where="a.tif")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.7, 0.99])
def test_a_file_that_ends_within_its_picture_is_refused(kind, share):
    whole = saved(Image.fromarray(NOISE), kind)
    assert decode_image(whole, where="a").shape == NOISE.shape
    with pytest.raises(UserError, match=r"a (is cut off|cannot be decoded): fetch it again|a cannot be decoded"):
        decode_image(whole[: int(share * len(whole))], where="a")


def test_a_jpeg_that_ends_within_its_picture_is_cut_off():
    whole = encode_image(NOISE)
    assert not is_cut_off(whole)
    assert not is_cut_off(with_orientation(whole, 6))
    assert is_cut_off(whole[: len(whole) // 2])
    assert is_cut_off(with_orientation(whole, 6)[: len(whole) // 2])
    assert not is_cut_off(b"no JPEG at all")


def test_what_follows_a_picture_does_not_make_it_cut_off():
    """Telephones append a second picture or films, in which any bytes may stand."""
    progressive = saved(Image.fromarray(NOISE), "JPEG", progressive=True)
    for whole in (encode_image(NOISE), progressive):
        for tail in (b"\xff\xda" * 9, whole[:200], os.urandom(4096), b"\0" * 9):
            assert not is_cut_off(whole + tail)
            assert decode_image(whole + tail, where="a").shape == NOISE.shape
    assert is_cut_off(progressive[: len(progressive) // 2])
    assert not is_cut_off(saved(Image.fromarray(NOISE), "PNG") + b"tail")


@pytest.mark.parametrize("make", [png_of, jpeg_of, bmp_of, tiff_of])
@pytest.mark.parametrize(("width", "height"), [(50000, 50000), (30000, 30000), (65000, 65000)])
def test_a_size_that_would_fill_the_memory_is_refused_before_it_is_decoded(tmp_path, make, width, height):
    (tmp_path / "a").write_bytes(make(width, height))
    for read in (read_image, image_size):
        with pytest.raises(UserError, match=f"declares {width} x {height} px, and 268 million are read at most"):
            read(tmp_path / "a")


def test_the_picture_of_the_largest_camera_is_not_too_large():
    assert MOST_PIXELS > 12288 * 16384  # 200 million


@pytest.mark.parametrize("make", [png_of, jpeg_of, bmp_of, tiff_of])
def test_a_size_of_nothing_or_of_more_than_is_there_is_one_message(make):
    for width, height in ((0, 0), (0, 9), (5000, 5000)):
        try:
            shape = decode_image(make(width, height), where="a").shape
        except UserError as error:
            assert str(error).startswith("a cannot be decoded")
        else:
            assert shape == (height, width, 3)  # decoders may fill a JPEG


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xe1\0\1", b"\xff\xd8\xff\xe0\0\0" * 9, b"\xff\xd8\xff\xd9",
        b"\x89PNG\r\n\x1a\n", b"\x89PNG\r\n\x1a\n" + b"\xff" * 40, b"RIFF\xff\xff\xff\xffWEBP", b"RIFF\4\0\0\0WEBPVP8X",
        b"RIFF\x1e\0\0\0WEBPVP8L" + b"\0" * 18, b"BM", b"BM" + b"\xff" * 60, b"II*\0\8\0\0\0\xff\xff", b"MM\0*\0\0\0\0",
        b"II*\0\xff\xff\xff\xff", b"GIF89a" + b"\0" * 20, b"%PDF-1.7", b"\0" * 100, b"<svg/>", b"{}",
        with_orientation(encode_image(CORNER), 6)[:40], saved(Image.fromarray(NOISE), "PNG")[:100],
    ],
    ids=lambda data: repr(data[:12]),
)  # fmt: skip
def test_whatever_else_stands_in_a_file_is_one_message_that_names_it(tmp_path, data):
    (tmp_path / "a\x1b.png").write_bytes(data)
    for read in (read_image, image_size):
        try:
            read(tmp_path / "a\x1b.png")
        except UserError as error:
            assert "a\\x1b.png " in str(error)
            assert "\n" not in str(error)
        else:
            assert read is image_size  # a header may promise what does not follow
    with pytest.raises(UserError):
        read_image(tmp_path / "a\x1b.png")


def test_a_file_that_is_not_there_is_named(tmp_path):
    for read in (read_image, image_size):
        with pytest.raises(UserError, match=r"image .*gone\.jpg does not exist"):
            read(tmp_path / "gone.jpg")


@pytest.mark.parametrize("name", ["a.bmp", "a.webp", "a.png"])
def test_what_posestill_writes_it_reads(tmp_path, name):
    write_image(tmp_path / name, CORNER)
    assert read_image(tmp_path / name).shape == CORNER.shape


def test_a_picture_of_a_kind_that_is_not_written_is_refused(tmp_path):
    for name in ("a.xyz", "a", "a.txt"):
        with pytest.raises(UserError, match=r"cannot be written: OpenCV makes no such picture; name it .png or .jpg"):
            write_image(tmp_path / name, CORNER)
    assert list(tmp_path.iterdir()) == []
