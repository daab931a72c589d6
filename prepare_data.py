"""From raw videos to the shards that train.py reads: `python prepare_data.py folders --raw DIR
--out DIR`.
"""

import sys

from aia_jax.errors import exit_status
from aia_jax.prepare.command import main

if __name__ == "__main__":
    sys.exit(exit_status(main))
