"""Where a cache lies: a folder of this machine, or a data set on the Hub that is downloaded first."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from huggingface_hub.utils import tqdm

from hf_distill.cache.format import MANIFEST
from hf_distill.teachers.hub_download import DOWNLOADING, Silent
from hf_distill.teachers.hub_repository import is_passing
from hf_distill.teachers.retry import Backoff, HubUnavailable, retried
from hf_distill.teachers.revision_spec import MAIN, parse_spec


class HubCache(NamedTuple):
    """A cache on the Hub: data set and revision."""

    repo_id: str
    revision: str


def cache_folder(
    cache: str | Path,
    *,
    token: str | None = None,
    cache_dir: str | None = None,
    show_progress: bool = True,
    backoff: Backoff = DOWNLOADING,
) -> Path:
    """Return the folder of a cache; one on the Hub is downloaded where the Hub cache lacks it.

    Args:
        cache: A folder, or "org/name", "org/name@revision" of a data set.
        token: For private repositories; appears in no message.
        cache_dir: The Hub cache to use; None means the Hub client's own.
        show_progress: Draw the client's bars.
        backoff: How often to try a download.

    Raises:
        ValueError: There is no such folder or data set, or it is not to be had offline.
        HubUnavailable: The download failed at every try.
    """
    place = cache_place(cache)
    if isinstance(place, Path):
        return place

    def one_try() -> Path:
        return _fetch(place, token=token, cache_dir=cache_dir, bars=tqdm if show_progress else Silent)

    return retried(one_try, what=f"the download of the cached targets {place.repo_id}", backoff=backoff)


def cache_place(cache: str | Path) -> Path | HubCache:
    """Return the folder or the data set that a text names.

    Raises:
        ValueError: It can be neither.
    """
    folder = Path(cache).expanduser()
    if folder.is_dir():
        return folder
    if isinstance(cache, str) and not cache.startswith((".", "/", "~")):
        specs = parse_spec(cache)
        if len(specs) == 1 and "/" in specs[0].source and not specs[0].subfolders and len(specs[0].revisions) <= 1:
            return HubCache(specs[0].source, *(specs[0].revisions or (MAIN,)))
    raise ValueError(
        f"{cache} is neither a folder with cached targets nor a data set such as org/name; write them with "
        "`hf-distill cache RECIPE`"
    )


def _fetch(place: HubCache, *, token: str | None, cache_dir: str | None, bars: type[tqdm]) -> Path:
    """Let the client download what the cache lacks; its errors come out as ours, without its texts."""
    name = f"{place.repo_id}@{place.revision}"
    try:
        found = snapshot_download(
            place.repo_id,
            repo_type="dataset",
            revision=place.revision,
            token=token,
            cache_dir=cache_dir,
            tqdm_class=bars,
        )
    except HfHubHTTPError as error:
        raise _refused(name, error) from None
    except LocalEntryNotFoundError as error:
        cause = error.__cause__
        if isinstance(cause, HfHubHTTPError):
            raise _refused(name, cause) from None
        if isinstance(cause, OfflineModeIsEnabled):
            raise ValueError(f"{name} is not in the Hub cache and offline mode is on; download it online") from None
        raise HubUnavailable(f"{name} is not in the Hub cache and the Hub cannot be reached") from None
    except HTTPError as error:
        raise HubUnavailable(
            f"the download of {name} broke off ({type(error).__name__}); the next start goes on with it"
        ) from None
    folder = Path(found)
    if not (folder / MANIFEST).is_file():
        raise ValueError(f"the data set {name} holds no cached targets: it has no {MANIFEST}, or not yet")
    return folder


def _refused(name: str, error: HfHubHTTPError) -> HubUnavailable | ValueError:
    """Return the error for a refusing answer of the Hub, whose own text might quote the request."""
    status, wait = error.response.status_code, error.response.headers.get("Retry-After", "")
    if is_passing(status):
        return HubUnavailable(
            f"data set {name}: the Hub answered {status}",
            reason=f"it answered {status}",
            answered=True,
            retry_after=float(wait) if wait.isdigit() else None,
        )
    return ValueError(
        f"data set {name}: the Hub answered {status}. There is no folder of this name either. The data set does not "
        "exist, is private or gated, or the token is not valid for it; log in with `hf auth login`"
    )
