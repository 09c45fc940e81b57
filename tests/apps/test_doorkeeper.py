"""Requests that the demo page refuses before Gradio sees them."""

import asyncio

import pytest

from keras_dpt.apps.doorkeeper import BoundedBodies, OnlyOwnHosts


def answer(middleware, headers=None, path="/", body=(b"",), kind="http"):
    """Status of the answer to a request: 200 if it reaches the application and is read whole."""
    sent, chunks = [], list(body)

    async def app(scope, receive, send):
        more = kind == "http"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                await send({"type": "http.response.start", "status": 499, "headers": []})
                return
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive():
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    async def send(message):
        sent.append(message)

    headers = [(k.lower().encode(), v.encode()) for k, v in (headers or {}).items()]
    scope = {"type": kind, "path": path, "headers": headers}
    asyncio.run(middleware(app)(scope, receive, send))
    return sent[0].get("status", sent[0]["type"])


@pytest.mark.parametrize(
    "host, names, asked, status",
    [
        ("127.0.0.1", (), "127.0.0.1:7860", 200),
        ("127.0.0.1", (), "localhost:7860", 200),
        ("127.0.0.1", (), "LOCALHOST", 200),
        ("127.0.0.1", (), "[::1]:7860", 200),
        ("127.0.0.1", (), "evil.example:7860", 403),
        ("127.0.0.1", (), "evil.example", 403),
        ("127.0.0.1", (), "127.0.0.1.evil.example", 403),
        ("127.0.0.1", (), "localhost.evil.example", 403),
        ("127.0.0.1", (), "evil.example@127.0.0.1", 403),
        ("127.0.0.1", (), "192.168.1.5:7860", 403),
        ("127.0.0.1", (), "", 403),
        ("127.0.0.1", (), "127.0.0.1:x", 403),
        ("127.0.0.1", ("Depth.example",), "depth.example", 200),
        ("0.0.0.0", (), "192.168.1.5:7860", 200),
        ("0.0.0.0", (), "[fe80::1]:7860", 200),
        ("0.0.0.0", (), "localhost:7860", 200),
        ("0.0.0.0", (), "evil.example", 403),
        ("192.168.1.5", (), "192.168.1.5:7860", 200),
        ("192.168.1.5", ("depth.example",), "depth.example:443", 200),
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_hosts(host, names, asked, status, kind):
    refused = "websocket.close" if kind == "websocket" else 403
    found = answer(lambda app: OnlyOwnHosts(app, host, names), {"Host": asked}, kind=kind)
    assert found == (200 if status == 200 else refused)


def test_this_machines_own_name(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Box")
    monkeypatch.setattr("socket.getfqdn", lambda: "box.lan")
    for asked in ("box:7860", "box.local:7860", "box.lan:7860"):
        assert answer(lambda app: OnlyOwnHosts(app, "0.0.0.0"), {"Host": asked}) == 200
        assert answer(lambda app: OnlyOwnHosts(app, "127.0.0.1"), {"Host": asked}) == 403


@pytest.mark.parametrize(
    "host, origin, status",
    [
        ("127.0.0.1:7860", "http://127.0.0.1:7860", 200),
        ("localhost", "http://localhost:80", 200),
        ("127.0.0.1:7860", "http://evil.example", 403),
        ("127.0.0.1:7860", "http://127.0.0.1:3000", 403),
        ("127.0.0.1:7860", "http://localhost:7860", 403),
        ("127.0.0.1:7860", "null", 403),
        ("127.0.0.1:7860", "file://", 403),
        ("127.0.0.1:7860", "https://depth.example", 200),  # behind a proxy
        ("depth.example", "https://depth.example", 200),
        ("depth.example", "https://evil.example", 403),
    ],
)
def test_origins(host, origin, status):
    headers = {"Host": host, "Origin": origin}
    keeper = lambda app: OnlyOwnHosts(app, "127.0.0.1", ("depth.example",))  # noqa: E731
    assert answer(keeper, headers) == status


@pytest.mark.parametrize(
    "path, headers, body, status",
    [
        ("/gradio_api/upload", {"Content-Length": "100"}, [b"x" * 100], 200),
        ("/gradio_api/upload", {"Content-Length": "101"}, [b"x"], 413),
        ("/gradio_api/queue/join", {"Content-Length": "11"}, [b"x"], 413),
        ("/gradio_api/queue/join", {"Content-Length": "-1"}, [b"x"], 413),
        ("/gradio_api/queue/join", {}, [b"12345"] * 2, 200),
        ("/gradio_api/queue/join", {}, [b"12345"] * 3, 499),
        ("/gradio_api/upload", {}, [b"12345"] * 21, 499),
    ],
)
def test_bodies(path, headers, body, status):
    assert answer(lambda app: BoundedBodies(app, 100, 10), headers, path, body) == status
