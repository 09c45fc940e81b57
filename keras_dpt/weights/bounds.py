"""Limits on the size and duration of downloads."""

import inspect
import threading
import time
from contextlib import suppress
from pathlib import Path

from keras_dpt.errors import WeightsError

SLOWEST = 1000  # bytes a second, on average over PATIENCE
PATIENCE = 60.0  # seconds
# The hub's client reports pieces of 10 MB only: at 11 kB a second one takes this long.
HUB_PATIENCE = 900.0
_MORE = 16 * 1024**2  # bytes beyond what was announced, before the hub's client would notice


class Pace:
    """Stops a download that has become too slow.

    Args: address: for the message.
    """

    def __init__(self, address):
        self.address = address
        self._since, self._count = time.monotonic(), 0

    def came(self, size):
        """Count bytes received. Raises: WeightsError: too few recently."""
        self._count += size
        passed = time.monotonic() - self._since
        if passed < PATIENCE:
            return
        if self._count < SLOWEST * passed:
            raise WeightsError(
                f"{self.address} sends {self._count / passed:.3g} bytes a second, which is too "
                "slow. The part received is kept: try again later, or fetch the file another way."
            )
        self._since, self._count = time.monotonic(), 0


class HubBounds:
    """Limits a download of `huggingface_hub`, which itself only stops when no data arrive.

    Args:
        address: for messages.
        max_size: bytes; more are rejected, as is more than the hub announces.
        folder: where the hub's client keeps unfinished downloads.
    """

    def __init__(self, address, max_size, folder):
        self.address, self.max_size, self.folder = address, max_size, Path(folder)
        self._last, self._is_given_up = time.monotonic(), False

    def download(self, function, *arguments, **options):
        """The result of `hf_hub_download`. Raises: WeightsError: too much, or too slow."""
        if "tqdm_class" in inspect.signature(function).parameters:  # older versions have none
            options["tqdm_class"] = self._bar()
        result = {}

        def run():
            try:
                result["value"] = function(*arguments, **options)
            except BaseException as error:
                result["error"] = error

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                thread.join(0.05)
                if time.monotonic() - self._last > HUB_PATIENCE:
                    raise WeightsError(
                        f"{self.address} is too slow: nothing was received for "
                        f"{HUB_PATIENCE:.0f} s. Try again later, or fetch the file by other means."
                    )
        finally:
            self._is_given_up = True  # whatever ends the waiting
        if "error" in result:
            raise result["error"]
        return result["value"]

    def _bar(self):
        from huggingface_hub.utils import tqdm

        bounds = self

        class Bar(tqdm):
            """A progress bar that counts, shown or not."""

            def __init__(self, *arguments, **options):
                total = options.get("total")
                self.came = options.get("initial") or 0
                self.most = min(bounds.max_size, (total or bounds.max_size) + _MORE)
                super().__init__(*arguments, **options)
                if total is not None and total > bounds.max_size:
                    raise bounds._too_large(0)

            def update(self, n=1):
                self.came += n
                bounds._last = time.monotonic()
                if bounds._is_given_up:
                    raise WeightsError(f"The download of {bounds.address} was stopped.")
                if self.came > self.most:
                    raise bounds._too_large(self.came - n)
                return super().update(n)

        return Bar

    def _too_large(self, kept):
        """The error; the bytes that were kept are deleted."""
        if kept:
            for file in self.folder.glob("*.incomplete"):
                with suppress(OSError):
                    if file.stat().st_size >= kept:
                        file.unlink()
        return WeightsError(
            f"{self.address} sends more than it should: more than it announced, or than "
            f"{self.max_size / 1e6:,.0f} MB. It was not kept."
        )
