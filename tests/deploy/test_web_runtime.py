"""Which files of onnxruntime-web a page takes."""

import json

import pytest

from posestill.deploy.web_runtime import HOW_TO_GET, find_runtime
from posestill.schema import UserError

WASM = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def unpacked(folder, *names):
    """A package with empty files of these names."""
    (folder / "dist").mkdir(parents=True)
    for name in (*WASM, *names):
        (folder / "dist" / name).write_bytes(b"")
    (folder / "package.json").write_text(json.dumps({"version": "1.2.3"}))
    return folder


def webgpu(kind):
    return ("ort.webgpu.min.mjs", f"ort-wasm-simd-threaded.{kind}.mjs", f"ort-wasm-simd-threaded.{kind}.wasm")


def test_the_package_is_found_in_its_folder_and_in_the_folder_that_it_was_unpacked_in(tmp_path):
    package = unpacked(tmp_path / "package")
    for given in (package, tmp_path):
        found = find_runtime(given)
        assert (found.version, list(found.backends)) == ("1.2.3", ["wasm"])
        assert found.backends["wasm"].wasm == package / "dist" / WASM[2]


@pytest.mark.parametrize("kind", ["asyncify", "jsep"])
def test_webgpu_is_taken_where_the_package_has_it_whatever_its_version_calls_it(tmp_path, kind):
    found = find_runtime(unpacked(tmp_path, *webgpu(kind))).backends["webgpu"]
    assert [path.name for path in found.named().values()] == list(webgpu(kind))


def test_half_of_webgpu_is_none(tmp_path):
    assert "webgpu" not in find_runtime(unpacked(tmp_path, *webgpu("jsep")[:2])).backends


@pytest.mark.parametrize("lacks", [None, *WASM])
def test_what_is_missing_is_said_with_the_command_that_gets_it(tmp_path, lacks):
    folder = None
    if lacks is not None:
        folder = unpacked(tmp_path)
        (folder / "dist" / lacks).unlink()
    with pytest.raises(UserError) as told:
        find_runtime(folder)
    assert HOW_TO_GET in str(told.value)
    assert folder is None or str(folder) in str(told.value)
