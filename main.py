"""Train, evaluate and use a ResNet for CIFAR-10: python main.py --help. The program is recipe/cli.py."""

import sys

from recipe.cli import main

if __name__ == "__main__":
    sys.exit(main())
