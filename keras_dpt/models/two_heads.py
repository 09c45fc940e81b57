"""What `DPTSegmentation` does in training alone: a second head, and weights of classes."""

import threading
from contextlib import contextmanager

from keras import ops

from keras_dpt.models.label_checks import class_table
from keras_dpt.ops.labels import class_ids, of_known_rank, per_pixel
from keras_dpt.ops.resize import resize_like

# `model`: which one is taking a training step of its own in this thread.
_training = threading.local()


class TrainsTwoHeads:
    """Mixin of a task with `head`, `auxiliary_head` and `auxiliary_weight`.

    In training the loss of the auxiliary head is added; elsewhere that head is not run.
    """

    def call(self, inputs, training=None, **kwargs):
        if training and self.auxiliary and getattr(_training, "model", None) is self:
            return self.both_logits(inputs, training=True)
        logits = super().call(inputs, training=training, **kwargs)
        if training and self.auxiliary:
            # In another model's training the auxiliary head gets gradients of 0, which change
            # nothing, instead of none, of which Keras would warn.
            weights = self.auxiliary_head.trainable_variables
            logits += ops.cast(
                0.0 * sum(ops.sum(ops.cast(w, "float32")) for w in weights), "float32"
            )
        return logits

    def both_logits(self, inputs, training=True):
        """The predictions of both heads, for your own training loop.

        Returns: dict of "logits", `(B, H, W, num_classes)`, and "auxiliary",
            `(B, H / 4, W / 4, num_classes)`, as `compute_loss` takes it for `y_pred`.
        """
        pyramid = self.backbone(inputs, training=training)
        return {
            "logits": self.head(pyramid["P1"], size_like=inputs, training=training),
            "auxiliary": self.auxiliary_head(pyramid["P2"], training=training),
        }

    def train_step(self, *args, **kwargs):
        outer, _training.model = getattr(_training, "model", None), self
        try:
            return super().train_step(*args, **kwargs)
        finally:
            _training.model = outer

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        y = of_known_rank(y)
        if training and self._class_weights is not None:
            ids = class_ids(y, self.ignore_index)
            weights = ops.take(
                ops.convert_to_tensor(self._class_weights), ops.clip(ids, 0, self.num_classes - 1)
            )
            if sample_weight is not None:
                weights = weights * per_pixel(sample_weight, ids)
            sample_weight = weights
        if not isinstance(y_pred, dict):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        loss = super().compute_loss(x, y, y_pred["logits"], sample_weight, training)
        auxiliary = resize_like(y_pred["auxiliary"], y)
        auxiliary_loss = super().compute_loss(x, y, auxiliary, sample_weight, training)
        for extra in self.losses:  # regularisation, which both have: once is enough
            auxiliary_loss = auxiliary_loss - ops.sum(extra)
        return loss + self.auxiliary_weight * auxiliary_loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        y_pred = y_pred["logits"] if isinstance(y_pred, dict) else y_pred
        return super().compute_metrics(x, y, y_pred, sample_weight)

    _class_weights = None  # of the training that goes on

    @contextmanager
    def weighing_classes(self, class_weight):
        """In this context a pixel's loss is multiplied by its class's weight, in training."""
        if class_weight is None:
            yield
            return
        self._class_weights = class_table(class_weight, self.num_classes)
        self.train_function = None  # the weights are part of what is compiled
        try:
            yield
        finally:
            self._class_weights = None
            self.train_function = None
