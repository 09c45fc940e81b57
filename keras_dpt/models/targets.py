"""What targets look like: whether they are what the model is meant to learn. NumPy only."""

import numpy as np

# In metres half of the pixels are hardly nearer or farther than this.
_NEAR, _FAR = 0.5, 300.0
# So much, in standard deviations, the bottom of images differs from their top where it is nearer.
_SLOPE = 0.2
# So many batches are enough to judge by, where classes occur at all.
_ENOUGH = 20


class LabelsSeen:
    """Which classes occur in the labels of a training set.

    Args:
        class_names: one name per class.
        ignore_index: label of pixels whose class is unknown.
    """

    def __init__(self, class_names, ignore_index):
        self.class_names = list(class_names)
        self.ignore_index = ignore_index
        self.seen = np.zeros(len(self.class_names), bool)
        self.has_unknown = False
        self.batches = 0

    def add(self, labels):
        """Count a label map, or a batch of them: ids, or one-hot with more than one channel."""
        self.batches += 1
        if self.seen.all():
            return
        labels = np.asarray(labels)
        if labels.ndim == 4 and labels.shape[-1] > 1:
            if labels.shape[-1] == len(self.seen):
                self.seen |= labels.any(axis=(0, 1, 2))
            return
        ids = np.unique(labels)
        self.has_unknown |= bool((ids == self.ignore_index).any())
        self.seen[ids[(ids >= 0) & (ids < len(self.seen))].astype(int)] = True

    def message(self, whole=True):
        """What is probably wrong, or `None`; `whole`: all labels were added, not the first few."""
        missing = np.flatnonzero(~self.seen)
        if not self.batches or not len(missing) or len(self.seen) < 2:
            return None
        classes = ", ".join(f"{i} ({self.class_names[i]})" for i in missing[:5])
        classes += f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        if self.seen[0] and self.seen.sum() == 1 and self.has_unknown:
            other = self.ignore_index
            return (
                f"the labels hold only 0 and {other}, and {other} means unknown (ignore_index): "
                f"the model would learn to predict {self.class_names[0]!r} everywhere. If {other} "
                f"marks an object, turn it into its class id, as in `(mask == {other}).astype("
                '"uint8")`.'
            )
        if whole:
            return (
                f"no pixel is labelled {classes}, so the model learns never to answer that. Check "
                "the class ids, or leave the classes out."
            )
        return None

    def early_message(self):
        """`message`, as soon as there is enough to judge by."""
        return self.message(whole=False) if self.batches >= _ENOUGH else None


class DepthsSeen:
    """Whether depth targets look like what a model learns: metres, or inverse depth.

    Judged by the first images only. Metres and inverse depth are told apart by their size, and by
    what is nearer, the bottom of images in nearly all of them.

    Args:
        is_metric: whether the model learns metres.
    """

    def __init__(self, is_metric):
        self.is_metric = is_metric
        self.found = None
        self.is_done = False

    def add(self, depth):
        """Look at a batch `(B, H, W)` or `(B, H, W, 1)`, if it is the first."""
        if not self.is_done:
            self.is_done = True
            self.found = self._judge(np.asarray(depth[:16]))

    def message(self, whole=True):
        """What is probably wrong, or `None`."""
        return self.found

    early_message = message

    def _judge(self, depth):
        if depth.ndim not in (3, 4) or depth.size != np.prod(depth.shape[:3]):
            return None  # refused elsewhere
        depth = depth.astype("float64").reshape(depth.shape[:3])
        valid = np.isfinite(depth) & (depth > 0)
        if not valid.any():
            return None
        median, highest = np.median(depth[valid]), depth[valid].max()
        rises = self._rises(depth, valid)
        if self.is_metric:
            if median > _FAR:
                return (
                    f"the targets' median is {median:.4g}, but the model learns metres. Divide "
                    "millimetres by 1000."
                )
            if median < _NEAR and not rises < -_SLOPE:
                return (
                    f"the targets' median is {median:.4g}, but the model learns metres, and these "
                    "look like inverse depth. Give metres: `1 / inverse_depth`, and 0 where "
                    "unknown. If they are metres, ignore this."
                )
        elif 1 < median < _FAR and highest <= _FAR and not rises > _SLOPE:
            return (
                f"the targets' median is {median:.4g}, and they look like metres, but the model "
                "learns inverse depth, which is larger where things are nearer. Give "
                "`1 / metres`, and 0 where unknown. If they are disparities, ignore this."
            )
        return None

    @staticmethod
    def _rises(depth, valid):
        """By how many standard deviations the lower third is above the upper one."""
        rows = depth.shape[1] // 3
        top, bottom = (depth[:, part][valid[:, part]] for part in (slice(rows), slice(-rows, None)))
        spread = depth[valid].std()
        if not rows or not top.size or not bottom.size or not spread:
            return 0.0
        return (bottom.mean() - top.mean()) / spread
