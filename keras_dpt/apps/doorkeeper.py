"""Which requests the demo page accepts, by host and by size: two ASGI middlewares."""

import ipaddress
import socket
from urllib.parse import urlsplit


class OnlyOwnHosts:
    """Rejects requests for other hosts, and from pages of other origins.

    Otherwise a site whose name resolves to this machine could use the page through the browser of
    its visitors. Such a site needs a name, so requests by address are safe.

    Args:
        app: the ASGI application.
        host: the address that the page listens on. On loopback, only loopback's addresses and
            "localhost" are its own; else all addresses and this machine's names.
        names: more names, such as a proxy's.
    """

    def __init__(self, app, host, names=()):
        self.app = app
        self.names = {name.lower().rstrip(".") for name in names}
        self.own = {"localhost", host.lower()} | self.names
        self.loopback_only = _is_loopback(host)
        if not self.loopback_only:
            for name in (socket.gethostname(), socket.getfqdn()):
                self.own |= {name.lower(), f"{name.lower().partition('.')[0]}.local"}

    async def __call__(self, scope, receive, send):
        if scope["type"] not in ("http", "websocket"):
            return await self.app(scope, receive, send)
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if not self._is_own(host):
            shown = host[:100] or "no host"
            return await _refuse(
                scope, send, 403, f"This page is not {shown}. To allow a name: --allow-host NAME."
            )
        if origin is not None and not self._is_same(origin, host):
            return await _refuse(scope, send, 403, "Other sites may not use this page.")
        return await self.app(scope, receive, send)

    def _is_own(self, host):
        name = _name_of(f"//{host}")
        if name is None:
            return False
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name in self.own
        return name in self.own or address.is_loopback or not self.loopback_only

    def _is_same(self, origin, host):
        scheme, _, rest = origin.partition("://")
        default = {"http": ":80", "https": ":443"}.get(scheme)
        if default is None:
            return False
        # A proxy may have replaced the requested host by its own.
        same = rest.lower().removesuffix(default) == host.lower().removesuffix(default)
        return same or _name_of(f"//{rest}") in self.names


class BoundedBodies:
    """Rejects requests that are too large, before they are in memory.

    Args:
        app: the ASGI application.
        upload: most bytes of a request that uploads a file, which is written to disk.
        other: most bytes of any other request.
    """

    def __init__(self, app, upload, other):
        self.app, self.upload, self.other = app, upload, other

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        limit = self.upload if scope["path"].rstrip("/").endswith("/upload") else self.other
        length = dict(scope["headers"]).get(b"content-length", b"0")
        if not length.isdigit() or int(length) > limit:
            message = f"This page takes {limit / 1024**2:.0f} MiB at most in this request."
            return await _refuse(scope, send, 413, message)
        count = 0

        async def receive_bounded():
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            # Requests without a length are counted as they arrive.
            return {"type": "http.disconnect"} if count > limit else message

        return await self.app(scope, receive_bounded, send)


async def _refuse(scope, send, status, message):
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": message.encode()})


def _name_of(address):
    """Host of an address, in lower case and without port or brackets; `None` if it has none."""
    try:
        parts = urlsplit(address)
        _ = parts.port  # raises if that is no number
        plain = not (parts.path or parts.query or parts.fragment or parts.username)
        return parts.hostname.rstrip(".") if plain and parts.hostname else None
    except ValueError:
        return None


def _is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
