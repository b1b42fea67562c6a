"""
One daemon in several processes: a crew of workers on the same ports.

The parent binds, starts workers, puts others in the place of those that end, and adds
up what they count. It serves nobody itself.
"""
