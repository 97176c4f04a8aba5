"""Pooling by how channels vary together, not by their means alone: fine-grained classes differ in that."""

from keras import ops

ITERATIONS = 5  # of Newton and Schulz, as Li et al. take
TINY = 1e-12


def covariance_pooling(maps):
    """The square root of the channels' covariance over all places, as ``halves`` has it, scaled to length √channels.

    Of maps (batch, height, width, channels) of any floating-point type, tensors or those of a network that is being
    built; float32 (batch, ``halves_length(channels)``). An image whose maps do not vary has zeros.

    The square root is that of the matrix, found by iterations of Newton and Schulz. It evens out the covariance's
    eigenvalues, of which a few would otherwise say everything. The iterations run on the places' inner products where
    places are fewer than channels: if X has a row a place, √(XᵀX) = Xᵀ·(XXᵀ)^(-1/2)·X, with a pseudo-inverse.

    Source: Li et al. 2018, "Towards Faster Training of Global Covariance Pooling Networks by Iterative Matrix Square
    Root Normalization", arXiv:1712.01034; Lin and Maji 2017, "Improved Bilinear Pooling with CNNs", arXiv:1707.06772.
    """
    _, height, width, channels = maps.shape
    x = ops.reshape(ops.cast(maps, "float32"), (-1, height * width, channels))
    x = x - ops.mean(x, axis=1, keepdims=True)
    x = x / ops.sqrt(ops.sum(ops.square(x), axis=(1, 2), keepdims=True) + TINY)  # so that the covariance has trace 1
    transposed = ops.transpose(x, (0, 2, 1))
    if height * width < channels:
        root = ops.matmul(transposed, _newton_schulz(ops.matmul(x, transposed), x))
    else:
        covariance = ops.matmul(transposed, x)
        root = _newton_schulz(covariance, covariance)
    vectors = halves(root)
    return vectors * (channels**0.5 / ops.sqrt(ops.sum(ops.square(vectors), axis=1, keepdims=True) + TINY))


def _newton_schulz(matrix, start):
    """(2/3)^ITERATIONS times an approximation of matrix^(-1/2)·start.

    ``matrix`` (batch, n, n) is symmetric and positive semi-definite, with a trace of 1, or 0;
    ``start`` is (batch, n, columns), and has nothing in the directions whose eigenvalue is 0.
    """
    # Li et al. have Y ← Y·(3I - Z·Y)/2 and Z ← (3I - Z·Y)·Z/2. All are polynomials of the matrix, so Z is needed in
    # Z·Y and in Z·start alone. With B = Z·Y/3 these become B ← B·(3/2·(I - B))² and, but for a factor, start - B·start.
    b = matrix / 3
    for iteration in range(ITERATIONS):
        start = start - ops.matmul(b, start)
        if iteration < ITERATIONS - 1:
            once = b - ops.matmul(b, b)
            b = 2.25 * (once - ops.matmul(once, b))
    return start


def halves(matrices):
    """Symmetric matrices (batch, n, n) as vectors (batch, n · (n // 2 + 1)) with the same inner products.

    Of each row the diagonal's entry and the n // 2 to its right, which go on at the row's start. So two entries that
    mirror each other become one, times √2; only those n / 2 from the diagonal are both kept, where n is even.
    """
    size = matrices.shape[-1]
    half = size // 2
    # Parts are taken by ops.split, whose gradient TensorFlow computes several times as fast as a slice's.
    around = ops.concatenate([matrices, ops.split(matrices, [half], axis=2)[0]], axis=2)
    flat = ops.pad(ops.reshape(around, (-1, size * (size + half))), [[0, 0], [0, size]])
    moved = ops.reshape(flat, (-1, size, size + half + 1))  # row i, i entries to the left
    kept, _ = ops.split(moved, [half + 1], axis=2)
    weights = [1.0] + [2**0.5] * ((size - 1) // 2) + [1.0] * (size % 2 == 0)
    return ops.reshape(kept * ops.convert_to_tensor(weights), (-1, halves_length(size)))


def halves_length(size: int) -> int:
    """How many entries ``halves`` leaves of a matrix (size, size)."""
    return size * (size // 2 + 1)


def second_order(fourth, fifth):
    """ResNet50's second-order features float32 (batch, features) of its maps of stage 4 and of stage 5.

    Each is pooled by ``covariance_pooling``. Stage 4 has four times the places, and weighs twice as much.

    Args:
        fourth: (batch, height / 16, width / 16, channels), as ``common.models.resnet50.projections`` makes them few.
        fifth: (batch, height / 32, width / 32, channels), in the same way.
    """
    return ops.concatenate([covariance_pooling(fourth), 0.5 * covariance_pooling(fifth)], axis=1)
