"""Files behind http and https, from a byte on where the server gives ranges. Status and reason are told in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ofasys_lite.errors import DataError

if TYPE_CHECKING:
    from http.client import HTTPResponse

#: Seconds that a server may be silent.
_PATIENCE = 30
_HELP = {
    401: "the server wants a login; fetch the file yourself and name its path",
    403: "the server does not give it to everybody; fetch the file yourself and name its path",
    404: "check the address: there is nothing",
    429: "too many requests; wait, or fetch the file yourself and name its path",
}


def is_web(path: str) -> bool:
    """True for an address of http or https."""
    return path.lower().startswith(("http://", "https://"))


@contextmanager
def fetching(url: str, start: int = 0) -> Iterator[HTTPResponse]:
    """The server's answer, redirects followed; DataError with status and reason, also for what breaks off within.

    Args:
        start: First byte that is asked for. A server that gives no ranges sends all: the status is 206 where it does.

    Raises:
        DataError: No connection, a status that is no success, silence, or an answer that breaks off.
    """
    import http.client  # brings ssl and more: only where something is fetched
    import urllib.error
    import urllib.request

    from ofasys_lite.version import __version__

    try:
        request = urllib.request.Request(url, headers={"User-Agent": f"ofasys_lite/{__version__}"})
        if start:
            request.add_header("Range", f"bytes={start}-")
        with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
            yield answer
    except DataError:
        raise
    except urllib.error.HTTPError as error:
        error.close()
        help = _HELP.get(error.code, "try again later" if error.code >= 500 else "check the address")
        reason = str(error.reason).strip().splitlines()[:1]  # a circle of redirections is told in many lines
        raise DataError(f"{url}: the server answers {error.code} {' '.join(reason)}".rstrip(), help=help) from None
    except urllib.error.URLError as error:
        why = getattr(error.reason, "strerror", None) or error.reason
        raise DataError(f"{url}: no connection ({why})", help="check the address and the network") from None
    except TimeoutError:
        raise DataError(f"{url}: the server is silent for {_PATIENCE} seconds", help="try again later") from None
    except (http.client.HTTPException, ConnectionError, ValueError) as error:
        said = str(error).strip() or type(error).__name__
        raise DataError(f"{url}: the answer cannot be read ({said})", help="check the address, try again") from None


def web_bytes(url: str) -> bytes:
    """The whole file behind an address; DataError as `fetching`."""
    with fetching(url) as answer:
        return answer.read()
