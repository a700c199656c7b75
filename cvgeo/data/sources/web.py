"""Map tiles of a web server by a URL template, kept on disk and asked for politely.

Templates hold `{z}`, `{x}` and `{y}` (`{-y}` for rows from south), and may hold `{s}` (the server a, b or c). Every
tile, and every hole (status 404), is asked for once: the cache answers afterwards, with no network as well.
"""

from __future__ import annotations

import email.utils
import hashlib
import http.client
import re
import string
import threading
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import numpy as np

from cvgeo import __version__
from cvgeo.data.images import decode_with_mask, encoded_size
from cvgeo.data.sources.pyramid import Address, TileStore, check_picture, tile_side
from cvgeo.errors import InputError, UnfetchedError, UsageError
from cvgeo.paths import atomic_file, cache_dir

DEFAULT_RATE = 5.0  # requests a second
DEEPEST_ZOOM = 22
ATTEMPTS = 5
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 120.0  # a server that asks for more is not waited for
TIMEOUT_S = 20.0
LONGEST_BODY_S = 120.0
MOST_BYTES = 2**25
PIECE_BYTES = 2**16
MOST_REDIRECTS = 3
SCHEMES = ("http", "https")
HOLES = (204, 404, 410)
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
USER_AGENT = f"cvgeo/{__version__}"


def is_url(word: str) -> bool:
    """Whether an input is named by a URL rather than by a path."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", word) is not None


def check_template(template: str) -> None:
    """Raise UsageError for a URL that is no template of tiles, or not of the web."""
    if not _is_sound(template):
        fault = "the URL of map tiles has no host, or one that makes no sense"
        raise UsageError(fault, mend="write it like https://host/{z}/{x}/{y}.png")
    name = shown_url(template)
    if urlsplit(template).scheme.lower() not in SCHEMES:
        raise UsageError("tiles are fetched by http or https only", path=name)
    missing = [one for one in ("{z}", "{x}") if one not in template]
    if "{y}" not in template and "{-y}" not in template:
        missing.append("{y}")
    if missing:
        mend = "write it like https://host/{z}/{x}/{y}.png"
        raise UsageError(f"the URL has no {' and no '.join(missing)}", path=name, mend=mend)
    unknown = set(re.findall(r"{[^}]*}", template)) - {"{z}", "{x}", "{y}", "{-y}", "{s}"}
    if unknown:
        raise UsageError(f"the URL has {sorted(unknown)[0]}, which is unknown", path=name, mend="write its value there")


def _is_sound(url: str) -> bool:
    try:
        parts = urlsplit(url)
        named = parts.scheme.lower() not in SCHEMES or bool(parts.hostname)
        return named and parts.port != 0 and parts.netloc.isascii() and parts.netloc.isprintable()
    except ValueError:
        return False


def shown_url(url: str) -> str:
    """A URL as it may be shown and kept: without a user's name or a key, which stand before the host and behind `?`."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class Pace:
    """Lets through so many requests a second, whichever threads they come from."""

    def __init__(self, rate: float):
        self.interval = 1.0 / rate
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when the next request may be sent."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self.interval
        time.sleep(max(0.0, turn - now))

    def hold(self, seconds: float) -> None:
        """Let nothing through for so long."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)


_paces: dict[tuple[str, float], Pace] = {}
_paces_lock = threading.Lock()
_asking = [threading.Lock() for _ in range(64)]


def _pace(host: str, rate: float) -> Pace:
    with _paces_lock:
        return _paces.setdefault((host, rate), Pace(rate))


class _Failed(Exception):
    """A request that may succeed when it is sent again; after how many seconds the server said, if it did."""

    def __init__(self, reason: str, after: float | None = None):
        super().__init__(reason)
        self.after = after


class WebStore(TileStore):
    """The tiles of a URL template.

    Args:
        template: the URL, as the module describes.
        zoom: this level only; else any down to 22.
        tms: rows count from south.
        rate: requests a second, of all threads together.
        area: south, west, north, east, where that is known; east above 180 across the date line.
        cache: folder in which tiles are kept; the user's cache folder if None.

    Raises UsageError for a URL that is no template, UnfetchedError for what cannot be fetched.
    """

    def __init__(
        self,
        template: str,
        zoom: int | None = None,
        tms: bool = False,
        rate: float = DEFAULT_RATE,
        area: tuple[float, float, float, float] | None = None,
        cache: Path | None = None,
        first_pause_s: float = FIRST_PAUSE_S,
    ):
        check_template(template)
        self.template, self.tms = template, tms
        self.name = shown_url(template)
        host = urlsplit(template).netloc.rpartition("@")[2]
        self.attribution = host.partition(":")[0]
        self.zooms = list(range(DEEPEST_ZOOM + 1)) if zoom is None else [zoom]
        self._area = area
        self._pace = _pace(host, rate)
        self._first_pause_s = first_pause_s
        key = hashlib.sha256(f"{template}\0{tms}".encode()).hexdigest()[:16]
        self.folder = (cache_dir() if cache is None else cache) / "tiles" / key

    def first(self) -> Address | None:
        """None: nothing is asked for before it is needed."""
        return None

    def addresses(self) -> Iterator[Address]:
        """None: a server does not say which tiles it has."""
        return iter(())

    def parts(self) -> np.ndarray:
        """The area (1, 4); all of the web-mercator square where it is not known."""
        return np.array([self._area or (-85.0511287798066, -180.0, 85.0511287798066, 180.0)])

    def read(self, address: Address) -> bytes | None:
        """The file of the tile at zoom, x, y, from the cache if it is there; None where the server has none."""
        kept = self.folder.joinpath(*map(str, address))
        # Two threads that need the same tile ask for it once.
        with _asking[hash(address) % len(_asking)]:
            if kept.is_file():
                return kept.read_bytes() or None
            data = self._fetch(address)
            with atomic_file(kept) as temporary:
                # An empty file stands for a hole.
                temporary.write_bytes(data or b"")
            return data

    def url(self, address: Address) -> str:
        """The URL of the tile at zoom, x, y."""
        zoom, x, y = address
        south = 2**zoom - 1 - y
        values = {"z": zoom, "x": x, "y": south if self.tms else y, "-y": south, "s": "abc"[(x + y) % 3]}
        return re.sub(r"{([^}]*)}", lambda match: str(values[match.group(1)]), self.template)

    def _fetch(self, address: Address) -> bytes | None:
        url = self.url(address)
        pause = self._first_pause_s
        for attempt in range(ATTEMPTS):
            self._pace.wait()
            try:
                return _request(url)
            except _Failed as failed:
                after = pause if failed.after is None else failed.after
                if attempt == ATTEMPTS - 1 or after > LONGEST_PAUSE_S:
                    why = f"{failed}" if after <= LONGEST_PAUSE_S else f"{failed}, come back in {after:g} s"
                    mend = "give the same call again later: what was done is kept"
                    raise UnfetchedError(f"cannot be fetched ({why})", path=shown_url(url), mend=mend) from failed
                self._pace.hold(after)
                pause *= 2
        raise AssertionError("unreachable")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a server that sends elsewhere, a few times and within the web only."""

    max_redirections, max_repeats = MOST_REDIRECTS, 1

    def redirect_request(self, *words: Any) -> urllib.request.Request | None:
        """The request that follows; none out of the web, which makes the answer an error."""
        return super().redirect_request(*words) if urlsplit(words[-1]).scheme in SCHEMES else None


def _opener() -> urllib.request.OpenerDirector:
    # Not urllib's usual one, which would open files and FTP as well.
    opener = urllib.request.OpenerDirector()
    kinds = [urllib.request.ProxyHandler, urllib.request.HTTPHandler, urllib.request.HTTPSHandler]
    kinds += [urllib.request.HTTPDefaultErrorHandler, urllib.request.HTTPErrorProcessor, _Redirects]
    for kind in kinds:
        opener.add_handler(kind())
    return opener


def _asked(url: str) -> urllib.request.Request:
    """The request for a URL; a name and a password before the host go into a header, for that host only."""
    parts = urlsplit(url)
    login, _, host = parts.netloc.rpartition("@")
    path, query = quote(parts.path, string.punctuation), quote(parts.query, string.punctuation)
    plain = urlunsplit((parts.scheme, host, path, query, ""))
    request = urllib.request.Request(plain, headers={"User-Agent": USER_AGENT, "Accept": "image/*"})
    if login:
        request.add_unredirected_header("Authorization", f"Basic {b64encode(unquote(login).encode()).decode()}")
    return request


def _request(url: str) -> bytes | None:
    """A tile's file, checked to be a whole picture; None for a hole. Raises _Failed where trying again may help."""
    try:
        with _opener().open(_asked(url), timeout=TIMEOUT_S) as answer:
            if answer.status in HOLES:
                return None
            data = _body(answer, url)
    except urllib.error.HTTPError as error:
        with error:
            return _refused(error, url)
    except (http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise _Failed(str(reason) or type(reason).__name__) from error
    return _checked(data, url)


def _refused(error: urllib.error.HTTPError, url: str) -> None:
    """Nothing for a hole; else raises _Failed, or UnfetchedError where trying again is of no use."""
    if error.code in HOLES:
        return
    if 300 <= error.code < 400:
        fault = f"the server sends elsewhere (status {error.code}), too often or out of the web"
        raise UnfetchedError(fault, path=shown_url(url), mend="check the URL") from error
    reason = f"status {error.code} {error.reason}"
    if error.code in TRANSIENT:
        raise _Failed(reason, _retry_after(error.headers.get("Retry-After"))) from error
    mend = "check the key and the terms of the server" if error.code in (401, 402, 403) else "check the URL"
    raise UnfetchedError(f"the server refuses ({reason})", path=shown_url(url), mend=mend) from error


def _body(answer: http.client.HTTPResponse, url: str) -> bytes:
    """What the server sends, bounded in size and time."""
    data, until = bytearray(), time.monotonic() + LONGEST_BODY_S
    while piece := answer.read1(PIECE_BYTES):
        data += piece
        if len(data) > MOST_BYTES:
            raise UnfetchedError(f"sends more than {MOST_BYTES:,} bytes", path=shown_url(url), mend="check the URL")
        if time.monotonic() > until:
            raise TimeoutError(f"still sending after {LONGEST_BODY_S:g} s")
    return bytes(data)


def _checked(data: bytes, url: str) -> bytes:
    """The data of a whole picture of a map tile's size; no more than that is unpacked."""
    where = shown_url(url)
    if data:
        check_picture(data, where)
    try:
        size = encoded_size(data, where)
    except InputError as error:
        raise _Failed(error.fault) from error
    tile_side(size, where)
    try:
        decode_with_mask(data, where)
    except InputError as error:
        raise _Failed(error.fault) from error
    return data


def _retry_after(text: str | None, now: Callable[[], float] = time.time) -> float | None:
    """Seconds that a `Retry-After` header asks for, in seconds or as a date; None where there is none."""
    if not text:
        return None
    if text.strip().isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now())
    except ValueError:
        return None
