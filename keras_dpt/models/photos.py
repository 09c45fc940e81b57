"""A list of photos that are all known to be good, of which few are in memory at once."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

from keras_dpt.errors import ImageError
from keras_dpt.images.reading import read_image

# Bytes of decoded photos that are kept from the check until their turn; others are read twice.
HELD = 512 * 1024**2
# Pixels of the photos that are predicted together where there is no end of photos.
GROUP = 60_000_000


class Photos:
    """Photos read once, to find out their sizes and that they can be read.

    Args:
        images: list of what `read_image` takes.

    Attributes:
        sizes: `(height, width)` of each.

    Raises: ImageError: one cannot be read.
    """

    def __init__(self, images):
        self._images, self._held, self.sizes = images, {}, []
        free = HELD
        for i, image in enumerate(images):
            photo = read_image(image)
            self.sizes.append(photo.shape[:2])
            if photo.nbytes <= free:
                self._held[i] = photo
                free -= photo.nbytes

    def __len__(self):
        return len(self._images)

    def __iter__(self):
        return map(self.take, range(len(self)))

    def take(self, index):
        """The pixels of a photo, `(H, W, 3)`, which are not kept any longer.

        Raises: ImageError: its file is not any more what it was.
        """
        photo = self._held.pop(index, None)
        if photo is None:
            photo = read_image(self._images[index])
            if photo.shape[:2] != self.sizes[index]:
                raise ImageError(
                    f"{self._images[index]} was replaced while other images were predicted: its "
                    f"size is {photo.shape[:2]} instead of {self.sizes[index]}. Predict it again."
                )
        return photo


def ahead(executor, work, items, count):
    """Results of `work(item)` in order, of which `count` more are under way."""
    waiting = deque()
    for item in items:
        waiting.append(executor.submit(work, item))
        if len(waiting) > count:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def read_in_groups(images, count, read=read_image):
    """Photos of an iterable of any length, decoded a few ahead by `read`, in another thread.

    Yields: lists of pairs of an image and its pixels, or the `ImageError` that it raised; at most
        `count` pairs and, unless a single photo is larger, at most `GROUP` pixels.
    """

    def read_or_explain(image):
        try:
            return image, read(image)
        except ImageError as error:
            return image, error

    group, pixels = [], 0
    with ThreadPoolExecutor(1) as reader:
        for image, photo in ahead(reader, read_or_explain, images, 2):
            size = 0 if isinstance(photo, ImageError) else photo.shape[0] * photo.shape[1]
            if group and (len(group) == count or pixels + size > GROUP):
                yield group
                group, pixels = [], 0
            group.append((image, photo))
            pixels += size
            del photo  # else it is held beside the group until the next one is read
    if group:
        yield group
