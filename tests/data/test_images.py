"""Pictures of every kind, whole and broken."""

from __future__ import annotations

import errno
import io
import os
import struct
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from cvgeo.data.images import (
    MAX_PIXELS,
    SUFFIXES,
    decode_image,
    encode_image,
    image_size,
    list_images,
    looks_like_picture,
    png_text,
    read_image,
    to_rgb,
    upright,
    with_png_text,
    write_image,
)
from cvgeo.errors import InputError, OutputError, UsageError

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
HEIGHT, WIDTH = 40, 60


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    row, col = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([row * 6, col * 4, (row + col) * 2], axis=-1).astype(np.uint8)


def save(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def off(picture: np.ndarray, expected: np.ndarray) -> int:
    assert picture.dtype == np.uint8
    assert picture.shape == expected.shape
    return int(np.abs(picture.astype(int) - expected).max())


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("x.png", {}, 0),
        ("x.bmp", {}, 0),
        ("x.tif", {}, 0),
        ("lzw.tif", {"compression": "tiff_lzw"}, 0),
        ("x.ppm", {}, 0),
        ("x.jp2", {}, 0),
        ("x.webp", {"lossless": True}, 0),
        ("x.avif", {"quality": 95}, 10),
        ("x.jpg", {"quality": 98, "subsampling": 0}, 4),
        ("progressive.jpg", {"quality": 98, "subsampling": 0, "progressive": True}, 4),
    ],
)
def test_formats(tmp_path, rgb, name, options, tolerance):
    path = save(tmp_path / name, Image.fromarray(rgb), **options)
    assert off(read_image(path), rgb) <= tolerance
    assert image_size(path) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "bmp"])
def test_grey(tmp_path, rgb, suffix):
    grey = rgb[..., 1]
    picture = read_image(save(tmp_path / f"x.{suffix}", Image.fromarray(grey)))
    assert off(picture, np.repeat(grey[..., None], 3, axis=2)) <= (6 if suffix in ("jpg", "webp") else 0)


@pytest.mark.parametrize(("name", "options"), [("x.jpg", {"quality": 98, "subsampling": 0}), ("x.tif", {})])
def test_cmyk(tmp_path, rgb, name, options):
    image = Image.fromarray(rgb).convert("CMYK")
    assert off(read_image(save(tmp_path / name, image, **options)), rgb) <= 5


def test_palette_and_one_bit(tmp_path):
    colours = np.array([[200, 10, 20], [0, 90, 255]], np.uint8)
    chosen = np.indices((8, 9)).sum(axis=0) % 2
    palette = Image.fromarray(chosen.astype(np.uint8), mode="P")
    palette.putpalette(colours.tobytes())
    for name in ("p.png", "p.gif", "p.bmp"):
        assert off(read_image(save(tmp_path / name, palette)), colours[chosen]) == 0
    bits = Image.fromarray((chosen * 255).astype(np.uint8)).convert("1")
    for name in ("b.png", "b.tif"):
        assert off(read_image(save(tmp_path / name, bits)), np.repeat(chosen[..., None] * 255, 3, 2)) == 0


@pytest.mark.parametrize("name", ["x.png", "x.tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_by_the_range_of_the_type(tmp_path, rgb, name, channels):
    samples = rgb.astype(np.uint16) * 257 + 40
    expected = rgb
    if channels == 1:
        samples = samples[..., 0]
        expected = np.repeat(rgb[..., :1], 3, axis=2)
    if channels == 4:
        samples = np.concatenate([samples[..., ::-1], np.full((HEIGHT, WIDTH, 1), 65535, np.uint16)], axis=2)
    elif channels == 3:
        samples = samples[..., ::-1]
    cv2.imwrite(str(tmp_path / name), samples)
    assert off(read_image(tmp_path / name), expected) <= 1


@pytest.mark.parametrize("channels", [1, 3])
def test_floats_from_0_to_1(tmp_path, rgb, channels):
    samples = (rgb[..., ::-1] if channels == 3 else rgb[..., 0]).astype(np.float32) / 255
    cv2.imwrite(str(tmp_path / "x.tif"), samples)
    expected = rgb if channels == 3 else np.repeat(rgb[..., :1], 3, axis=2)
    assert off(read_image(tmp_path / "x.tif"), expected) == 0
    assert image_size(tmp_path / "x.tif") == (HEIGHT, WIDTH)


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.webp"])
def test_transparency_is_on_black(tmp_path, rgb, name):
    alpha = np.full((HEIGHT, WIDTH, 1), 255, np.uint8)
    alpha[:10], alpha[10:20] = 0, 128
    image = Image.fromarray(np.concatenate([rgb, alpha], axis=2))
    picture = read_image(save(tmp_path / name, image, **({"lossless": True} if name == "x.webp" else {})))
    assert off(picture, np.rint(rgb * (alpha / 255.0))) <= 1


def test_transparency_of_a_palette_and_of_a_colour(tmp_path):
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    palette.putpalette([200, 10, 20, 0, 90, 255])
    path = save(tmp_path / "p.png", palette, transparency=0)
    np.testing.assert_array_equal(read_image(path), [[[0, 0, 0], [0, 90, 255]]])
    path = save(
        tmp_path / "c.png", Image.fromarray(np.array([[[9, 9, 9], [5, 6, 7]]], np.uint8)), transparency=(9, 9, 9)
    )
    np.testing.assert_array_equal(read_image(path), [[[0, 0, 0], [5, 6, 7]]])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientations(tmp_path, rgb, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"x.{suffix}", Image.fromarray(rgb), exif=exif)
    with Image.open(path) as image:
        expected = np.array(ImageOps.exif_transpose(image).convert("RGB"))
    assert off(read_image(path), expected) == 0
    assert image_size(path) == expected.shape[:2]
    np.testing.assert_array_equal(upright(rgb, orientation).shape, expected.shape)


def test_an_impossible_orientation_counts_as_upright(tmp_path, rgb):
    for value in (0, 9, 77):
        exif = Image.Exif()
        exif[0x0112] = value
        for suffix in ("png", "jpg"):
            path = save(tmp_path / f"x.{suffix}", Image.fromarray(rgb), exif=exif)
            assert read_image(path).shape == rgb.shape
            assert image_size(path) == (HEIGHT, WIDTH)


def test_a_broken_exif_block_is_no_fault(tmp_path, rgb):
    data = encode_image(rgb, ".jpg")
    for body in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 40):
        broken = data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]
        (tmp_path / "x.jpg").write_bytes(broken)
        assert read_image(tmp_path / "x.jpg").shape == rgb.shape
        assert image_size(tmp_path / "x.jpg") == (HEIGHT, WIDTH)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (64, 200)])
def test_a_png_of_a_photograph_is_read_alike_by_opencv_and_pillow(size):
    generator = np.random.default_rng(1)
    smooth = cv2.resize(
        generator.integers(0, 256, (5, 9, 3), dtype=np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC
    )
    for rgb in (smooth, generator.integers(0, 256, (*size, 3), dtype=np.uint8), smooth[:, ::-1], smooth[::-1]):
        data = encode_image(rgb, ".png", photo=True)
        assert np.array_equal(decode_image(data, "x.png"), rgb)
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), rgb)


def test_a_png_of_a_photograph_is_hardly_larger():
    generator = np.random.default_rng(2)
    texture = sum(cv2.resize(generator.normal(0, 9, (4 << k, 4 << k, 3)), (300, 300)) for k in range(6))
    rgb = np.clip(texture + 128, 0, 255).astype(np.uint8)
    assert len(encode_image(rgb, ".png", photo=True)) < 1.05 * len(encode_image(rgb, ".png"))


def test_a_30000_pixel_wide_picture(tmp_path):
    strip = np.zeros((20, 30_000, 3), np.uint8)
    strip[:, 29_990:] = 250
    for name in ("x.png", "x.jpg", "x.tif"):
        write_image(tmp_path / name, strip)
        picture = read_image(tmp_path / name)
        assert picture.shape == strip.shape
        assert picture[10, 29_995].min() > 240


def png_of_size(height: int, width: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_decompression_bombs_are_refused(rgb):
    assert MAX_PIXELS > 30_000 * 15_000
    for data in (png_of_size(50_000, 50_000), png_of_size(1, MAX_PIXELS)):
        with pytest.raises(InputError, match="pixels are refused"):
            decode_image(data, "bomb.png")
    jpeg = bytearray(encode_image(rgb, ".jpg"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65_000, 65_000)
    with pytest.raises(InputError, match="pixels are refused"):
        decode_image(bytes(jpeg), "bomb.jpg")
    with pytest.raises(InputError, match="pixels are refused"):
        decode_image(b"P6 40000 30000 255\n" + bytes(100), "bomb.ppm")


def test_pillow_s_own_limit_does_not_stand_in_the_way(tmp_path):
    # 450 megapixels; Pillow alone refuses 179 million.
    (tmp_path / "x.ppm").write_bytes(b"P6 30000 15000 255\n")
    assert image_size(tmp_path / "x.ppm") == (15_000, 30_000)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".bmp", ".gif"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_truncated_files_say_so(tmp_path, suffix, part, capfd):
    noise = np.random.default_rng(0).integers(0, 256, (50, 60, 3), dtype=np.uint8)
    whole = save(tmp_path / f"whole{suffix}", Image.fromarray(noise)).read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(InputError) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    assert "truncated" in str(caught.value) or (suffix == ".tif" and "damaged" in str(caught.value))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_picture_cut_anywhere_is_never_taken_for_whole(rgb, suffix):
    whole = encode_image(rgb, suffix)
    for end in range(1, len(whole) - 2, 7):
        with pytest.raises(InputError):
            decode_image(whole[:end], "cut")


def test_a_truncated_tiff_of_floats(capfd):
    done, data = cv2.imencode(".tif", np.zeros((40, 50, 3), np.float32))
    assert done
    with pytest.raises(InputError, match="truncated"):
        decode_image(data.tobytes()[:4000], "x.tif")
    assert capfd.readouterr().err == ""


def test_bits_that_changed_in_a_png_are_noticed(rgb, capfd):
    data = bytearray(encode_image(rgb, ".png"))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(InputError, match=r"damaged \(checksum"):
        decode_image(bytes(data), "x.png")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"II*\0",
        b"RIFF\0\0\0\0WEBP",
        bytes(100),
        b"%PDF-1.7",
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(data):
    with pytest.raises(InputError) as caught:
        decode_image(data, "x.bin")
    assert str(caught.value).startswith("x.bin: ")
    assert "\n" not in str(caught.value)


def test_random_damage_never_escapes_as_another_error():
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    generator = np.random.default_rng(1)
    for suffix in ("PNG", "TIFF", "WEBP", "GIF", "BMP", "PPM"):
        buffer = io.BytesIO()
        Image.fromarray(noise).save(buffer, suffix)
        for _ in range(40):
            data = bytearray(buffer.getvalue())
            for at in generator.integers(0, min(len(data), 200), 3):
                data[at] = generator.integers(256)
            try:
                assert decode_image(bytes(data), "x").dtype == np.uint8
            except InputError as error:
                assert "\n" not in str(error)


@pytest.mark.parametrize("read", [read_image, image_size])
def test_files_that_cannot_be_read(tmp_path, read):
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "absent.png")
    with pytest.raises(InputError, match="folder"):
        read(tmp_path)
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(InputError):
        read(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("not a picture")
    with pytest.raises(InputError, match="not a picture"):
        read(tmp_path / "text.png")
    with pytest.raises(InputError, match="not a directory"):
        read(tmp_path / "text.png" / "below.png")


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    errors = []

    def read() -> None:
        try:
            read_image(tmp_path / "pipe.png")
        except InputError as error:
            errors.append(str(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(timeout=5)
    assert errors and "pipe" in errors[0]


def test_a_forbidden_file(tmp_path, monkeypatch, rgb):
    write_image(tmp_path / "x.png", rgb)

    def refuse(self: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match="permission denied; check the permissions"):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".PNG"])
def test_lossless_files_come_back(tmp_path, rgb, suffix):
    write_image(tmp_path / f"x{suffix}", rgb)
    np.testing.assert_array_equal(read_image(tmp_path / f"x{suffix}"), rgb)
    assert [path.name for path in tmp_path.iterdir()] == [f"x{suffix}"]


def test_quality(rgb):
    for suffix in (".jpg", ".webp"):
        assert len(encode_image(rgb, suffix, 20)) < len(encode_image(rgb, suffix, 95))
        assert off(decode_image(encode_image(rgb, suffix, 100), "x"), rgb) <= 25


def test_grey_and_alpha_are_written(rgb):
    grey = decode_image(encode_image(rgb[..., 0], ".png"), "x")
    np.testing.assert_array_equal(grey, np.repeat(rgb[..., :1], 3, axis=2))
    alpha = np.concatenate([rgb, np.full((HEIGHT, WIDTH, 1), 255, np.uint8)], axis=2)
    np.testing.assert_array_equal(decode_image(encode_image(alpha, ".png"), "x"), rgb)


@pytest.mark.parametrize("name", ["x", "x.txt", "x.gif"])
def test_unknown_suffixes_are_refused_before_anything_is_written(tmp_path, rgb, name):
    with pytest.raises(UsageError, match=r"use \.png"):
        write_image(tmp_path / name, rgb)
    assert not list(tmp_path.iterdir())


def test_a_picture_too_large_for_its_format():
    with pytest.raises(UsageError, match="do not fit"):
        encode_image(np.zeros((1, 70_000, 3), np.uint8), ".jpg")


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch, rgb):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="no space left on device; free some space"):
        write_image(tmp_path / "x.png", rgb)
    assert not list(tmp_path.iterdir())


def test_an_unwritable_place(tmp_path, rgb):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file stands where a folder is needed"):
        write_image(tmp_path / "file" / "x.png", rgb)


def test_folders_are_listed(tmp_path, rgb):
    wanted = ["a.jpg", "b/c.PNG", "b/d/e.tiff", "z.webp"]
    for name in [*wanted, "a.polar.png", "b/X.POLAR.PNG", ".hidden.png", ".cache/x.png", "notes.txt", "x.csv"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in list_images(tmp_path)] == wanted
    assert {".jpg", ".png", ".tif"} <= SUFFIXES
    with pytest.raises(InputError, match="no such file"):
        list_images(tmp_path / "absent")


def test_text_in_a_png(tmp_path, rgb):
    data = with_png_text(encode_image(rgb, ".png"), "cvgeo", '{"a": 1}')
    np.testing.assert_array_equal(decode_image(data, "x"), rgb)
    assert Image.open(io.BytesIO(data)).text == {"cvgeo": '{"a": 1}'}
    (tmp_path / "x.png").write_bytes(data)
    assert png_text(tmp_path / "x.png", "cvgeo") == '{"a": 1}'
    assert png_text(tmp_path / "x.png", "other") is None
    (tmp_path / "x.txt").write_text("none")
    assert png_text(tmp_path / "x.txt", "cvgeo") is None
    (tmp_path / "cut.png").write_bytes(data[:40])
    assert png_text(tmp_path / "cut.png", "cvgeo") is None


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([[0, 65535]], np.uint16), [0, 255]),
        (np.array([[-5, 32767]], np.int16), [0, 255]),
        (np.array([[0.0, 0.5, 2.0, np.nan]]), [0, 128, 255, 0]),
        (np.array([[False, True]]), [0, 255]),
        (np.array([[[200, 0], [200, 255]]], np.uint8), [0, 200]),
    ],
)
def test_samples_become_rgb(samples, expected):
    rgb = to_rgb(samples)
    assert rgb.shape == (1, len(expected), 3)
    np.testing.assert_array_equal(rgb[0], np.repeat(np.array(expected)[:, None], 3, axis=1))


def test_pictures_are_told_from_lists_of_paths(rgb):
    for suffix in (".png", ".jpg", ".webp", ".tif", ".bmp"):
        assert looks_like_picture(encode_image(rgb, suffix)[:64])
    assert looks_like_picture(b"P6\n640 480\n255\n")
    for text in (
        b"BMW.png\n",
        b"RIFF/x.jpg\n",
        b"GIF89a.gif\n",
        b"P6.ppm\n",
        b"P6\n",
        b"/tiles/a.png\n/tiles/b.png\n",
        b"a",
    ):
        assert not looks_like_picture(text)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared test pictures are not beside the repository")
def test_real_pictures_with_broken_exif():
    paths = list_images(SHARED / "geotagged")
    assert len(paths) >= 16
    for path in paths:
        assert read_image(path).shape[:2] == image_size(path)
