"""
The daemon side by side with nginx and nchan, and with a bare loop over send(2).

`python -m benchmarks` from the checkout; README.md describes what is measured, and how.
"""
