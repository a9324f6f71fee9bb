"""`zoo train` as a file to run: python train.py --config configs/default.py"""

import sys

from zoo.cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
