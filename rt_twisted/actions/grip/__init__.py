"""
GRIP: responses that an application hands over to be held, and what it publishes to them.
"""
