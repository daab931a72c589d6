import pytest

from tests.helpers.triton_kernels import interpreted_kernels


@pytest.fixture(scope="module")
def interpreter():
    """Kernels of a module's tests run on the CPU."""
    with interpreted_kernels():
        yield
