"""Loading weights into a network needs jax, flax and numpy, and nothing else."""

import subprocess
import sys
import textwrap


def test_core_needs_jax_flax_and_numpy_only():
    code = """
        import importlib.abc, sys
        import numpy, jax, jax.numpy, flax, flax.linen, flax.traverse_util

        # What these three bring along stays importable, beside what JAX imports late.
        allowed = {name.partition(".")[0] for name in sys.modules} | set(sys.stdlib_module_names)
        allowed |= {"aia_jax", "jax", "jaxlib", "flax", "numpy", "ml_dtypes", "scipy", "opt_einsum"}
        blocked = {"jaxtyping", "beartype", "ml_collections", "grain", "torch", "safetensors"}
        blocked |= {"cv2", "av", "tensorboardX", "matplotlib"}
        assert not blocked & allowed, blocked & allowed

        class Blocker(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] not in allowed:
                    raise ImportError(f"{name} is blocked")

        sys.meta_path.insert(0, Blocker())
        import aia_jax, aia_jax.models, aia_jax.ops, aia_jax.weights, aia_jax.complexity
        model = aia_jax.create_model(
            3, width=4, stage_sizes=(1,), attention="C", temporal="tsm", fold_div=4
        )
        shapes = jax.eval_shape(model.init, jax.random.key(0), jax.numpy.zeros((1, 2, 8, 8, 3)))
        variables = jax.tree.map(lambda leaf: numpy.zeros(leaf.shape, "f4"), shapes)
        aia_jax.complexity.count(model, (2, 8, 8, 3))
        aia_jax.weights.load_own(variables, variables, model)
        try:
            aia_jax.weights.from_torch({}, model, (2, 8, 8, 3))
        except aia_jax.weights.WeightsError:
            print("done")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True
    )
    assert result.stdout == "done\n", result.stderr
