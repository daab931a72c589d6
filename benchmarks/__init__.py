"""Programs that measure speed and memory; README.md lists them, `make bench` runs most of them."""
