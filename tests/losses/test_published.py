"""The losses against the formulas of published PyTorch code, in its own vectorised form.

MiDaS's loss fits scale and shift by the normal equations and sums over masks; BTS and AdaBins take
the root of a difference of squares. Written anew here, in float64, with autograd's gradients.
"""

import numpy as np
import pytest
from contracts import differentiable

from keras_dpt.losses import ScaleInvariantLogLoss, ScaleShiftInvariantLoss

torch = pytest.importorskip("torch")

SHAPE = (2, 24, 32)


def sample(share=0.7):
    """Target with unknown pixels of value 0, and prediction, `(B, H, W)` float32."""
    rng = np.random.default_rng(0)
    target = rng.uniform(0.2, 3, SHAPE) * (rng.uniform(size=SHAPE) < share)
    return target.astype("float32"), rng.uniform(0.1, 2, SHAPE).astype("float32")


def midas(prediction, target, alpha=0.5, scales=4):
    """Scale- and shift-invariant mean squared error + alpha * gradient term, image by image."""
    mask = (target > 0).to(prediction.dtype)
    a_00 = (mask * prediction**2).sum((1, 2))
    a_01 = (mask * prediction).sum((1, 2))
    a_11 = mask.sum((1, 2))
    b_0 = (mask * prediction * target).sum((1, 2))
    b_1 = (mask * target).sum((1, 2))
    determinant = a_00 * a_11 - a_01**2
    scale = (a_11 * b_0 - a_01 * b_1) / determinant
    shift = (a_00 * b_1 - a_01 * b_0) / determinant
    aligned = scale[:, None, None] * prediction + shift[:, None, None]
    loss = (mask * (aligned - target) ** 2).sum((1, 2)) / (2 * a_11)
    for step in (2**k for k in range(scales)):
        m = mask[:, ::step, ::step]
        difference = m * (aligned - target)[:, ::step, ::step]
        x = (m[:, :, 1:] * m[:, :, :-1] * difference.diff(dim=2).abs()).sum((1, 2))
        y = (m[:, 1:] * m[:, :-1] * difference.diff(dim=1).abs()).sum((1, 2))
        loss = loss + alpha * (x + y) / m.sum((1, 2))
    return loss.mean()


def bts(prediction, target):
    """Root of log error with variance focus 0.85, times ten; of one image."""
    d = torch.log(prediction[target > 0]) - torch.log(target[target > 0])
    return 10 * torch.sqrt((d**2).mean() - 0.85 * d.mean() ** 2)


def check(loss, published, target, prediction):
    """Values agree to 1e-5, gradients to 1e-5 of the largest."""
    value, gradient = differentiable(lambda x, y: loss(y, x))(prediction, target)
    x = torch.tensor(prediction, dtype=torch.float64, requires_grad=True)
    expected = published(x, torch.tensor(target, dtype=torch.float64))
    expected.backward()
    assert value == pytest.approx(expected.item(), rel=1e-5)
    expected = x.grad.numpy()
    np.testing.assert_allclose(gradient, expected, atol=1e-5 * np.abs(expected).max())


def test_midas():
    loss = ScaleShiftInvariantLoss(alignment="least_squares", trim=0.0)
    check(loss, midas, *sample())


def test_bts():
    target, prediction = sample()
    loss = ScaleInvariantLogLoss(0.85, root=True, weight=10.0)
    check(loss, bts, target[:1], prediction[:1])
