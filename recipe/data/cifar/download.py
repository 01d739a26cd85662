"""Downloading an official archive."""

from __future__ import annotations

import queue
import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from recipe.data.cifar.archive import Archive
from recipe.system.files import atomic_path

_CONNECT_SECONDS = 5.0  # from the name look-up to the first byte of the answer
_STALL_SECONDS = 30.0  # without a byte


class DownloadFailed(Exception):
    """A download failed. The message is a short reason."""


def download_archive(archive: Archive, target: Path) -> None:
    """Download `archive` to the file `target`, which is made only if the checksum is right.

    Shows a progress bar if standard error is a terminal.

    Raises:
      DownloadFailed: for whatever reason; where there is no network, within about five seconds.
    """
    import requests

    host = urlsplit(archive.url).hostname
    try:
        with _connect(archive.url) as response:
            if not response.ok:
                raise DownloadFailed(f"{host} answered {response.status_code} {response.reason}")
            with atomic_path(target) as temporary:
                _save(response, temporary, archive)
                if not archive.matches(temporary):
                    raise DownloadFailed(f"what {host} sent is not the file it should be")
    except requests.RequestException as error:
        raise DownloadFailed(f"the connection to {host} failed: {_root_cause(error)}") from error
    except OSError as error:
        raise DownloadFailed(str(error)) from error


def _root_cause(error: BaseException) -> BaseException:
    """What started the chain, such as "Connection refused"; requests' own messages are very long."""
    while error.__context__ is not None:
        error = error.__context__
    return error


def _save(response: Any, path: Path, archive: Archive) -> None:
    with (
        path.open("wb") as file,
        tqdm(total=archive.size, desc=archive.file, unit="B", unit_scale=True, disable=None) as progress,
    ):
        for chunk in response.iter_content(1 << 20):
            file.write(chunk)
            progress.update(len(chunk))


def _connect(url: str) -> Any:
    """Return the `requests.Response` to a GET of `url`, its content still to be read.

    It runs in a thread because a name look-up may take for ever, and takes no time limit.
    """
    import requests

    answer: queue.Queue[Any] = queue.Queue()

    def get() -> None:
        try:
            answer.put(requests.get(url, stream=True, timeout=(_CONNECT_SECONDS, _STALL_SECONDS)))
        except Exception as error:
            answer.put(error)

    threading.Thread(target=get, daemon=True).start()
    try:
        result = answer.get(timeout=_CONNECT_SECONDS)
    except queue.Empty:
        raise DownloadFailed(
            f"{urlsplit(url).hostname} did not answer within {_CONNECT_SECONDS:g} s"
        ) from None
    if isinstance(result, Exception):
        raise result
    return result
