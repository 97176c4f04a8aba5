import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from common.datasets.download import download
from common.errors import UserError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.path == "/cut":
            self.wfile.write(CONTENT[:100_000])
        elif self.path == "/other":
            self.wfile.write(CONTENT[::-1])
        elif self.path == "/confirm":
            self.wfile.write(b"<!DOCTYPE html>Google Drive can't scan this file for viruses".ljust(len(CONTENT)))
        else:
            self.wfile.write(CONTENT)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_whole(address, tmp_path):
    path = tmp_path / "data" / "file.bin"
    download(f"{address}/whole", path, SHA256)
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("page", "words"),
    [("cut", "retrieval incomplete"), ("other", "sha256"), ("confirm", "sha256"), ("missing", "404")],
)
def test_anything_else_is_an_error_and_leaves_nothing(address, tmp_path, page, words):
    path = tmp_path / "file.bin"
    with pytest.raises(UserError, match=words):
        download(f"{address}/{page}", path, SHA256)
    assert list(tmp_path.iterdir()) == []


def test_a_download_that_was_cut_off_before_is_not_taken_for_whole(address, tmp_path):
    path = tmp_path / "file.bin"
    (tmp_path / ".file.bin.part").write_bytes(CONTENT[:100_000])  # as a kill leaves it
    download(f"{address}/whole", path, SHA256)
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [path]


def test_nobody_answers(tmp_path):
    with pytest.raises(UserError, match="refused"):
        download("http://127.0.0.1:9/file", tmp_path / "file.bin", SHA256)
