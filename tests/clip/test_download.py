"""Fetching the weights, from a server on this machine that behaves well or badly."""
import hashlib
import http.server
import random
import threading

import pytest

import run as program
from mp.clip import download
from mp.runtime.errors import UserError
from tests.rehearsal import openai_archive, write_dataset

BODY = random.Random(0).randbytes(3_500_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `body`; `answers` lists what each request does: an HTTP status, or after how many bytes it breaks off."""
    answers: list = []
    ranges_known = True
    body = BODY

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests = []
        self.url = f"http://127.0.0.1:{self.server_port}/ViT-B-16.pt"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range")
        self.server.requests.append(wanted)
        answer = self.server.answers.pop(0) if self.server.answers else None
        if answer in (404, 503):
            return self.send_error(answer)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges_known else 0
        if start >= len(self.server.body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.server.body) - start))
        self.end_headers()
        self.wfile.write(self.server.body[start:][:answer])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(server, path, sha256=SHA256):
    download.fetch(server.url, sha256, path, pause=0)


def leftovers(path):
    return sorted(p.name for p in path.parent.iterdir() if not p.name.endswith(".lock"))


def test_whole_then_kept(server, tmp_path, capsys):
    path = tmp_path / "cache" / "w.pt"
    fetch(server, path)
    fetch(server, path)
    assert path.read_bytes() == BODY and server.requests == [None] and leftovers(path) == ["w.pt"]
    assert "fetching ViT-B-16.pt, MB 3/3" in capsys.readouterr().err


def test_broken_connections_go_on_where_they_stopped(server, tmp_path):
    server.answers = [1_000_000, 0, 503, 1_500_000, None]
    fetch(server, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_bytes() == BODY
    assert server.requests == [None, "bytes=1000000-", "bytes=1000000-", "bytes=1000000-", "bytes=2500000-"]


def test_a_later_run_goes_on_too(server, tmp_path):
    server.answers = [1_000_000, 0, 0, 0]
    kept = "broke off.*the first 1 MB are kept, and the same command goes on.*--weights FILE"
    with pytest.raises(UserError, match=kept):
        fetch(server, tmp_path / "w.pt")
    assert leftovers(tmp_path / "w.pt") == ["w.pt.part"]
    fetch(server, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_bytes() == BODY and server.requests[-1] == "bytes=1000000-"


def test_a_server_without_ranges_and_a_part_that_is_whole(server, tmp_path):
    server.ranges_known = False
    (tmp_path / "w.pt.part").write_bytes(b"x" * 500)
    fetch(server, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_bytes() == BODY
    server.ranges_known = True
    (tmp_path / "v.pt.part").write_bytes(BODY)
    fetch(server, tmp_path / "v.pt")
    assert (tmp_path / "v.pt").read_bytes() == BODY


def test_a_wrong_file_is_never_used(server, tmp_path):
    with pytest.raises(UserError, match=f"gave a file with SHA-256 {SHA256}; it isn't used.*SHA-256 {'0' * 64}"):
        fetch(server, tmp_path / "w.pt", "0" * 64)
    assert leftovers(tmp_path / "w.pt") == []


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    (tmp_path / "w.pt").write_bytes(BODY[:-1])
    fetch(server, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_bytes() == BODY


def test_no_such_page_and_no_connection(server, tmp_path):
    server.answers = [404]
    by_hand = rf"To do it by hand, fetch {server.url} \(SHA-256 {SHA256}\) and put it at .*w.pt"
    with pytest.raises(UserError, match=rf"can't be fetched \(.*\). {by_hand}") as e:
        fetch(server, tmp_path / "w.pt")
    assert "404" in str(e.value) or "Not Found" in str(e.value)
    assert len(server.requests) == 1
    with pytest.raises(UserError, match="refused.*To do it by hand"):
        download.fetch("http://127.0.0.1:9/w.pt", SHA256, tmp_path / "w.pt", pause=0)
    assert leftovers(tmp_path / "w.pt") == []


def test_no_space(server, tmp_path):
    (tmp_path / "w.pt.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match="w.pt: can't be written .No space left.*XDG_CACHE_HOME.*To do it by hand"):
        fetch(server, tmp_path / "w.pt")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be written"):
        fetch(server, tmp_path / "file" / "w.pt")


def test_two_at_once_fetch_it_once(server, tmp_path):
    threads = [threading.Thread(target=fetch, args=(server, tmp_path / "w.pt")) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert server.requests == [None] and (tmp_path / "w.pt").read_bytes() == BODY


def test_the_default_weights_are_fetched_once(server, tmp_path, recipe, monkeypatch, capsys):
    assert f"/{download.SHA256}/" in download.URL
    openai_archive(recipe.clip_state("A"), tmp_path / "w.pt")
    server.body = (tmp_path / "w.pt").read_bytes()
    monkeypatch.setattr(download, "URL", server.url)
    monkeypatch.setattr(download, "SHA256", hashlib.sha256(server.body).hexdigest())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_dataset("EuroSAT", tmp_path / "data", small=True)
    command = ["--data", str(tmp_path / "data"), "--datasets", "eurosat"]
    for _ in range(2):
        assert program.main(["zeroshot", *command, "--out", str(tmp_path / "runs")]) == 0
    assert server.requests == [None]
    assert (tmp_path / "cache/meta-prompts/ViT-B-16.pt").read_bytes() == server.body
    capsys.readouterr()
    assert program.main(["data", *command]) == 0
    assert "weights  ready      OpenAI's ViT-B/16, " in capsys.readouterr().out
