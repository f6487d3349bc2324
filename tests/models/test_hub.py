import hashlib

import pytest

from posestill.models.hub import find_network, is_reference, is_saved_network
from posestill.schema import UserError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the Hub, and no network."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def fetched(cache, *, ref="main"):
    """A repository that was fetched before."""
    snapshot = cache / "models--owner--name" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"model_type": "vitpose"}')
    (snapshot / "model.safetensors").write_bytes(b"weights")
    refs = cache / "models--owner--name" / "refs"
    refs.mkdir()
    (refs / ref).write_text(COMMIT)
    return snapshot


def test_what_is_in_the_cache_is_found_without_a_network_and_its_commit_is_told(cache):
    snapshot = fetched(cache)
    found = find_network("hf:owner/name", where="teacher")
    assert (found.folder, found.name, found.is_pinned) == (snapshot, f"hf:owner/name@{COMMIT}", False)
    pinned = find_network(f"hf:owner/name@{COMMIT}", where="teacher")
    assert (pinned.folder, pinned.name, pinned.is_pinned) == (snapshot, f"hf:owner/name@{COMMIT}", True)


def test_a_branch_or_a_tag_is_told_as_the_commit_that_it_is(cache):
    fetched(cache, ref="v1")
    found = find_network("hf:owner/name@v1", where="teacher")
    assert (found.name, found.is_pinned) == (f"hf:owner/name@{COMMIT}", True)


def test_without_a_network_one_line_says_what_to_do(cache):
    with pytest.raises(UserError) as caught:
        find_network("hf:owner/other", where="teacher")
    message = str(caught.value)
    assert message.startswith("teacher: hf:owner/other: the Hub could not be reached (")
    assert message.endswith("check the connection, HF_HUB_OFFLINE and HF_ENDPOINT")
    assert "\n" not in message


@pytest.mark.parametrize("name", ["hf:vitpose", "hf:a/b/c", "hf:a/b@", "hf:"])
def test_what_names_no_repository_is_refused(name):
    assert is_reference(name)
    with pytest.raises(UserError, match=r"no repository of the Hub: write hf:OWNER/NAME or hf:OWNER/NAME@REVISION"):
        find_network(name, where="teacher")


def test_each_refusal_of_the_hub_has_its_remedy(monkeypatch):
    import huggingface_hub
    from huggingface_hub import errors

    cases = [
        (errors.RevisionNotFoundError, "@gone: there is no such revision"),
        (errors.GatedRepoError, "accept the conditions"),
        (errors.RepositoryNotFoundError, "where it is private, set HF_TOKEN"),
    ]
    for error, said in cases:

        def refuse(*args, error=error, **options):
            raise error.__new__(error)  # versions of the library make them of different responses

        monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
        with pytest.raises(UserError, match=said):
            find_network("hf:owner/name@gone", where="teacher")


def test_a_folder_is_told_from_one_of_posestill_and_hashed_whole(tmp_path):
    assert not is_saved_network(tmp_path)
    (tmp_path / "config.json").write_text('{"format": "posestill"}')
    assert not is_saved_network(tmp_path)
    (tmp_path / "config.json").write_text("{")
    assert not is_saved_network(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "vitpose"}')
    assert is_saved_network(tmp_path)
    for name in ("b", "a"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
    found = find_network(str(tmp_path), where="teacher")
    assert found.digest() == hashlib.sha256(b'{"model_type": "vitpose"}' + b"ab").hexdigest()
    with pytest.raises(UserError, match=r"teacher: no config\.json in .*gone"):
        find_network(str(tmp_path / "gone"), where="teacher")


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlicense: apache-2.0\n---\nText\n---\n", "apache-2.0"),
        ("---\nlicense: other\nlicense_name: sapiens2-license\n---\n", "sapiens2-license"),
        ("---\ntags: [x]\n---\n", None),
        ("No front matter\n", None),
        ("---\n: [\n---\n", None),
        (None, None),
    ],
)
def test_the_licence_is_what_the_card_says(card, licence, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vitpose"}')
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert find_network(str(tmp_path), where="teacher").licence() == licence
