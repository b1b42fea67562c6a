"""
Make and explain tokens: `python -m rt_twisted.token --config FILE --sub mia --for 1h`.
"""

import sys

from rt_twisted.tap.token_command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
