"""A server of files on this machine, in place of those of the network; it can be made to fail."""

import contextlib
import dataclasses
import hashlib
import http.server
import json
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclasses.dataclass
class Server:
    """Files by path, and what was asked for."""

    files: dict[str, bytes] = dataclasses.field(default_factory=dict)
    ranges: bool = True  # whether the rest of a file can be asked for
    cut: int | None = None  # bytes of an answer after which the connection ends
    asked: list[tuple[str, str]] = dataclasses.field(default_factory=list)  # paths, with the range
    url: str = ""


@contextlib.contextmanager
def serving():
    """A server that runs within this."""
    server = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def do_HEAD(self):
            self._answer(body=False)

        def do_GET(self):
            self._answer(body=True)

        def _answer(self, body):
            wanted = self.headers.get("Range", "") if server.ranges else ""
            server.asked.append((self.path, wanted))
            status, data, headers = of_a_hub(server.files, self.path)
            if wanted and status == 200:
                begin = int(wanted.removeprefix("bytes=").partition("-")[0])
                status, data = (206, data[begin:]) if begin < len(data) else (416, b"")
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                self.wfile.write(data[: server.cut])
            self.close_connection = server.cut is not None

    with http.server.ThreadingHTTPServer(("localhost", 0), Handler) as listening:
        server.url = f"http://localhost:{listening.server_address[1]}"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            listening.shutdown()
            thread.join()


def of_a_hub(files, path):
    """Status, data and headers, with those by which Hugging Face tells of its repositories."""
    path = path.partition("?")[0]
    if path.startswith("/api/models/"):
        repo = path.removeprefix("/api/models/").partition("/tree/")[0]
        there = [name.rpartition("/main/")[2] for name in files if name.startswith(f"/{repo}/resolve/")]
        listing = [{"type": "file", "path": name, "size": 1, "oid": "0"} for name in there]
        return 200, json.dumps(listing).encode(), {"Content-Type": "application/json"}
    known = path.replace(f"/resolve/{COMMIT}/", "/resolve/main/")
    if known in files:
        digest = hashlib.sha256(files[known]).hexdigest()
        return 200, files[known], {"ETag": f'"{digest}"', "X-Repo-Commit": COMMIT}
    repo, resolve, rest = path.partition("/resolve/")
    if not any(name.startswith(f"{repo}/resolve/") for name in files):
        return (401, b"", {"X-Error-Code": "RepoNotFound"}) if resolve else (404, b"", {})
    code = "EntryNotFound" if rest.partition("/")[0] in ("main", COMMIT) else "RevisionNotFound"
    return 404, b"", {"X-Error-Code": code, "X-Repo-Commit": COMMIT}
