"""Loading from a hub: the real client against a small server that speaks the hub's protocol and keeps account."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import torch
from huggingface_hub import constants

from laim_ros.models import ModelError, load
from laim_ros.models.random_checkpoint import Blip2Sizes, make_random_blip2

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "someone/blip2-random"


class Hub(ThreadingHTTPServer):
    """Serves one repository.

    Attributes:
        sent_bytes: per file, how much of its content was sent.
        whole: names of the files that were asked for without a range.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.sent_bytes: dict[str, int] = {}
        self.whole: set[str] = set()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._file()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        files = sorted(self.server.folder.iterdir())
        if path.startswith((f"/api/models/{REPOSITORY}/tree/", f"/api/models/{REPOSITORY}/paths-info/")):
            entries = [{"type": "file", "oid": _tag(f), "size": f.stat().st_size, "path": f.name} for f in files]
            self._json(200, entries)
        elif path.startswith(f"/api/models/{REPOSITORY}"):
            self._json(200, {"id": REPOSITORY, "sha": COMMIT, "siblings": [{"rfilename": f.name} for f in files]})
        elif path.startswith("/api/"):
            self._json(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        else:
            self._file()

    def _file(self) -> None:
        path = self.server.folder / unquote(urlsplit(self.path).path).split(f"/resolve/{COMMIT}/")[-1]
        if not path.is_file():
            self._json(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
            return
        content = path.read_bytes()
        span = self.headers.get("Range")
        if span:
            begin, end = span.removeprefix("bytes=").split("-")
            content = content[int(begin) : int(end) + 1]
        self.send_response(206 if span else 200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{_tag(path)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.server.sent_bytes[path.name] = self.server.sent_bytes.get(path.name, 0) + len(content)
            if not span:
                self.server.whole.add(path.name)
            self.wfile.write(content)

    def _json(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _tag(path: Path) -> str:
    return hashlib.sha1(path.name.encode()).hexdigest()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose language model lies in shards of its own, one of them large."""
    folder = tmp_path_factory.mktemp("published")
    return make_random_blip2(folder, Blip2Sizes(vocabulary=60_000), max_shard_size="100KB")


@pytest.fixture
def hub(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub(published)
    endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def shards_of(folder: Path, *prefixes: str) -> set[str]:
    weight_map = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    return {shard for key, shard in weight_map.items() if key.startswith(prefixes)}


def test_the_robot_half_fetches_its_shards_only(hub, published):
    model = load(REPOSITORY, last="qformer")
    local = load(str(published), last="qformer")
    pictures = torch.randint(0, 255, (1, *model.boundary_shape("input")), dtype=torch.uint8)
    assert torch.equal(model.run(pictures, "input", "qformer"), local.run(pictures, "input", "qformer"))
    assert model.model_id == local.model_id
    fetched = {name for name in hub.whole if name.endswith(".safetensors")}
    assert fetched == shards_of(published, "vision_model.", "query_tokens", "qformer.")
    # Of the large shard, only what is around its header crosses the network.
    (large,) = (path for path in published.glob("*.safetensors") if path.stat().st_size > 5e6)
    assert 0 < hub.sent_bytes[large.name] < 0.3 * large.stat().st_size


def test_both_halves_from_the_hub_belong_together(hub, published):
    edge = load(REPOSITORY, first="qformer")
    assert shards_of(published, "language_model.") <= hub.whole
    assert edge.model_id == load(REPOSITORY, last="vit.1").model_id


def test_what_was_fetched_is_enough_without_a_network(hub, monkeypatch):
    first = load(REPOSITORY, last="qformer")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.sent_bytes.clear()
    again = load(REPOSITORY, last="qformer")
    assert again.model_id == first.model_id
    assert not hub.sent_bytes
    with pytest.raises(ModelError, match=f"{REPOSITORY}.*check the network"):
        load(REPOSITORY)


def test_an_unknown_repository_is_an_error_that_names_it(hub):
    with pytest.raises(ModelError, match=r"someone/else.*shipped"):
        load("someone/else")


def test_no_answer_is_an_error_with_the_fix(hub):
    hub.shutdown()
    hub.server_close()
    with pytest.raises(ModelError, match=f"{REPOSITORY}.*check the network.*shipped"):
        load(REPOSITORY)
