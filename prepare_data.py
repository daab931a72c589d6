"""From raw videos to the shards that train.py reads: `python prepare_data.py folders --raw DIR --out DIR`."""

import sys

from aia_jax.data.prepare.command import main
from aia_jax.errors import exit_status

if __name__ == "__main__":
    sys.exit(exit_status(main))
