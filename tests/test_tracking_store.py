import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from vtn import tracking_store


@pytest.fixture(autouse=True)
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_runs_go_to_an_absolute_sqlite_file_unless_the_user_names_a_store(tmp_path, monkeypatch):
    assert tracking_store.uri() == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    assert tracking_store.artifacts(tracking_store.uri()) == f"file://{tmp_path}/mlruns/artifacts"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_store.uri() == "http://127.0.0.1:5000"
    assert tracking_store.artifacts(tracking_store.uri()) is None


def test_an_address_is_shown_without_its_password():
    assert tracking_store.shown("http://me:secret@host:5000/a") == "http://host:5000/a"
    assert tracking_store.shown("sqlite:////a/b@c.db") == "sqlite:////a/b@c.db"


def test_what_the_user_set_is_kept(monkeypatch):
    for name in tracking_store.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")
    tracking_store.quieten()
    assert tracking_store.os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "7"
    assert tracking_store.os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "10"


def test_a_database_that_can_be_made_or_read_is_no_problem(tmp_path):
    assert tracking_store.problem(tracking_store.uri()) == ""
    with sqlite3.connect(tmp_path / "good.db") as database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
    assert tracking_store.problem(f"sqlite:///{tmp_path}/good.db") == ""


def test_a_file_that_is_no_database_of_mlflow_is_a_problem(tmp_path):
    (tmp_path / "text.db").write_text("no database" * 100)
    assert "not a database" in tracking_store.problem(f"sqlite:///{tmp_path}/text.db")
    sqlite3.connect(tmp_path / "empty.db").execute("VACUUM")
    assert "alembic_version" in tracking_store.problem(f"sqlite:///{tmp_path}/empty.db")


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:9", "http://u:p@127.0.0.1:9", "postgresql://u:p@127.0.0.1:9/runs"]
)
def test_a_server_that_is_down_is_a_problem_within_seconds(address):
    started = time.monotonic()
    assert "refused" in tracking_store.problem(address)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(("code", "well"), [(200, True), (404, False)])
def test_a_server_is_asked_for_its_health(code, well):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(code if self.path == "/health" else 500)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.handle_request, daemon=True).start()
    problem = tracking_store.problem(f"http://127.0.0.1:{server.server_port}/")
    server.server_close()
    assert (problem == "") is well


@pytest.mark.parametrize("address", ["mlruns", "file:///tmp/mlruns"])
def test_a_plain_folder_is_refused_with_the_kinds_that_work(address):
    assert "sqlite:////PATH" in tracking_store.problem(address)
