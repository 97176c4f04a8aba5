"""Downloads from a real server that does what servers do."""

import hashlib
import re
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from common.datasets import download as module
from common.datasets.download import download
from common.errors import UserError

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
HALF = len(CONTENT) // 2
PAGE = b"<!DOCTYPE html><title>Log in to the network</title>"
ELSEWHERE = {"file": "file:///etc/passwd", "ftp": "ftp://127.0.0.1/file", "data": "data:,x"}


class Handler(BaseHTTPRequestHandler):
    """Does what the path says; keeps paths and ranges in ``server.asked``."""

    def do_GET(self):
        kind = self.path[1:].replace("-", " ")
        asked = self.headers.get("Range")
        self.server.asked.append((kind, asked))
        if kind in ("404", "500"):
            self.send_error(int(kind))
        elif kind == "redirect" or kind in ELSEWHERE:
            self.send_response(302)
            self.send_header("Location", ELSEWHERE.get(kind, f"http://localhost:{self.server.server_port}/whole"))
            self.end_headers()
        elif kind == "loop":
            self.send_response(302)
            self.send_header("Location", "/loop")
            self.end_headers()
        elif kind == "ranges" and asked:
            first = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if first >= len(CONTENT):
                self.send_error(416)
            else:
                self.answer(
                    206, CONTENT[first:], **{"Content-Range": f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}"}
                )
        elif kind == "other ranges" and asked:  # another part than asked for
            self.answer(206, CONTENT[5:], **{"Content-Range": f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"})
        elif kind == "stall":
            self.answer(200, CONTENT[:HALF], length=len(CONTENT))
            self.server.stopped.wait()
        else:
            length = {"cut": len(CONTENT), "longer": HALF, "endless": None, "page": len(PAGE)}.get(kind, len(CONTENT))
            body = {"cut": CONTENT[:100_000], "other": CONTENT[::-1], "page": PAGE, "endless": CONTENT * 3}
            self.answer(200, body.get(kind, CONTENT), length=length)

    def answer(self, code, body, length=-1, **headers):
        self.send_response(code)
        if length is not None:
            self.send_header("Content-Length", str(len(body) if length == -1 else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            self.wfile.write(body)
            self.wfile.flush()
        except OSError:
            pass  # nobody listens any more

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.stopped = [], threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.01,)).start()
    yield server
    server.stopped.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def address(server):
    return f"http://127.0.0.1:{server.server_port}"


@pytest.mark.parametrize("page", ["whole", "redirect", "endless"])
def test_whole(address, tmp_path, page):
    path = tmp_path / "data" / "file.bin"
    content = CONTENT * 3 if page == "endless" else CONTENT  # without a length, whole is what the checksum says
    download(f"{address}/{page}", path, hashlib.sha256(content).hexdigest())
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


FAILURES = {
    "other": "another file came: its SHA-256 is not",
    "page": "a web page came, as where a network wants a login first",
    "longer": "another file came",
    "404": "404: Not Found",
    "500": "500: Internal Server Error",
    "file": "Redirection to url 'file:///etc/passwd' is not allowed",
    "ftp": "it leads to ftp://127.0.0.1/file",
    "data": "Redirection to url 'data:,x' is not allowed",
    "loop": "302: .*infinite loop",
}


@pytest.mark.parametrize("page", FAILURES)
def test_anything_else_is_an_error_and_leaves_nothing(address, tmp_path, page):
    with pytest.raises(UserError, match=FAILURES[page]) as caught:
        download(f"{address}/{page}", tmp_path / "file.bin", SHA256)
    assert f"the download of {address}/{page} failed (" in str(caught.value) and len(str(caught.value)) < 500
    assert list(tmp_path.iterdir()) == []


def test_a_body_without_an_end_is_left(address, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 1_000_000)
    with pytest.raises(UserError, match="more than 1,000,000 bytes came"):
        download(f"{address}/endless", tmp_path / "file.bin", SHA256)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == 0


@pytest.mark.parametrize(("page", "words"), [("cut", "cut off after 100,000 of 1,024,000"), ("stall", "nothing came")])
def test_what_came_of_a_download_cut_off_is_gone_on_from(server, address, tmp_path, monkeypatch, page, words):
    monkeypatch.setattr(module, "TIMEOUT", 0.5)
    path, came = tmp_path / "file.bin", {"cut": 100_000, "stall": HALF}[page]
    with pytest.raises(UserError, match=words):
        download(f"{address}/{page}", path, SHA256)
    assert not path.exists()
    download(f"{address}/ranges", path, SHA256)
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [path]
    assert server.asked == [(page, None), ("ranges", f"bytes={came}-")]


@pytest.mark.parametrize("page", ["whole", "ranges", "other ranges"])
@pytest.mark.parametrize("left", [CONTENT[:HALF], CONTENT[::-1], CONTENT[::-1][:HALF], CONTENT, CONTENT * 2, b""])
def test_whatever_is_left_of_before_the_file_is_right(address, tmp_path, page, left):
    """A server that ignores ranges, or gives another; the beginning of another file; more than all."""
    path = tmp_path / "file.bin"
    (tmp_path / ".file.bin.part").write_bytes(left)
    download(f"{address}/{page.replace(' ', '-')}", path, SHA256)
    assert path.read_bytes() == CONTENT
    assert list(tmp_path.iterdir()) == [path]


def test_nobody_answers(tmp_path):
    with pytest.raises(UserError, match="refused"):
        download("http://127.0.0.1:9/file", tmp_path / "file.bin", SHA256)


def test_a_certificate_that_is_not_trusted(server, tmp_path):
    files = [str(tmp_path / name) for name in ("key.pem", "certificate.pem")]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    try:
        subprocess.run([*command, "-keyout", files[0], "-out", files[1]], check=True, capture_output=True)
    except OSError:
        pytest.skip("needs openssl")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files[1], files[0])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with pytest.raises(UserError, match=r"(?i)certificate.verify.failed"):
        download(f"https://localhost:{server.server_port}/whole", tmp_path / "new" / "file.bin", SHA256)
    assert list((tmp_path / "new").iterdir()) == []
