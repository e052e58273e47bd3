"""Which images were pulled with whose credentials, so that a private image does not serve a pod that may not have it.

Source: the kubelet's image pull manager with its default policy: an image that this node did not pull (imported, made
here) is open to all; one that was pulled without credentials too; any other wants a login or Secret that it was pulled
with, or a pull of the pod's own. One file, written atomically; only fingerprints of logins are kept. Thread-safe.
"""

import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bridge.spec.keyring import Credentials

_log = logging.getLogger(__name__)


class PullRecords:
    """`images`: id -> {"open": bool, "logins": [fingerprint], "secrets": [uid]}; `begun`: names whose pull has not
    ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._images: dict[str, dict[str, Any]] = {}
        self._begun: list[str] = []
        self._load()

    def may_use(self, name: str, image_id: str, logins: Sequence[Credentials]) -> bool:
        """Whether a pod with these logins may run the image that is here; False: it must be pulled for this pod."""
        with self._lock:
            record = self._images.get(image_id)
            if record is None:
                return name not in self._begun
            if record["open"]:
                return True
            return any(
                login.fingerprint in record["logins"] or (login.uid and login.uid in record["secrets"])
                for login in logins
            )

    def begin(self, name: str) -> None:
        """A pull begins: if this process dies before it ends, the image that may be there then is trusted to nobody."""
        with self._lock:
            if name not in self._begun:
                self._begun.append(name)
                self._save()

    def end(self, name: str, image_id: str = "", login: Credentials | None = None) -> None:
        """The pull ended, with that image and login (None: without credentials), or with no image: it failed."""
        with self._lock:
            if name in self._begun:
                self._begun.remove(name)
            if image_id:
                record = self._images.setdefault(image_id, {"open": False, "logins": [], "secrets": []})
                if login is None:
                    record["open"] = True
                else:
                    record["logins"] = sorted({*record["logins"], login.fingerprint})
                    record["secrets"] = sorted({*record["secrets"], *filter(None, (login.uid,))})
            self._save()

    def keep_only(self, image_ids: Sequence[str]) -> None:
        """Forget images that are no longer on the guest."""
        with self._lock:
            gone = set(self._images) - set(image_ids)
            for image_id in gone:
                del self._images[image_id]
            if gone:
                self._save()

    def _load(self) -> None:
        try:
            stored = json.loads(self._path.read_bytes())
            self._images, self._begun = dict(stored["images"]), list(stored["begun"])
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError) as error:
            _log.warning("%s is broken (%s): images count as not pulled by this node", self._path, error)

    def _save(self) -> None:
        new = self._path.with_suffix(".new")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new.touch(mode=0o600)
        new.write_text(json.dumps({"images": self._images, "begun": self._begun}), encoding="utf-8")
        new.replace(self._path)
