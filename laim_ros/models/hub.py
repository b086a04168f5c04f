"""A model repository on the hub: small files at once, shards when needed, headers and single tensors as ranges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfFileSystem, constants, hf_hub_download, snapshot_download
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from laim_ros.models.errors import ModelError

_SMALL_FILES = ("*.json", "*.txt", "*.model")
_BLOCK_BYTES = 2**20


class HubRepository:
    """One model repository.

    Attributes:
        name: `owner/name`.
        revision: the commit, once `fetch_small_files` has found it, so that all files belong together.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.revision: str | None = None
        self._files: HfFileSystem | None = None
        self._opened: dict[str, Any] = {}

    def fetch_small_files(self) -> Path:
        """Configuration, index and tokenizer, and the folder they lie in; without a network, what was fetched before.

        Raises:
            ModelError: no such repository, no access, or no answer and nothing here.
        """
        with self._explained():
            folder = Path(snapshot_download(self.name, allow_patterns=list(_SMALL_FILES)))
        self.revision = folder.name
        return folder

    def fetch(self, filename: str) -> Path:
        """One whole file, from disk where it was fetched before."""
        with self._explained():
            return Path(hf_hub_download(self.name, filename, revision=self.revision))

    def read(self, filename: str, begin: int, end: int) -> bytes:
        """Some bytes of a file; only these (and what fits into the same block) cross the network."""
        with self._explained():
            if self._files is None:
                self._files = HfFileSystem(skip_instance_cache=True)
            if filename not in self._opened:
                path = f"{self.name}@{self.revision}/{filename}"
                self._opened[filename] = self._files.open(path, "rb", block_size=_BLOCK_BYTES)
            self._opened[filename].seek(begin)
            return self._opened[filename].read(end - begin)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except GatedRepoError as error:
            raise ModelError(
                f"model '{self.name}' needs permission: accept its terms on its page, then `hf auth login`"
            ) from error
        except RepositoryNotFoundError as error:
            raise ModelError(f"model '{self.name}' is neither a folder here nor on the hub{_shipped()}") from error
        except (
            Exception
        ) as error:  # network, cache and disk each raise kinds of their own, which change between versions
            raise ModelError(
                f"model '{self.name}' is no folder here, and the hub ({constants.ENDPOINT}) does not give it: "
                f"{_first_line(error)}; check the network, or copy the checkpoint here and give its folder{_shipped()}"
            ) from error


def _shipped() -> str:
    from laim_ros.models.source import shipped_listing  # source imports this file

    return f"; shipped models: {shipped_listing()}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
