"""Fetching the weights, from a server on this machine that behaves well or badly."""
import hashlib
import http.server
import os
import platform
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

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.answers, self.requests = BODY, [], 0
        self.url = f"http://127.0.0.1:{self.server_port}/ViT-B-16.pt"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        answer = self.server.answers.pop(0) if self.server.answers else None
        if answer == 404:
            return self.send_error(answer)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body[:answer])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)  # looks that often whether it is to end
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def files_beside(path):
    return sorted(p.name for p in path.parent.iterdir() if not p.name.endswith(".lock"))


def test_whole_then_kept(server, tmp_path, capsys):
    path = tmp_path / "cache" / "w.pt"
    download.fetch(server.url, SHA256, path)
    download.fetch(server.url, SHA256, path)
    assert path.read_bytes() == BODY and server.requests == 1 and files_beside(path) == ["w.pt"]
    assert "fetching ViT-B-16.pt, MB 4/4" in capsys.readouterr().err


@pytest.mark.parametrize("size", [0, 1_500_000])
def test_a_broken_connection_leaves_nothing_and_the_same_command_begins_again(size, server, tmp_path):
    path = tmp_path / "w.pt"
    server.answers = [size]
    with pytest.raises(UserError, match="the connection broke off.*the same command starts it again.*--weights FILE"):
        download.fetch(server.url, SHA256, path)
    assert files_beside(path) == []
    download.fetch(server.url, SHA256, path)
    assert path.read_bytes() == BODY and server.requests == 2


def test_a_wrong_file_is_never_used(server, tmp_path):
    with pytest.raises(UserError, match=f"gave a file with SHA-256 {SHA256}; it isn't used.*SHA-256 {'0' * 64}"):
        download.fetch(server.url, "0" * 64, tmp_path / "w.pt")
    assert files_beside(tmp_path / "w.pt") == []


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    (tmp_path / "w.pt").write_bytes(BODY[:-1])
    download.fetch(server.url, SHA256, tmp_path / "w.pt")
    assert (tmp_path / "w.pt").read_bytes() == BODY


def test_no_such_page_and_no_connection(server, tmp_path):
    server.answers = [404]
    by_hand = rf"To do it by hand, fetch {server.url} \(SHA-256 {SHA256}\) and put it at .*w.pt"
    with pytest.raises(UserError, match=rf"can't be fetched \(.*Not Found.*\).*{by_hand}"):
        download.fetch(server.url, SHA256, tmp_path / "w.pt")
    with pytest.raises(UserError, match="refused.*To do it by hand"):
        download.fetch("http://127.0.0.1:9/w.pt", SHA256, tmp_path / "w.pt")
    assert files_beside(tmp_path / "w.pt") == []


def test_no_space(server, tmp_path):
    (tmp_path / f".w.pt.{platform.node()}-{os.getpid()}.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match="can't be fetched .No space left.*To do it by hand"):
        download.fetch(server.url, SHA256, tmp_path / "w.pt")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="can't be written.*XDG_CACHE_HOME.*To do it by hand"):
        download.fetch(server.url, SHA256, tmp_path / "file" / "w.pt")


def test_two_at_once_fetch_it_once(server, tmp_path):
    threads = [threading.Thread(target=download.fetch, args=(server.url, SHA256, tmp_path / "w.pt")) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.requests == 1 and (tmp_path / "w.pt").read_bytes() == BODY


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
    assert server.requests == 1
    assert (tmp_path / "cache/meta-prompts/ViT-B-16.pt").read_bytes() == server.body
    capsys.readouterr()
    assert program.main(["data", *command]) == 0
    assert "weights  ready      OpenAI's ViT-B/16, " in capsys.readouterr().out
