"""`posestill page`: what it says; the folder that it writes is tested in tests/deploy/test_page.py."""

from posestill.deploy.web_runtime import HOW_TO_GET
from tests.conftest import small_model
from tests.deploy.test_web_runtime import unpacked
from tests.networks import write_exported


def test_without_a_runtime_one_line_says_how_to_get_it(posestill, tmp_path):
    status, _, err = posestill("page", tmp_path / "model", "--out", tmp_path / "site")
    assert (status, len(err.splitlines()), f"`{HOW_TO_GET}`" in err, "--runtime package" in err) == (2, 1, True, True)
    assert not (tmp_path / "site").exists()


def test_it_says_how_large_the_page_is_and_how_to_see_it(posestill, tmp_path):
    write_exported(tmp_path / "exported" / "model-fp32.onnx", small_model())
    runtime = unpacked(tmp_path / "package")
    site = tmp_path / "site"
    status, out, err = posestill("page", tmp_path / "exported", "--out", site, "--runtime", runtime)
    assert status == 0, err
    count = len([path for path in site.rglob("*") if path.is_file() and path.name != ".posestill"])
    assert out.startswith(f"page: {site} ({count} files, 0 MB)\n")
    assert f"python -m http.server --directory {site}" in out


def test_more_than_two_models_are_refused(posestill, tmp_path):
    runtime = unpacked(tmp_path / "package")
    status, _, err = posestill("page", "a", "b", "c", "--out", tmp_path / "site", "--runtime", runtime)
    assert (status, "two models at most, and 3 are given" in err) == (2, True)
